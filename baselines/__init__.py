"""External explainers, LAP's own and the controls behind one contract; every module in this folder registers itself."""

from __future__ import annotations

import pkgutil
from importlib import import_module

from baselines.base import Explainer, explainers
from baselines.support.guard import Cost

for _module in pkgutil.iter_modules(__path__):
    import_module(f"{__name__}.{_module.name}")

__all__ = ["Cost", "Explainer", "explainers"]
