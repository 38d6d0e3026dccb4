"""Sentences for readers who want the statistics: tests, intervals, families, cost, and what the run does not show.

All sentences are made from the tables of the analysis. The verdict at the head of the page is in `verdict`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from benchmarks.report import format
from benchmarks.report.verdict import TIE, position, standings
from benchmarks.statistics import count_significant
from benchmarks.statistics.analysis import RunAnalysis
from benchmarks.statistics.gate import DOUBTFUL, FAILED
from benchmarks.statistics.summary import SEEDS_AND_IMAGES
from benchmarks.store.run_data import JUDGED, ModelInfo
from benchmarks.store.score_names import REFERENCES

MAX_NAMES = 6  # names in one sentence
VERDICTS = ("ahead", "level", "behind")


@dataclass(frozen=True)
class MetricComparison:
    """The own explainer on one metric: its mean, and the titles it is ahead of, level with and behind.

    `external`, `other_maps` (further maps of the network itself) and `controls` map each verdict to titles.
    """

    title: str
    own_score: str
    external: dict[str, list[str]]
    other_maps: dict[str, list[str]]
    controls: dict[str, list[str]]


@dataclass(frozen=True)
class NetworkSummary:
    """Sentences on the own explainer of one network, and its comparison on each ranked metric."""

    title: str
    sentences: list[str]
    metrics: list[MetricComparison]


def network_summaries(analysis: RunAnalysis) -> list[NetworkSummary]:
    """Describe each network whose own explanation has a mean rank."""
    own_name = analysis.own_explainer or ""
    networks = [model for model in analysis.models() if not np.isnan(analysis.rank(model.name, own_name))]
    return [_summarise(analysis, model) for model in networks]


def other_networks(analysis: RunAnalysis) -> list[str]:
    """Name the best explainer of each network without a rank of the own one."""
    sentences = []
    for model in analysis.models():
        methods = [row for row in standings(analysis, model.name) if row.explainer in analysis.data.methods]
        if methods and analysis.own_explainer not in {row.explainer for row in methods}:
            leaders = [row for row in methods if row.mean_rank <= methods[0].mean_rank + TIE]
            names = format.join_names([analysis.title(row.explainer) for row in leaders])
            verb = "has" if len(leaders) == 1 else "share"
            explains_itself = any(analysis.data.explainers[row.explainer].kind == "intrinsic" for row in methods)
            aside = "" if explains_itself else ", which does not explain itself"
            mean_rank = format.decimals(methods[0].mean_rank)
            sentences.append(f"On the network “{model.title}”{aside}, {names} {verb} the best mean rank ({mean_rank}).")
    return sentences


def caveats(analysis: RunAnalysis) -> list[str]:
    """List what the run does not show."""
    seeds = len(analysis.data.record.seeds)
    trainings = format.plural(seeds, "training seed") if seeds else "an unknown number of training seeds"
    coverage = (
        "The intervals cover the choice of images and of training seeds; with few seeds they are rather too short."
        if _unit(analysis) == SEEDS_AND_IMAGES
        else "The intervals cover the choice of images, not of the training run."
    )
    notes = [
        f"One data set and {trainings} support no general claim. {coverage}",
        "“Ahead” and “behind” mean that the 95 % interval of the paired difference leaves out zero. These intervals "
        "are not corrected for the number of comparisons. The p values are, after Holm.",
        "Mean ranks count the controls among the contestants, but not the evidence mask.",
    ]
    images = analysis.summary.groupby(["model", "metric"])["n"].nunique() if len(analysis.summary) else pd.Series()
    if (images > 1).any():
        notes.insert(0, "Some explainers have scores for fewer images than others: means and ranks are not final.")
    metrics = analysis.ranks.groupby("model")["metrics"].nunique() if len(analysis.ranks) else pd.Series()
    if (metrics > 1).any():
        notes.insert(0, "Some explainers were ranked on fewer metrics than others: mean ranks are not final.")
    return notes


def accuracy_sentence(analysis: RunAnalysis) -> str:
    """Give the test accuracy of each network, or the range of many; empty if unknown."""
    networks = [info for info in analysis.data.models.values() if not np.isnan(info.test_accuracy)]
    if not networks:
        return ""
    if len(networks) > MAX_NAMES:
        shares = sorted(info.test_accuracy for info in networks)
        span = f"{format.percent(shares[0])} to {format.percent(shares[-1])}"
        return f"Test images classified correctly: {span} on {len(networks)} networks."
    texts = [f"{format.percent(info.test_accuracy)} ({info.title})" for info in networks]
    return f"Test images classified correctly: {format.join_names(texts)}."


def _summarise(analysis: RunAnalysis, model: ModelInfo) -> NetworkSummary:
    metrics = list(_compare_metrics(analysis, model.name))
    sentences = [
        _families(analysis, model.name),
        _count_verdicts(metrics, "the external explainers", [metric.external for metric in metrics]),
        _count_verdicts(metrics, "the network's other maps", [metric.other_maps for metric in metrics]),
        _count_verdicts(metrics, "the controls, which know nothing of the network", [row.controls for row in metrics]),
        holm_sentence(analysis, model.name),
        interval_sentence(analysis, model.name),
        friedman_sentence(analysis, model.name),
        gate_sentence(analysis, model.name),
        _cost(analysis, model.name),
    ]
    return NetworkSummary(model.title, [text for text in sentences if text], metrics)


def holm_sentence(analysis: RunAnalysis, model: str) -> str:
    """Count the paired verdicts that hold after Holm's correction."""
    rows = analysis.paired[(analysis.paired["model"] == model) & ~analysis.paired["explainer"].isin(REFERENCES)]
    decided = int(rows["verdict"].isin(["ahead", "behind"]).sum())
    if not decided:
        return ""
    return (
        f"Of the {format.plural(decided, 'verdict')} of ahead or behind, {count_significant(rows)} hold at 5 % by "
        "Wilcoxon's signed-rank test after Holm's correction over all comparisons on this network."
    )


def interval_sentence(analysis: RunAnalysis, model: str) -> str:
    """Give the interval of the own explainer's mean rank."""
    standing = next((row for row in standings(analysis, model) if row.explainer == analysis.own_explainer), None)
    if standing is None or np.isnan(standing.low):
        return ""
    return (
        f"When {_unit(analysis)} are drawn again, its mean rank lies between {format.decimals(standing.low)} and "
        f"{format.decimals(standing.high)} in 95 % of the cases."
    )


def friedman_sentence(analysis: RunAnalysis, model: str) -> str:
    """Give Friedman's test and the contestants beyond the critical difference."""
    test = analysis.tests.get(model)
    if test is None or analysis.own_explainer not in test.ranks:
        return ""
    own_rank = float(test.ranks[str(analysis.own_explainer)])
    separate = [str(name) for name in test.ranks.index if abs(test.ranks[name] - own_rank) >= test.critical]
    names = _names_or_count(analysis, separate) or "none of the others"
    return (
        f"Over {format.plural(test.blocks, 'metric')} Friedman's test gives chi-squared "
        f"{format.number(test.statistic, 1)} (p {format.probability(test.p)}; Kendall's W "
        f"{format.number(test.concordance, 2)}). Two mean ranks differ significantly where they are at least "
        f"{format.decimals(test.critical)} apart (Nemenyi, 5 %), which separates it from {names}."
    )


def gate_sentence(analysis: RunAnalysis, model: str) -> str:
    """Name the metrics that are left out of the mean rank, and those that barely count."""
    rows = analysis.gates[analysis.gates["model"] == model]
    failed, doubtful = (
        [analysis.data.metrics[name].title for name in rows[rows["verdict"] == verdict]["metric"]]
        for verdict in (FAILED, DOUBTFUL)
    )
    sentences = []
    if failed:
        reason = "because here they do not tell good maps from bad ones"
        sentences.append(f"Left out of the mean rank, {reason}: {format.join_names(failed)}.")
    if doubtful:
        sentences.append(f"Counted, although the images leave room for doubt: {format.join_names(doubtful)}.")
    return " ".join(sentences)


def _families(analysis: RunAnalysis, model: str) -> str:
    parts = []
    for family in JUDGED:
        own_rank = analysis.rank(model, analysis.own_explainer or "", family)
        if not np.isnan(own_rank):
            column = analysis.ranks[analysis.ranks["model"] == model][family]
            ordinal = format.ordinal(int((column < own_rank - TIE).sum()) + 1)
            parts.append(f"{ordinal} on {family} (mean rank {format.decimals(own_rank)})")
    contestants = standings(analysis, model)
    ordinal = format.ordinal(position(contestants, str(analysis.own_explainer)))
    start = f"{analysis.title(analysis.own_explainer)} comes {ordinal} among {len(contestants)} contestants"
    return f"{start}: {format.join_names(parts)}." if parts else f"{start}."


def _compare_metrics(analysis: RunAnalysis, model: str) -> Iterator[MetricComparison]:
    table = analysis.paired[(analysis.paired["model"] == model) & ~analysis.paired["explainer"].isin(REFERENCES)]
    infos = analysis.data.explainers.values()
    external, controls = ([info.name for info in infos if getattr(info, kind)] for kind in ("external", "control"))
    for metric, rows in table.groupby("metric", sort=False, observed=True):
        is_external, is_control = rows["explainer"].isin(external), rows["explainer"].isin(controls)
        row = analysis.row(model, analysis.own_explainer or "", str(metric))
        score = format.interval(row["mean"], row["ci_low"], row["ci_high"]) if row is not None else format.DASH
        yield MetricComparison(
            analysis.data.metrics[str(metric)].title,
            score,
            _titles_by_verdict(analysis, rows[is_external]),
            _titles_by_verdict(analysis, rows[~is_external & ~is_control]),
            _titles_by_verdict(analysis, rows[is_control]),
        )


def _titles_by_verdict(analysis: RunAnalysis, rows: pd.DataFrame) -> dict[str, list[str]]:
    return {
        verdict: [analysis.title(name) for name in rows[rows["verdict"] == verdict]["explainer"]]
        for verdict in VERDICTS
    }


def _count_verdicts(metrics: Sequence[MetricComparison], opponents: str, titles: Sequence[dict[str, list[str]]]) -> str:
    counts = {verdict: sum(len(by_verdict[verdict]) for by_verdict in titles) for verdict in VERDICTS}
    total = sum(counts.values())
    if total == 0:
        return ""
    balance = f"ahead in {counts['ahead']}, level in {counts['level']} and behind in {counts['behind']}"
    lost = sum(bool(by_verdict["behind"]) for by_verdict in titles)
    losses = f" It is behind at least one of them on {lost} of {format.plural(len(metrics), 'metric')}." if lost else ""
    return f"Image by image against {opponents}, in {format.plural(total, 'comparison')}, it is {balance}.{losses}"


def _cost(analysis: RunAnalysis, model: str) -> str:
    own_cost = ""
    named: list[tuple[str, float, float]] = []
    external: list[tuple[str, float, float]] = []
    for info in analysis.explainers():
        forwards, seconds = (analysis.row(model, info.name, cost) for cost in ("forwards", "seconds"))
        if info.control or forwards is None or seconds is None:
            continue
        if info.name == analysis.own_explainer:
            passes = format.count(forwards["mean"])
            noun = "forward pass" if passes == "1" else "forward passes"
            own_cost = f"One explanation takes {passes} {noun} and {format.duration(seconds['mean'])}"
        else:
            costs = external if info.external else named
            costs.append((info.title, float(forwards["mean"]), float(seconds["mean"])))
    if not own_cost or not named + external:
        return ""
    if len(external) <= MAX_NAMES:
        named, external = named + external, []
    texts = [f"{title} takes {format.count(passes)} and {format.duration(time)}" for title, passes, time in named]
    return f"{own_cost}; {format.join_names([*texts, *([_cost_range(external)] if external else [])])}."


def _cost_range(costs: Sequence[tuple[str, float, float]]) -> str:
    """Give the least, median and greatest cost of many explainers."""
    forwards, seconds = (np.quantile([cost[column] for cost in costs], [0, 0.5, 1]) for column in (1, 2))
    passes, times = [format.count(value) for value in forwards], [format.duration(value) for value in seconds]
    return (
        f"the {len(costs)} external ones take {passes[0]} to {passes[2]} (median {passes[1]}) and {times[0]} to "
        f"{times[2]} (median {times[1]})"
    )


def _names_or_count(analysis: RunAnalysis, explainers: Sequence[str]) -> str:
    if len(explainers) > MAX_NAMES:
        return f"{len(explainers)} contestants"
    return format.join_names([analysis.title(name) for name in explainers])


def _unit(analysis: RunAnalysis) -> str:
    """Return what the intervals draw again: images, or seeds and images."""
    return SEEDS_AND_IMAGES if (analysis.summary["resampled"] == SEEDS_AND_IMAGES).any() else "images"
