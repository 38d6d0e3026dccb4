"""Name the columns, special explainers and cost scores of a run."""

from __future__ import annotations

from typing import Any

KEYS = ["model", "explainer", "metric"]


COST: dict[str, dict[str, Any]] = {
    name: {"name": name, "title": title, "family": "cost", "direction": "lower", "ranked": False}
    for name, title in (("seconds", "Seconds per image"), ("forwards", "Forward passes per image"))
}


MASK = "mask"


REFERENCES = (MASK,)


CHANCE = "random"


UNRANKED_FAMILIES = ("descriptor", "check", "cost")


ABLATION = "@"


def transform_of(explainer: str) -> tuple[str, str]:
    """Explainer and transform of a name such as "lap@smooth2"; the transform is "" where there is none."""
    name, _, transform = explainer.partition(ABLATION)
    return name, transform
