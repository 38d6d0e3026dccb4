"""Rivals of LAP: heads and losses of other authors on the same backbone; every module here registers itself."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from benchmarks.rivals.base import Rival, RivalOptions, build, rivals

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["Rival", "RivalOptions", "build", "rivals"]
