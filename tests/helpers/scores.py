"""Small tables of scores and descriptions of metrics, for tests of statistics."""

from __future__ import annotations

from typing import Any

import pandas as pd

UP = {"name": "up", "direction": "higher", "family": "localisation", "ranked": True}
DOWN = {"name": "down", "direction": "lower", "family": "faithfulness", "ranked": True}
SIDE = {"name": "side", "direction": "none", "family": "descriptor", "ranked": False}


def long_table(rows: list[tuple[Any, ...]]) -> pd.DataFrame:
    """Build a long table of scores from its rows."""
    return pd.DataFrame(rows, columns=["model", "explainer", "metric", "seed", "image_id", "value"])


def rows_of(explainer: str, values: Any, metric: str = "up") -> list[tuple[Any, ...]]:
    """Return the rows of one explainer on model "m", one value an image."""
    return [("m", explainer, metric, 0, f"i{i}", float(value)) for i, value in enumerate(values)]


def constant_rows(metric: str, **values: float) -> list[tuple[Any, ...]]:
    """Return rows on model "m" where each explainer has one value for all of three images."""
    return [("m", name, metric, 0, image, value) for name, value in values.items() for image in ("a", "b", "c")]
