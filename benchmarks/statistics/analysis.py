"""What the scores of a run say: every statistic, made once for tables, figures and page alike."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import pandas as pd

from benchmarks.statistics import (
    ABLATION_COLUMNS,
    AGREEMENT_COLUMNS,
    GATE_COLUMNS,
    RELATIVE_COLUMNS,
    RELIABILITY_COLUMNS,
    RESAMPLES,
    SHIFT_COLUMNS,
    SIZE_COLUMNS,
    SUITED_COLUMNS,
    Example,
    RankTest,
    ablations,
    agreement,
    at_best,
    by_size,
    examples,
    failing,
    gate,
    mean_ranks,
    paired_differences,
    rank_intervals,
    rank_shifts,
    rank_test,
    relative_scores,
    reliability,
    summarise,
    telling_metric,
    widened,
)  # fmt: skip
from benchmarks.store.run_data import ExplainerInfo, MetricInfo, ModelInfo, RunData


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
        gates: from `statistics.gate`: which metrics tell good maps from bad ones here.
        reliability: from `statistics.reliability`.
        agreement: from `statistics.agreement`.
        sizes: from `statistics.by_size`; empty where the run does not say how large the evidence is.
        ablations: from `statistics.ablations`.
        shifts: from `statistics.rank_shifts`.
        suited: from `statistics.at_best`.
        relative: from `statistics.relative_scores`.
        tests: from `statistics.rank_test`, by model.
        examples: images to look at, of those the gallery keeps, from `statistics.examples`.
    """

    data: RunData
    summary: pd.DataFrame
    ranks: pd.DataFrame
    paired: pd.DataFrame
    own: str | None
    degenerate: pd.DataFrame
    gates: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(GATE_COLUMNS)))
    reliability: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(RELIABILITY_COLUMNS)))
    agreement: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(AGREEMENT_COLUMNS)))
    sizes: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(SIZE_COLUMNS)))
    ablations: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(ABLATION_COLUMNS)))
    shifts: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(SHIFT_COLUMNS)))
    suited: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(SUITED_COLUMNS)))
    relative: pd.DataFrame = field(default_factory=lambda: pd.DataFrame(columns=list(RELATIVE_COLUMNS)))
    tests: Mapping[str, RankTest] = field(default_factory=dict)
    examples: Sequence[Example] = ()

    def row(self, model: str, explainer: str, metric: str) -> pd.Series | None:
        """The summary of one cell of the comparison, None if it was not measured."""
        return self._rows.get((model, explainer, metric))

    def title(self, explainer: str | None) -> str:
        """Title of an explainer, its name where the run does not know it."""
        info = self.data.explainers.get(explainer or "")
        return info.title if info else explainer or ""

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


def find(data: RunData, *, resamples: int = RESAMPLES, seed: int = 0) -> Findings:
    """All statistics of a run, made once for tables, figures and page alike."""
    described = [vars(info) for info in data.metrics.values()]
    families = {info.name: info.family for info in data.metrics.values()}
    own, wide = own_explainer(data), widened(data.table)
    again: dict[str, Any] = {"resamples": resamples, "seed": seed}
    gates = gate(wide, described, data.methods, **again)
    failed = failing(gates)
    summary = summarise(wide, described, **again)
    ranks = mean_ranks(summary, families, failed)
    spans = rank_intervals(wide, described, gated=failed, **again)
    trusted = reliability(wide, described, data.methods, seed)
    changed = ablations(data.whole, described, **again)
    return Findings(
        data,
        _ordered(summary, data),
        ranks.merge(spans, on=["model", "explainer"], how="left"),
        _ordered(paired_differences(wide, described, own or "", **again), data),
        own,
        count_degenerate(data),
        gates=_ordered(gates, data),
        reliability=_ordered(trusted, data),
        agreement=_ordered(agreement(wide, described, data.methods), data),
        sizes=_ordered(by_size(wide, described, areas(data), **again), data),
        ablations=_ordered(changed, data),
        shifts=rank_shifts(changed, failed),
        suited=at_best(changed, described),
        relative=_ordered(relative_scores(summary, failed), data),
        tests={model: test for model in data.models if (test := rank_test(summary, model, failed)) is not None},
        examples=_examples(data, wide, described, own, trusted, gates),
    )


def areas(data: RunData) -> dict[str, float]:
    """Share of each image that its evidence covers, by id; empty where the run does not say."""
    return {str(name): float(area) for name, area in (data.part("dataset", {}).get("areas") or {}).items()}


def images_to_keep(data: RunData) -> dict[tuple[str, str], list[str]]:
    """Ids of the images whose maps the report wants, for each (model, explainer), once all is scored.

    These are the best, the median and the worst image of the network's own explainer against each external one; the
    overview's first images come on top. To be read by whoever writes the `Gallery`.
    """
    described, wide, own = [vars(info) for info in data.metrics.values()], widened(data.table), own_explainer(data)
    gates = gate(wide, described, data.methods, resamples=2)
    trusted = reliability(wide, described, data.methods)
    wanted: dict[tuple[str, str], list[str]] = {}
    for example in _examples(data, wide, described, own, trusted, gates, everything=True):
        for name in (own or "", example.other):
            ids = wanted.setdefault((example.model, name), [])
            ids += [] if example.image in ids else [example.image]
    return wanted


def _examples(
    data: RunData,
    wide: pd.DataFrame,
    described: Sequence[Mapping[str, Any]],
    own: str | None,
    trusted: pd.DataFrame,
    gates: pd.DataFrame,
    everything: bool = False,
) -> list[Example]:
    if own is None or (data.gallery is None and not everything):
        return []
    found = {model: telling_metric(trusted, gates, model) for model in data.models}
    chosen = {model: metric for model, metric in found.items() if metric is not None}
    kept = None
    if data.gallery is not None and not everything:
        kept = {pair: data.gallery.kept(*pair) for pair in data.gallery.maps}
    return examples(wide, described, own, [name for name in data.methods if name != own], chosen, kept)


def own_explainer(data: RunData) -> str | None:
    """Name of LAP's explainer where it has scores, else of the first intrinsic one that has, None if there is none."""
    measured = set(data.table["explainer"])
    found = [info.name for info in data.explainers.values() if info.kind == "intrinsic" and info.name in measured]
    return "lap" if "lap" in found else next(iter(found), None)


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
    """Rows in the order of the run; keys that are not of the run keep the order they have."""
    orders = {"model": list(data.models), "explainer": list(data.explainers), "metric": list(data.metrics)}
    keys = [name for name in orders if name in table]
    if table.empty:
        return table.reset_index(drop=True)
    return table.sort_values(
        keys, key=lambda column: column.map(orders[str(column.name)].index), ignore_index=True, kind="stable"
    )
