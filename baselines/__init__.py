"""Explainers: external ones, LAP's own and the controls, behind one contract.

Every module of this folder registers its explainers when it is imported. `support` holds what they share.
"""

from __future__ import annotations

from baselines.base import Explainer, explainers
from baselines.support.guard import Cost
from interp_core.registry import import_modules

__all__ = ["Cost", "Explainer", "explainers"]

import_modules(__path__, __name__)
