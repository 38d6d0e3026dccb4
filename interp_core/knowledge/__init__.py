"""Knowledge terms: training losses that say where the evidence for a class may or must be.

Region, Forbid, Marked and Exchange need masks; all other terms need image-level labels only. Formulas, units and
sources are in the docstrings of the terms, and in a table in `docs/knowledge.md`.
"""

from interp_core.knowledge.agreement import Agreement
from interp_core.knowledge.concept_maps import Absence, Area, Presence, Uniqueness
from interp_core.knowledge.exchange import Exchange
from interp_core.knowledge.masking import Necessity, Sufficiency
from interp_core.knowledge.observe import columns_of, observe
from interp_core.knowledge.order import Order
from interp_core.knowledge.own_order import OwnOrder
from interp_core.knowledge.regions import Forbid, Marked, Region, border, detectors
from interp_core.knowledge.removal import Removal
from interp_core.knowledge.term import Term, mean_over, mean_where, nll, required_regions, terms, top_mean
from interp_core.knowledge.view import ModelAccess, Subject, View, view_of
from interp_core.registry import import_modules

__all__ = [
    "Absence", "Agreement", "Area", "Exchange", "Forbid", "Marked", "ModelAccess", "Necessity", "Order", "OwnOrder",
    "Presence", "Region", "Removal", "Subject", "Sufficiency", "Term", "Uniqueness", "View", "border", "columns_of",
    "detectors", "mean_over", "mean_where", "nll", "observe", "required_regions", "terms", "top_mean", "view_of",
]  # fmt: skip

import_modules(__path__, __name__)
