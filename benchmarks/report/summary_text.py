"""The question of a run and its answer in sentences, made from the tables alone, whoever wins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from benchmarks.report import evidence, format
from benchmarks.statistics.analysis import RunAnalysis
from benchmarks.statistics.gate import FAILED
from benchmarks.statistics.summary import SEEDS_AND_IMAGES
from benchmarks.store.run_data import JUDGED, ModelInfo
from benchmarks.store.score_names import REFERENCES

QUESTION = (
    "Judged on the same network, the same images and the same metrics: are the explanations a network gives of itself "
    "better than those that external explainers compute for it?"
)
MOST_NAMED = 6  # names in one sentence
VERDICTS = ("ahead", "level", "behind")


@dataclass(frozen=True)
class MetricAnswer:
    """How the own explainer does on one metric: its mean with interval, and whom it is ahead of, level with, behind."""

    title: str
    own: str
    external: dict[str, list[str]]
    controls: dict[str, list[str]]


@dataclass(frozen=True)
class Answer:
    """The answer for one model: in a word, a headline, sentences, and a line per ranked metric."""

    headline: str
    sentences: list[str] = field(default_factory=list)
    metrics: list[MetricAnswer] = field(default_factory=list)
    short: str = ""


def answers(findings: RunAnalysis) -> list[Answer]:
    """One answer per model that explains itself and has ranks; one that says why not, where there is none."""
    if findings.summary.empty:
        return [Answer("No scores have been computed yet, so there is no answer yet.")]
    models = [
        info for info in findings.models() if not np.isnan(findings.rank(info.name, findings.own_explainer or ""))
    ]
    if not models and len(findings.ranks):
        gated = findings.gates[findings.gates["verdict"] == FAILED]["metric"].nunique()
        if gated and findings.ranks["mean_rank"].isna().all():
            return [Answer("No metric of this run tells good maps from bad ones on this task, so nothing is ranked.")]
    if not models:
        return [
            Answer(
                "No network in this run has been ranked with an explanation of its own: there is nothing to compare."
            )
        ]
    return [_answer(findings, model) for model in models]


def twins(findings: RunAnalysis) -> list[str]:
    """Sentences on the networks that are not explained as the answers say, and on the accuracy of all."""
    sentences = []
    for model in findings.models():
        table = _standings(findings, model.name)
        table = table[~table["explainer"].isin(_controls(findings))].dropna(subset=["mean_rank"])
        if len(table) and findings.own_explainer not in set(table["explainer"]):
            leaders = table[table["mean_rank"] <= table["mean_rank"].min() + 1e-9]
            names = format.listed([findings.title(name) for name in leaders["explainer"]])
            have = "has" if len(leaders) == 1 else "share"
            best = format.rank(table["mean_rank"].min())
            explains = any(findings.data.explainers[name].kind == "intrinsic" for name in table["explainer"])
            aside = "" if explains else " which has no explanation of its own,"
            sentences.append(f"On {model.title},{aside} {names} {have} the best mean rank ({best}).")
    known = [info for info in findings.data.models.values() if not np.isnan(info.test_accuracy)]
    if known:
        shares = format.listed([f"{format.percent(info.test_accuracy)} ({info.title})" for info in known])
        sentences.append(f"Share of test images classified correctly: {shares}.")
    return sentences


def caveats(findings: RunAnalysis) -> list[str]:
    """What the answer does not say."""
    seeds = len(findings.data.part("seeds", []))
    training = f"{format.plural(seeds, 'seed')}" if seeds else "an unknown number of seeds"
    covered = (
        "The intervals cover the choice of images and of training seeds; over so few seeds they are rather too short."
        if (findings.summary["resampled"] == SEEDS_AND_IMAGES).any()
        else "The intervals cover the choice of images, not of the training run."
    )
    notes = [
        f"This is one data set and {training}: it is no general claim. {covered}",
        "Ahead and behind mean that the 95 % interval of the paired difference leaves out zero; the intervals are not "
        "corrected for the number of comparisons; how many hold after Holm's correction is given. Mean ranks count the "
        "controls among the contestants, the evidence mask not.",
    ]
    uneven = (
        findings.summary.groupby(["model", "metric"])["n"].nunique() if len(findings.summary) else pd.Series(dtype=int)
    )
    if (uneven > 1).any():
        notes.insert(0, "Some explainers have scores for fewer images than others: means and ranks are not final.")
    missing = findings.ranks.groupby("model")["metrics"].nunique() if len(findings.ranks) else pd.Series(dtype=int)
    if (missing > 1).any():
        notes.insert(0, "Some explainers were ranked on fewer metrics than others: mean ranks are not final.")
    return notes


def _answer(findings: RunAnalysis, model: ModelInfo) -> Answer:
    lines = list(_metric_answers(findings, model.name))
    sentences = [
        _families(findings, model.name),
        _comparisons(lines, "external explainers", [line.external for line in lines]),
        _comparisons(lines, "controls, which know nothing of the network", [line.controls for line in lines]),
        evidence.corrected(findings, model.name),
        evidence.span(findings, model.name),
        evidence.told_apart(findings, model.name),
        evidence.gated(findings, model.name),
        _cost(findings, model.name),
    ]
    return Answer(_headline(findings, model), [text for text in sentences if text], lines, _short(findings, model.name))


def _short(findings: RunAnalysis, model: str) -> str:
    """Yes, no or in part: by mean rank, against the external explainers."""
    table = _standings(findings, model).set_index("explainer")["mean_rank"]
    mine = float(table[str(findings.own_explainer)])
    others = table.drop(
        index=[name for name in table.index if name in _controls(findings) or name == findings.own_explainer]
    )
    if others.empty:
        return ""
    won = [name for name in others.index if mine < others[name] - 1e-9]
    lost = [name for name in others.index if mine > others[name] + 1e-9]
    tied = [name for name in others.index if abs(mine - others[name]) <= 1e-9]
    word = "Yes" if len(won) == len(others) else "In part" if won else "No"
    parts = [
        f"{what} {_shortlist(findings, names)}"
        for what, names in (("ahead of", won), ("level with", tied), ("behind", lost))
        if names
    ]
    own, whole = findings.title(findings.own_explainer), format.plural(len(others), "external explainer")
    return f"{word}. Of {whole} {own} is {format.listed(parts)}, by mean rank."


def _shortlist(findings: RunAnalysis, names: list[str]) -> str:
    if len(names) > MOST_NAMED:
        return str(len(names))
    return f"{len(names)} ({format.listed([findings.title(name) for name in names])})"


def _headline(findings: RunAnalysis, model: ModelInfo) -> str:
    own = findings.title(findings.own_explainer or "")
    table = _standings(findings, model.name)
    mine = table[table["explainer"] == findings.own_explainer].iloc[0]
    others = table[table["explainer"] != findings.own_explainer]
    better = others[others["mean_rank"] < mine["mean_rank"] - 1e-9]
    equal = others[(others["mean_rank"] - mine["mean_rank"]).abs() <= 1e-9]
    place = format.ordinal(len(better) + 1)
    start = (
        f"On {model.title}, {own} {'shares' if len(equal) else 'takes'} {place} place among {len(table)} contestants: "
        f"mean rank {format.rank(mine['mean_rank'])} over {format.plural(int(mine['metrics']), 'ranked metric')}"
    )
    if len(better):
        return f"{start}, behind {_ranked_names(findings, better)}."
    rest = others.drop(equal.index)
    return (
        f"{start}; next {'are' if len(rest) > 1 else 'is'} {_ranked_names(findings, rest.head(2))}."
        if len(rest)
        else f"{start}."
    )


def _ranked_names(findings: RunAnalysis, table: pd.DataFrame) -> str:
    pairs = zip(table["explainer"], table["mean_rank"], strict=True)
    return format.listed([f"{findings.title(name)} ({format.rank(rank)})" for name, rank in pairs])


def _families(findings: RunAnalysis, model: str) -> str:
    parts = []
    for family in JUDGED:
        mine = findings.rank(model, findings.own_explainer or "", family)
        if np.isnan(mine):
            continue
        column = _standings(findings, model)[family]
        place = format.ordinal(int((column < mine - 1e-9).sum()) + 1)
        parts.append(f"{place} on {family} (mean rank {format.rank(mine)})")
    return f"By family it is {format.listed(parts)}." if parts else ""


def _metric_answers(findings: RunAnalysis, model: str) -> Iterable[MetricAnswer]:
    table = findings.paired[(findings.paired["model"] == model) & ~findings.paired["explainer"].isin(REFERENCES)]
    controls = _controls(findings)
    for metric, rows in table.groupby("metric", sort=False, observed=True):
        blind = rows["explainer"].isin(controls)
        own = findings.row(model, findings.own_explainer or "", str(metric))
        shown = format.interval(own["mean"], own["ci_low"], own["ci_high"]) if own is not None else format.DASH
        title = findings.data.metrics[str(metric)].title
        yield MetricAnswer(title, shown, _sorted(findings, rows[~blind]), _sorted(findings, rows[blind]))


def _sorted(findings: RunAnalysis, rows: pd.DataFrame) -> dict[str, list[str]]:
    return {
        verdict: [findings.title(name) for name in rows[rows["verdict"] == verdict]["explainer"]]
        for verdict in VERDICTS
    }


def _comparisons(lines: list[MetricAnswer], whom: str, verdicts: list[dict[str, list[str]]]) -> str:
    counts = {name: sum(len(verdict[name]) for verdict in verdicts) for name in VERDICTS}
    total = sum(counts.values())
    if total == 0:
        return ""
    result = f"ahead in {counts['ahead']}, level in {counts['level']} and behind in {counts['behind']}"
    where = [line.title for line, verdict in zip(lines, verdicts, strict=True) if verdict["behind"]]
    share = f"{len(where)} of {format.plural(len(lines), 'metric')}"
    losses = f" It is behind at least one of them on {share}." if where else ""
    return f"Image by image against the {whom}, in {format.plural(total, 'comparison')}, it is {result}.{losses}"


def _cost(findings: RunAnalysis, model: str) -> str:
    own, rest = "", []
    for info in findings.explainers():
        forwards, seconds = (findings.row(model, info.name, cost) for cost in ("forwards", "seconds"))
        if info.control or forwards is None or seconds is None:
            continue
        if info.name == findings.own_explainer:
            passes = format.plain(forwards["mean"])
            plural = "" if passes == "1" else "es"
            own = f"One explanation takes {passes} forward pass{plural} and {format.short_time(seconds['mean'])}"
        else:
            rest.append((info.title, float(forwards["mean"]), float(seconds["mean"])))
    if not own or not rest:
        return ""
    if len(rest) > MOST_NAMED:
        return f"{own}; {_range(rest)}."
    return f"{own}; {format.listed([f'{t} takes {format.plain(f)} and {format.short_time(s)}' for t, f, s in rest])}."


def _range(costs: list[tuple[str, float, float]]) -> str:
    """Least, median and greatest cost of many explainers."""
    forwards, seconds = (np.quantile([cost[place] for cost in costs], [0, 0.5, 1]) for place in (1, 2))
    passes, times = [format.plain(value) for value in forwards], [format.short_time(value) for value in seconds]
    return (
        f"the {len(costs)} external ones take {passes[0]} to {passes[2]} (median {passes[1]}) and {times[0]} to "
        f"{times[2]} (median {times[1]})"
    )


def _standings(findings: RunAnalysis, model: str) -> pd.DataFrame:
    return findings.ranks[findings.ranks["model"] == model]


def _controls(findings: RunAnalysis) -> set[str]:
    return {info.name for info in findings.data.explainers.values() if info.control}
