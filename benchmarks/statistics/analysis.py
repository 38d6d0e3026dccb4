"""Analysis of a run: all its statistics, computed once for tables, figures and page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import pandas as pd

from benchmarks.statistics import (
    DEFAULT,
    Example,
    RankTest,
    Resampling,
    agreement,
    best_transforms,
    by_size,
    examples,
    gate,
    gate_failures,
    mean_ranks,
    most_reliable_metric,
    pair_shares,
    paired_differences,
    rank_changes,
    rank_intervals,
    rank_test,
    relative_scores,
    reliability,
    summarise,
    to_wide,
    transform_effects,
)  # fmt: skip
from benchmarks.store.run_data import ExplainerInfo, MetricInfo, ModelInfo, RunData
from benchmarks.store.score_names import PAIR_TEST


@dataclass(frozen=True, kw_only=True)
class RunAnalysis:
    """A run and its statistics.

    Rows of the tables are in the order of the run.

    Attributes:
        data: the run.
        summary: from `statistics.summarise`.
        ranks: from `statistics.mean_ranks` and `statistics.rank_intervals`, with a column per family.
        pairs: from `statistics.pair_shares`; empty for a run without pairs.
        paired: from `statistics.paired_differences`, the own explainer against the others.
        own_explainer: from `find_own_explainer`.
        degenerate: from `count_degenerate`.
        gates: from `statistics.gate`.
        reliability: from `statistics.reliability`.
        agreement: from `statistics.agreement`.
        sizes: from `statistics.by_size`; empty if the run has no areas of evidence.
        transform_effects: from `statistics.transform_effects`.
        rank_changes: from `statistics.rank_changes`.
        best_transforms: from `statistics.best_transforms`.
        relative: from `statistics.relative_scores`.
        tests: from `statistics.rank_test`, by model.
        examples: from `statistics.examples`, of the images in the gallery.
    """

    data: RunData
    summary: pd.DataFrame
    ranks: pd.DataFrame
    pairs: pd.DataFrame
    paired: pd.DataFrame
    own_explainer: str | None
    degenerate: pd.DataFrame
    gates: pd.DataFrame
    reliability: pd.DataFrame
    agreement: pd.DataFrame
    sizes: pd.DataFrame
    transform_effects: pd.DataFrame
    rank_changes: pd.DataFrame
    best_transforms: pd.DataFrame
    relative: pd.DataFrame
    tests: Mapping[str, RankTest]
    examples: Sequence[Example]

    def row(self, model: str, explainer: str, metric: str) -> pd.Series | None:
        """Return one row of the summary, None if it was not measured."""
        return self._rows.get((model, explainer, metric))

    def title(self, explainer: str | None) -> str:
        """Return the title of an explainer, else its name."""
        info = self.data.explainers.get(explainer or "")
        return info.title if info else explainer or ""

    @property
    def keys(self) -> set[tuple[str, str, str]]:
        """Each (model, explainer, metric) that was measured."""
        return set(self._rows)

    @cached_property
    def _rows(self) -> dict[tuple[str, str, str], pd.Series]:
        return {(row["model"], row["explainer"], row["metric"]): row for _, row in self.summary.iterrows()}

    def rank(self, model: str, explainer: str, column: str = "mean_rank") -> float:
        """Return the mean rank of an explainer, NaN if it has none.

        Args:
            model: name of the model.
            explainer: name of the explainer.
            column: of `ranks`; a family's name for the mean rank within it.
        """
        if column not in self.ranks:
            return float("nan")
        ranks = self.ranks[(self.ranks["model"] == model) & (self.ranks["explainer"] == explainer)][column]
        return float(ranks.iloc[0]) if len(ranks) else float("nan")

    def metrics(self, family: str) -> list[MetricInfo]:
        """List the scores of a family that have values."""
        names = set(self.summary["metric"])
        return [info for info in self.data.metrics.values() if info.family == family and info.name in names]

    def explainers(self) -> list[ExplainerInfo]:
        """List the explainers that have values."""
        names = set(self.summary["explainer"])
        return [info for info in self.data.explainers.values() if info.name in names]

    def models(self) -> list[ModelInfo]:
        """List the models that have values."""
        names = set(self.summary["model"])
        return [info for info in self.data.models.values() if info.name in names]


def analyse(data: RunData, resampling: Resampling = DEFAULT) -> RunAnalysis:
    """Compute all statistics of a run.

    Args:
        data: the run, which may be unfinished.
        resampling: settings of all intervals; its seed is that of all random draws.
    """
    metrics = [vars(info) for info in data.metrics.values()]
    families = {info.name: info.family for info in data.metrics.values()}
    own_explainer, wide = find_own_explainer(data), to_wide(data.plain_scores)
    gates = gate(wide, metrics, data.methods, resampling=resampling)
    failed = gate_failures(gates)
    summary = summarise(wide, metrics, resampling=resampling)
    rank_spans = rank_intervals(wide, metrics, gated=failed, resampling=resampling)
    reliabilities = reliability(wide, metrics, data.methods, resampling.seed)
    effects = transform_effects(data.all_scores, metrics, resampling=resampling)
    return RunAnalysis(
        data=data,
        summary=_in_run_order(summary, data),
        ranks=mean_ranks(summary, families, failed).merge(rank_spans, on=["model", "explainer"], how="left"),
        pairs=_in_run_order(pair_shares(data.plain_scores, resampling=resampling), data),
        paired=_in_run_order(paired_differences(wide, metrics, own_explainer or "", resampling=resampling), data),
        own_explainer=own_explainer,
        degenerate=count_degenerate(data),
        gates=_in_run_order(gates, data),
        reliability=_in_run_order(reliabilities, data),
        agreement=_in_run_order(agreement(wide, metrics, data.methods), data),
        sizes=_in_run_order(by_size(wide, metrics, evidence_areas(data), resampling=resampling), data),
        transform_effects=_in_run_order(effects, data),
        rank_changes=rank_changes(effects, failed),
        best_transforms=best_transforms(effects, metrics),
        relative=_in_run_order(relative_scores(summary, failed), data),
        tests={model: test for model in data.models if (test := rank_test(summary, model, failed)) is not None},
        examples=_gallery_examples(data, wide, metrics, reliabilities, gates),
    )


def evidence_areas(data: RunData) -> dict[str, float]:
    """Return the share of each image that its evidence covers, by id.

    Empty if the run does not store it.
    """
    return data.record.dataset.areas


def images_to_keep(data: RunData) -> dict[tuple[str, str], list[str]]:
    """Return the images whose maps the report needs, by (model, explainer).

    These are the best, the median and the worst image of the network's own explainer against each external one. The
    first images of the run, shown in the overview, are not among them.
    """
    metrics, wide = [vars(info) for info in data.metrics.values()], to_wide(data.plain_scores)
    gates = gate(wide, metrics, data.methods, resampling=Resampling(resamples=2))
    reliabilities = reliability(wide, metrics, data.methods)
    own_explainer, images = find_own_explainer(data), dict[tuple[str, str], list[str]]()
    for example in _examples(data, wide, metrics, reliabilities, gates):
        for name in (own_explainer or "", example.explainer):
            ids = images.setdefault((example.model, name), [])
            ids += [] if example.image in ids else [example.image]
    return images


def _gallery_examples(
    data: RunData,
    wide: pd.DataFrame,
    metrics: Sequence[Mapping[str, Any]],
    reliabilities: pd.DataFrame,
    gates: pd.DataFrame,
) -> list[Example]:
    """Select examples of the images in the gallery, none without one."""
    if data.gallery is None:
        return []
    available = {pair: data.gallery.image_ids(*pair) for pair in data.gallery.maps}
    return _examples(data, wide, metrics, reliabilities, gates, available)


def _examples(
    data: RunData,
    wide: pd.DataFrame,
    metrics: Sequence[Mapping[str, Any]],
    reliabilities: pd.DataFrame,
    gates: pd.DataFrame,
    available: Mapping[tuple[str, str], set[str]] | None = None,
) -> list[Example]:
    own_explainer = find_own_explainer(data)
    if own_explainer is None:
        return []
    # The gallery has no images of pairs.
    reliabilities = reliabilities[reliabilities["metric"] != PAIR_TEST]
    metric_of = {model: most_reliable_metric(reliabilities, gates, model) for model in data.models}
    others = [name for name in data.methods if name != own_explainer]
    usable = {model: metric for model, metric in metric_of.items() if metric is not None}
    return examples(wide, metrics, own_explainer, others, usable, available)


def find_own_explainer(data: RunData) -> str | None:
    """Return the name of the explainer that the run is about.

    It is `lap` if that has scores, else the first intrinsic one that has, else None. In runs from before LAP's own map
    and that of its decoders were told apart, `lap` is the decoders' map.
    """
    explainers = set(data.plain_scores["explainer"])
    names = [info.name for info in data.explainers.values() if info.kind == "intrinsic" and info.name in explainers]
    return "lap" if "lap" in explainers else next(iter(names), None)


def count_degenerate(data: RunData) -> pd.DataFrame:
    """Count degenerate maps (constant, NaN or infinite) and all maps, per model and explainer."""
    keys = ["model", "explainer"]
    maps = (
        data.plain_scores.groupby([*keys, "seed", "image_id"], observed=True, dropna=False)["degenerate"]
        .any()
        .reset_index()
    )
    counts = maps.groupby(keys, observed=True)["degenerate"].agg(["sum", "count"]).reset_index()
    counts.columns = pd.Index([*keys, "degenerate", "total"])
    return _in_run_order(counts.astype({"degenerate": int, "total": int}), data)


def _in_run_order(table: pd.DataFrame, data: RunData) -> pd.DataFrame:
    """Sort rows by model, explainer and metric in the order of the run."""
    orders = {"model": list(data.models), "explainer": list(data.explainers), "metric": list(data.metrics)}
    keys = [name for name in orders if name in table]
    if table.empty:
        return table.reset_index(drop=True)
    return table.sort_values(
        keys, key=lambda column: column.map(orders[str(column.name)].index), ignore_index=True, kind="stable"
    )
