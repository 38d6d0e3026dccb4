"""External explainers, LAP's own and the controls behind one contract; every module in this folder registers itself."""

from __future__ import annotations

from baselines.base import Explainer, explainers
from baselines.support.guard import Cost
from interp_core.registry import import_modules

__all__ = ["Cost", "Explainer", "explainers"]

import_modules(__path__, __name__)
