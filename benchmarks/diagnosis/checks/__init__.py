"""Checks of a diagnosis, one a file; every module registers its check when it is imported."""

from __future__ import annotations

from interp_core.registry import import_modules

import_modules(__path__, __name__)
