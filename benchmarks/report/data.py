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

from benchmarks.statistics import COST, REFERENCES, mean_ranks, paired_differences, summarise

SCORE_COLUMNS = ("model", "explainer", "metric", "seed", "image_id", "value", "degenerate")
FAMILIES = ("localisation", "faithfulness", "descriptor", "cost")
T = TypeVar("T", "ModelInfo", "ExplainerInfo", "MetricInfo")


@dataclass(frozen=True)
class Gallery:
    """A few images with the maps explainers gave for them.

    Attributes:
        images: (n, H, W, 3) uint8.
        masks: (n, H, W) bool evidence; all False where there is none.
        ids: n image ids.
        labels: n class names.
        maps: (model, explainer) to (n, H, W) float32, possibly with NaN.
    """

    images: np.ndarray
    masks: np.ndarray
    ids: list[str]
    labels: list[str]
    maps: dict[tuple[str, str], np.ndarray]


@dataclass(frozen=True)
class ModelInfo:
    """A network of the run; NaN and None where the run does not say."""

    name: str
    title: str = ""
    backbone: str = ""
    lap: bool = False
    test_accuracy: float = float("nan")
    train_seconds: float = float("nan")
    parameters: float = float("nan")
    grid: tuple[int, ...] = ()


@dataclass(frozen=True)
class ExplainerInfo:
    """An explainer of the run. Kind is "intrinsic", "external" or "control"."""

    name: str
    title: str = ""
    kind: str = "external"
    signed: bool = True
    source: str = ""
    params: Mapping[str, Any] = field(default_factory=dict)

    @property
    def control(self) -> bool:
        """Whether it knows nothing of the model."""
        return self.kind == "control"


@dataclass(frozen=True)
class MetricInfo:
    """A score of the run. An undescribed one has no better direction and no rank."""

    name: str
    title: str = ""
    family: str = "descriptor"
    direction: str = "none"
    low: float = float("nan")
    high: float = float("nan")
    ranked: bool = False
    settings: str = ""


@dataclass(frozen=True)
class RunData:
    """Input of the report: run.json as a dict, the long table of scores, and the gallery if there is one."""

    meta: dict[str, Any]
    scores: pd.DataFrame
    gallery: Gallery | None = None

    @cached_property
    def table(self) -> pd.DataFrame:
        """The scores with all columns there and of their types."""
        table = self.scores.reindex(columns=list(SCORE_COLUMNS))
        table["value"] = table["value"].astype(np.float64)
        table["degenerate"] = table["degenerate"].eq(True)
        return table.astype(dict.fromkeys(("model", "explainer", "metric", "image_id"), str))

    @cached_property
    def models(self) -> dict[str, ModelInfo]:
        """Models by name, in the order of the run."""
        return _infos(ModelInfo, self.part("models", []), self.table["model"])

    @cached_property
    def explainers(self) -> dict[str, ExplainerInfo]:
        """Explainers by name: the model's own, then external ones, then controls, else in the order of the run."""
        found = _infos(ExplainerInfo, self.part("explainers", []), self.table["explainer"])
        place = {"intrinsic": 0, "external": 1, "control": 2}
        return dict(sorted(found.items(), key=lambda item: (place.get(item[1].kind, 1), item[0] in REFERENCES)))

    @cached_property
    def metrics(self) -> dict[str, MetricInfo]:
        """Scores by name, by family, else in the order of the run."""
        entries = list(self.part("metrics", []))
        named = {entry.get("name") for entry in entries}
        entries += [cost for name, cost in COST.items() if name not in named and (self.table["metric"] == name).any()]
        found = _infos(MetricInfo, entries, self.table["metric"])
        place = {family: i for i, family in enumerate(FAMILIES)}
        return dict(sorted(found.items(), key=lambda item: place.get(item[1].family, len(place))))

    def part(self, key: str, default: Any) -> Any:
        """`meta[key]`, or the default where it is missing or null."""
        value = self.meta.get(key)
        return default if value is None else value


@dataclass(frozen=True)
class Findings:
    """A run and what its scores say; rows of the tables in the order of the run.

    Attributes:
        data: the run.
        summary: from `statistics.summarise`.
        ranks: from `statistics.mean_ranks`, with a column per family.
        paired: from `statistics.paired_differences` of the model's own explainer against the others.
        own: name of the explainer the run is about, None if it has no intrinsic one.
        degenerate: model, explainer, degenerate and total maps.
    """

    data: RunData
    summary: pd.DataFrame
    ranks: pd.DataFrame
    paired: pd.DataFrame
    own: str | None
    degenerate: pd.DataFrame

    def row(self, model: str, explainer: str, metric: str) -> pd.Series | None:
        """The summary of one cell of the comparison, None if it was not measured."""
        return self._rows.get((model, explainer, metric))

    @property
    def keys(self) -> set[tuple[str, str, str]]:
        """(model, explainer, metric) of all that was measured."""
        return set(self._rows)

    @cached_property
    def _rows(self) -> dict[tuple[str, str, str], pd.Series]:
        return {(row["model"], row["explainer"], row["metric"]): row for _, row in self.summary.iterrows()}

    def rank(self, model: str, explainer: str, column: str = "mean_rank") -> float:
        """Mean rank of an explainer on a model, NaN if it has none."""
        if column not in self.ranks:
            return float("nan")
        found = self.ranks[(self.ranks["model"] == model) & (self.ranks["explainer"] == explainer)][column]
        return float(found.iloc[0]) if len(found) else float("nan")

    def metrics(self, family: str) -> list[MetricInfo]:
        """Scores of a family that the run has values for."""
        measured = set(self.summary["metric"])
        return [info for info in self.data.metrics.values() if info.family == family and info.name in measured]

    def explainers(self) -> list[ExplainerInfo]:
        """Explainers that the run has values for."""
        measured = set(self.summary["explainer"])
        return [info for info in self.data.explainers.values() if info.name in measured]

    def models(self) -> list[ModelInfo]:
        """Models that the run has values for."""
        measured = set(self.summary["model"])
        return [info for info in self.data.models.values() if info.name in measured]


def find(data: RunData, *, resamples: int = 2000, seed: int = 0) -> Findings:
    """All statistics of a run, made once for tables, figures and page alike."""
    described = [vars(info) for info in data.metrics.values()]
    families = {info.name: info.family for info in data.metrics.values()}
    own = own_explainer(data)
    summary = summarise(data.table, described, resamples=resamples, seed=seed)
    paired = paired_differences(data.table, described, own or "", resamples=resamples, seed=seed)
    ranks = mean_ranks(summary, families)
    return Findings(data, _ordered(summary, data), ranks, _ordered(paired, data), own, count_degenerate(data))


def own_explainer(data: RunData) -> str | None:
    """Name of the first intrinsic explainer that has scores, None if there is none."""
    measured = set(data.table["explainer"])
    return next((i.name for i in data.explainers.values() if i.kind == "intrinsic" and i.name in measured), None)


def count_degenerate(data: RunData) -> pd.DataFrame:
    """Maps that say nothing (constant, NaN or infinite) and all maps, per model and explainer."""
    keys = ["model", "explainer"]
    maps = (
        data.table.groupby([*keys, "seed", "image_id"], observed=True, dropna=False)["degenerate"].any().reset_index()
    )
    counts = maps.groupby(keys, observed=True)["degenerate"].agg(["sum", "count"]).reset_index()
    counts.columns = pd.Index([*keys, "degenerate", "total"])
    return _ordered(counts.astype({"degenerate": int, "total": int}), data)


def _ordered(table: pd.DataFrame, data: RunData) -> pd.DataFrame:
    orders = {"model": list(data.models), "explainer": list(data.explainers), "metric": list(data.metrics)}
    keys = [name for name in orders if name in table]
    if table.empty:
        return table.reset_index(drop=True)
    return table.sort_values(keys, key=lambda column: column.map(orders[str(column.name)].index), ignore_index=True)


def _infos(cls: type[T], entries: Iterable[Mapping[str, Any]], measured: pd.Series) -> dict[str, T]:
    names = {entry.name for entry in fields(cls)}
    found: dict[str, T] = {}
    for entry in [*entries, *({"name": name} for name in sorted(set(measured)))]:
        known = {key: value for key, value in entry.items() if key in names and value is not None}
        if "name" in known and known["name"] not in found:
            known["title"] = str(known.get("title") or known["name"])
            found[known["name"]] = cls(**known)
    return found
