"""The input of a report: a run's record, its scores and a few maps. Needs neither torch nor the registries.

A run may be unfinished: the record may lack anything, scores may be empty and the gallery absent. Every look-up has an
answer for that, so that tables, figures and page need no special cases.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import cached_property
from typing import Any, TypeVar

import numpy as np
import pandas as pd

from benchmarks.store.gallery import Gallery
from benchmarks.store.record import ExplainerRecord, MetricRecord, ModelRecord, RunRecord
from benchmarks.store.score_names import COST, REFERENCES, UNRANKED_FAMILIES, transform_of

__all__ = ["SCORE_COLUMNS", "ExplainerInfo", "Gallery", "MetricInfo", "ModelInfo", "RunData"]

SCORE_COLUMNS = ("model", "explainer", "metric", "seed", "image_id", "value", "degenerate")
JUDGED = ("localisation", "faithfulness", "robustness")
FAMILIES = (*JUDGED, *UNRANKED_FAMILIES)
KINDS = ("intrinsic", "amortised", "optimised", "external", "control")
T = TypeVar("T", "ModelInfo", "ExplainerInfo", "MetricInfo")


@dataclass(frozen=True)
class ModelInfo:
    """A network of the run, of one training seed; NaN and None stand for what the record lacks."""

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
    """An explainer of the run.

    Attributes:
        name: registered name.
        title: name in tables and figures.
        kind: one of `KINDS`, see `baselines.base.Explainer`.
        signed: whether its maps have negative values.
        source: paper or code it follows.
        params: parameters it ran with.
        caveats: reasons to doubt its maps, by model.
    """

    name: str
    title: str = ""
    kind: str = "external"
    signed: bool = True
    source: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)
    caveats: Mapping[str, str] = field(default_factory=dict)

    @property
    def control(self) -> bool:
        """Whether it ignores the model."""
        return self.kind == "control"

    @property
    def external(self) -> bool:
        """Whether it looks at any network from outside."""
        return self.kind not in KINDS or self.kind == "external"


@dataclass(frozen=True)
class MetricInfo:
    """A score of the run. One that the record does not describe has no better direction and is not ranked.

    Attributes:
        name: of the score.
        title: name in tables and figures.
        family: one of `FAMILIES`.
        direction: "higher" or "lower" where that is better, else "none".
        low: smallest possible value, or NaN.
        high: largest possible value, or NaN.
        ranked: whether explainers are ranked by it.
        settings: parameters of the metric, as text.
        passing: bound that the mean of a check has to be on the better side of, or NaN.
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
    """The record of a run, its scores, and its gallery if there is one.

    Attributes:
        record: content of run.json.
        scores: the long table, columns `SCORE_COLUMNS` or fewer.
        gallery: images with their maps.
    """

    record: RunRecord
    scores: pd.DataFrame
    gallery: Gallery | None = None

    @cached_property
    def all_scores(self) -> pd.DataFrame:
        """All scores, with every column present and of its type."""
        table = self.scores.reindex(columns=list(SCORE_COLUMNS))
        table["value"] = table["value"].astype(np.float64)
        table["degenerate"] = table["degenerate"].eq(True)
        table["seed"] = table["seed"].fillna(0)
        return table.astype(dict.fromkeys(("model", "explainer", "metric", "image_id"), str))

    @cached_property
    def plain_scores(self) -> pd.DataFrame:
        """Scores of untransformed maps; those of transformed ones ("NAME@TRANSFORM") are in `all_scores` only."""
        plain = {name for name in set(self.all_scores["explainer"]) if not transform_of(name)[1]}
        return self.all_scores[self.all_scores["explainer"].isin(plain)].reset_index(drop=True)

    @cached_property
    def models(self) -> dict[str, ModelInfo]:
        """Models by name, in the order of the run."""
        return _infos(ModelInfo, self.record.models, self.plain_scores["model"])

    @cached_property
    def explainers(self) -> dict[str, ExplainerInfo]:
        """Explainers by name: by kind, controls last, within each in the order of the run."""
        infos = _infos(ExplainerInfo, self.record.explainers, self.plain_scores["explainer"])
        rank = {kind: i for i, kind in enumerate(KINDS)}
        return dict(
            sorted(infos.items(), key=lambda item: (rank.get(item[1].kind, rank["external"]), item[0] in REFERENCES))
        )

    @cached_property
    def metrics(self) -> dict[str, MetricInfo]:
        """Scores by name: by family, within each in the order of the run."""
        described, measured = {entry.name for entry in self.record.metrics}, set(self.plain_scores["metric"])
        costs = [MetricRecord(**COST[name]) for name in COST if name in measured - described]
        infos = _infos(MetricInfo, [*self.record.metrics, *costs], self.plain_scores["metric"])
        rank = {family: i for i, family in enumerate(FAMILIES)}
        return dict(sorted(infos.items(), key=lambda item: rank.get(item[1].family, len(rank))))

    @cached_property
    def trainings(self) -> list[ModelInfo]:
        """Every trained network of the run: each model once for each seed."""
        return [info for entry in self.record.models for info in _infos(ModelInfo, [entry], ()).values()]

    @property
    def methods(self) -> list[str]:
        """Names of the explainers that are no controls."""
        return [info.name for info in self.explainers.values() if not info.control]


def _infos(
    kind: type[T], entries: Sequence[ModelRecord | ExplainerRecord | MetricRecord], measured: Iterable[str]
) -> dict[str, T]:
    """Describe what the record lists, and after it what has scores only; the first entry of a name counts."""
    names = {entry.name for entry in fields(kind)}
    infos: dict[str, T] = {}
    for entry in [*(entry.to_dict() for entry in entries), *({"name": name} for name in sorted(set(measured)))]:
        values = {key: value for key, value in entry.items() if key in names and value is not None}
        if values.get("name") and values["name"] not in infos:
            values["title"] = str(values.get("title") or values["name"])
            infos[values["name"]] = kind(**values)
    return infos
