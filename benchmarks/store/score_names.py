"""Names that scores are stored under: columns, special explainers, cost scores and transformed maps."""

from __future__ import annotations

from typing import Any

# Columns that identify what was scored.
KEYS = ["model", "explainer", "metric"]

# Scores that every explain cell has, and how they are described where the record lacks them.
COST: dict[str, dict[str, Any]] = {
    name: {"name": name, "title": title, "family": "cost", "direction": "lower", "ranked": False}
    for name, title in (("seconds", "Seconds per image"), ("forwards", "Forward passes per image"))
}

# The evidence mask as an explainer: the best that localisation can be.
MASK = "mask"
# Explainers that are shown but not ranked.
REFERENCES = (MASK,)
# The explainer that gives the chance level.
CHANCE = "random"

# The scores of the pair test, on images that begin with the name of the pair and this separator.
PAIR_TEST, PAIR_USER, PAIR_TWIN, PAIR_EMPTY = "pair_test", "pair_user", "pair_twin", "pair_empty"
PAIR_SEPARATOR = "/"

# Families of metrics that explainers are not ranked by.
UNRANKED_FAMILIES = ("check", "descriptor", "cost")

# Separates explainer and transform, as in "lap@smooth2".
TRANSFORM_SEPARATOR = "@"


def transform_of(explainer: str) -> tuple[str, str]:
    """Split a name such as "lap@smooth2" into explainer and transform; the transform is "" if there is none."""
    name, _, transform = explainer.partition(TRANSFORM_SEPARATOR)
    return name, transform
