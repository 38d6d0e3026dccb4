"""What the report reads: a run's description, its scores and a few maps. Nothing here knows torch or the registries.

A run may be unfinished: any key of the description may be missing or null, scores may be empty, the gallery absent.
Every look-up here has an answer for that, so that tables, figures and page need no special cases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from benchmarks.store.gallery import Gallery
from benchmarks.store.score_names import COST, REFERENCES, transform_of

__all__ = ["SCORE_COLUMNS", "ExplainerInfo", "Gallery", "MetricInfo", "ModelInfo", "RunData"]

SCORE_COLUMNS = ("model", "explainer", "metric", "seed", "image_id", "value", "degenerate")
JUDGED = ("localisation", "faithfulness", "robustness")
UNRANKED = ("check", "descriptor", "cost")
FAMILIES = (*JUDGED, *UNRANKED)
T = TypeVar("T", "ModelInfo", "ExplainerInfo", "MetricInfo")


@dataclass(frozen=True)
class ModelInfo:
    """A network of the run, of one training seed; NaN and None where the run does not say."""

    name: str
    title: str = ""
    backbone: str = ""
    lap: bool = False
    seed: int | None = None
    test_accuracy: float = float("nan")
    train_seconds: float = float("nan")
    parameters: float = float("nan")
    grid: tuple[int, ...] = ()


@dataclass(frozen=True)
class ExplainerInfo:
    """An explainer of the run. Kind is "intrinsic", "external" or "control"; caveats are by model."""

    name: str
    title: str = ""
    kind: str = "external"
    signed: bool = True
    source: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    caveats: Mapping[str, str] = field(default_factory=dict)

    @property
    def control(self) -> bool:
        """Whether it knows nothing of the model."""
        return self.kind == "control"


@dataclass(frozen=True)
class MetricInfo:
    """A score of the run. An undescribed one has no better direction and no rank.

    `passing` is the bound that the mean of a check has to be on the better side of, NaN where there is none.
    """

    name: str
    title: str = ""
    family: str = "descriptor"
    direction: str = "none"
    low: float = float("nan")
    high: float = float("nan")
    ranked: bool = False
    settings: str = ""
    passing: float = float("nan")


@dataclass(frozen=True)
class RunData:
    """Input of the report: run.json as a dict, the long table of scores, and the gallery if there is one."""

    meta: dict[str, Any]
    scores: pd.DataFrame
    gallery: Gallery | None = None

    @cached_property
    def all_scores(self) -> pd.DataFrame:
        """All scores with all columns there and of their types."""
        table = self.scores.reindex(columns=list(SCORE_COLUMNS))
        table["value"] = table["value"].astype(np.float64)
        table["degenerate"] = table["degenerate"].eq(True)
        table["seed"] = table["seed"].fillna(0)
        return table.astype(dict.fromkeys(("model", "explainer", "metric", "image_id"), str))

    @cached_property
    def plain_scores(self) -> pd.DataFrame:
        """Scores of the explainers as they are; those of transformed maps ("NAME@TRANSFORM") only `all_scores` has."""
        plain = {name for name in set(self.all_scores["explainer"]) if not transform_of(name)[1]}
        return self.all_scores[self.all_scores["explainer"].isin(plain)].reset_index(drop=True)

    @cached_property
    def models(self) -> dict[str, ModelInfo]:
        """Models by name, in the order of the run."""
        return _infos(ModelInfo, self.part("models", []), self.plain_scores["model"])

    @cached_property
    def explainers(self) -> dict[str, ExplainerInfo]:
        """Explainers by name: the model's own, then external ones, then controls, else in the order of the run."""
        found = _infos(ExplainerInfo, self.part("explainers", []), self.plain_scores["explainer"])
        place = {"intrinsic": 0, "external": 1, "control": 2}
        return dict(sorted(found.items(), key=lambda item: (place.get(item[1].kind, 1), item[0] in REFERENCES)))

    @cached_property
    def metrics(self) -> dict[str, MetricInfo]:
        """Scores by name, by family, else in the order of the run."""
        entries = list(self.part("metrics", []))
        named = {entry.get("name") for entry in entries}
        entries += [
            cost for name, cost in COST.items() if name not in named and (self.plain_scores["metric"] == name).any()
        ]
        found = _infos(MetricInfo, entries, self.plain_scores["metric"])
        place = {family: i for i, family in enumerate(FAMILIES)}
        return dict(sorted(found.items(), key=lambda item: place.get(item[1].family, len(place))))

    @cached_property
    def trainings(self) -> list[ModelInfo]:
        """Every trained network of the run: a model has one for each seed."""
        entries = [entry for entry in self.part("models", []) if entry.get("name")]
        return [info for entry in entries for info in _infos(ModelInfo, [entry], pd.Series(dtype=str)).values()]

    @property
    def methods(self) -> list[str]:
        """Explainers that know the network."""
        return [info.name for info in self.explainers.values() if not info.control]

    def part(self, key: str, default: Any) -> Any:
        """`meta[key]`, or the default where it is missing or null."""
        value = self.meta.get(key)
        return default if value is None else value


def _infos(cls: type[T], entries: Iterable[Mapping[str, Any]], measured: pd.Series) -> dict[str, T]:
    names = {entry.name for entry in fields(cls)}
    found: dict[str, T] = {}
    for entry in [*entries, *({"name": name} for name in sorted(set(measured)))]:
        known = {key: value for key, value in entry.items() if key in names and value is not None}
        if "name" in known and known["name"] not in found:
            known["title"] = str(known.get("title") or known["name"])
            found[known["name"]] = cls(**known)
    return found
