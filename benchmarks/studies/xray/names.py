"""Names that the medical study and its page share."""

from __future__ import annotations

from pathlib import Path

OUTPUT = Path("results/method")
METRICS = ("relevance_mass_accuracy", "relevance_rank_accuracy", "pointing_game", "auc")
CONTROLS = ("random", "centre_gaussian", "edges", "box_prior", "mask")
# Positive images of each fold whose maps are kept for the figure: the first ones, whatever they show.
SHOWN = 1
TITLES = {
    "plain": "plain",
    "lap": "LAP, labels alone",
    "lap_boxes": "LAP, labels and 10 boxes",
    "plain_by_file": "plain, folds part files",
    "lap_refined": "LAP, labels alone, refined",
}
MAP_TITLES = {"box_prior": "Mean training box", "lap_boxes": "LAP, 10 boxes", "lap_refined": "LAP, refined"}
