"""Locate the folder of real data and weights that lies beside some checkouts; tests that need it skip without it."""

from __future__ import annotations

import os
from pathlib import Path

ROOT = Path(__file__).parents[2]
SHARED = Path(os.environ.get("INTERP_BENCH_SHARED", ROOT.parent / "shared"))
