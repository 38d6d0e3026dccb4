"""Knowledge: what the designer says the evidence may or must be, as terms of the training loss.

Image-level labels are enough for all but Region, Forbid, Marked and Exchange. Formulas, units and sources stand with
the terms; a table of them is in `docs/knowledge.md`.
"""

from interp_core.knowledge.agreement import Agreement
from interp_core.knowledge.concept_maps import Absence, Area, Presence, Uniqueness
from interp_core.knowledge.exchange import Exchange
from interp_core.knowledge.masking import Necessity, Sufficiency
from interp_core.knowledge.observe import columns_of, seen
from interp_core.knowledge.order import Order
from interp_core.knowledge.regions import Forbid, Marked, Region, border, detectors
from interp_core.knowledge.removal import Removal
from interp_core.knowledge.term import Term, mean_over, mean_where, needed, surprise, terms, top_mean
from interp_core.knowledge.view import Grid, Part, View, view_of
from interp_core.registry import import_modules

__all__ = [
    "Absence", "Agreement", "Area", "Exchange", "Forbid", "Grid", "Marked", "Necessity", "Order", "Part", "Presence",
    "Region", "Removal", "Sufficiency", "Term", "Uniqueness", "View", "border", "columns_of", "detectors",
    "mean_over", "mean_where", "needed", "seen", "surprise", "terms", "top_mean", "view_of",
]  # fmt: skip

import_modules(__path__, __name__)
