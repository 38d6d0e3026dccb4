"""Rivals of LAP: heads and losses of other authors on the same backbone. Every module here registers its own."""

from __future__ import annotations

from benchmarks.rivals.base import Rival, RivalOptions, build, rivals
from interp_core.registry import import_modules

__all__ = ["Rival", "RivalOptions", "build", "rivals"]

import_modules(__path__, __name__)
