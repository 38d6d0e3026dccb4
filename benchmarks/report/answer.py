"""The question of a run and its answer in sentences, made from the tables alone, whoever wins."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field

import numpy as np
import pandas as pd

from benchmarks.report import words
from benchmarks.report.data import Findings, ModelInfo
from benchmarks.statistics import REFERENCES

QUESTION = (
    "Judged on the same network, the same images and the same metrics: are the explanations a network gives of itself "
    "better than those that external explainers compute for it?"
)
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
    """The answer for one model: a headline, sentences, and a line per ranked metric."""

    headline: str
    sentences: list[str] = field(default_factory=list)
    metrics: list[MetricAnswer] = field(default_factory=list)


def answers(findings: Findings) -> list[Answer]:
    """One answer per model that explains itself and has ranks; one that says why not, where there is none."""
    if findings.summary.empty:
        return [Answer("No scores have been computed yet, so there is no answer yet.")]
    models = [info for info in findings.models() if not np.isnan(findings.rank(info.name, findings.own or ""))]
    if not models:
        return [
            Answer(
                "No network in this run has been ranked with an explanation of its own: there is nothing to compare."
            )
        ]
    return [_answer(findings, model) for model in models]


def twins(findings: Findings) -> list[str]:
    """Sentences on the networks without an explanation of their own, and on the accuracy of all."""
    sentences = []
    for model in findings.models():
        table = _standings(findings, model.name)
        table = table[~table["explainer"].isin(_controls(findings))]
        if len(table) and findings.own not in set(table["explainer"]):
            leaders = table[table["mean_rank"] <= table["mean_rank"].min() + 1e-9]
            names = words.listed([_title(findings, name) for name in leaders["explainer"]])
            have = "has" if len(leaders) == 1 else "share"
            best = words.rank(table["mean_rank"].min())
            sentences.append(
                f"On {model.title}, which has no explanation of its own, {names} {have} the best mean rank ({best})."
            )
    known = [info for info in findings.data.models.values() if not np.isnan(info.test_accuracy)]
    if known:
        shares = words.listed([f"{words.percent(info.test_accuracy)} ({info.title})" for info in known])
        sentences.append(f"Share of test images classified correctly: {shares}.")
    return sentences


def caveats(findings: Findings) -> list[str]:
    """What the answer does not say."""
    seeds = len(findings.data.part("seeds", []))
    training = f"{words.plural(seeds, 'seed')}" if seeds else "an unknown number of seeds"
    notes = [
        f"This is one data set and {training}: it is no general claim. The intervals cover the choice of images, not "
        "of the training run.",
        "Ahead and behind mean that the 95 % interval of the paired difference leaves out zero; the intervals are not "
        "corrected for the number of comparisons. Mean ranks count the controls among the contestants, the evidence "
        "mask not.",
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


def _answer(findings: Findings, model: ModelInfo) -> Answer:
    lines = list(_metric_answers(findings, model.name))
    sentences = [
        _families(findings, model.name),
        _comparisons(lines, "external explainers", [line.external for line in lines]),
        _comparisons(lines, "controls, which know nothing of the network", [line.controls for line in lines]),
        _cost(findings, model.name),
    ]
    return Answer(_headline(findings, model), [text for text in sentences if text], lines)


def _headline(findings: Findings, model: ModelInfo) -> str:
    own = _title(findings, findings.own or "")
    table = _standings(findings, model.name)
    mine = table[table["explainer"] == findings.own].iloc[0]
    others = table[table["explainer"] != findings.own]
    better = others[others["mean_rank"] < mine["mean_rank"] - 1e-9]
    equal = others[(others["mean_rank"] - mine["mean_rank"]).abs() <= 1e-9]
    place = words.ordinal(len(better) + 1)
    start = (
        f"On {model.title}, {own} {'shares' if len(equal) else 'takes'} {place} place among {len(table)} contestants: "
        f"mean rank {words.rank(mine['mean_rank'])} over {words.plural(int(mine['metrics']), 'ranked metric')}"
    )
    if len(better):
        return f"{start}, behind {_ranked_names(findings, better)}."
    rest = others.drop(equal.index)
    return (
        f"{start}; next {'are' if len(rest) > 1 else 'is'} {_ranked_names(findings, rest.head(2))}."
        if len(rest)
        else f"{start}."
    )


def _ranked_names(findings: Findings, table: pd.DataFrame) -> str:
    pairs = zip(table["explainer"], table["mean_rank"], strict=True)
    return words.listed([f"{_title(findings, name)} ({words.rank(rank)})" for name, rank in pairs])


def _families(findings: Findings, model: str) -> str:
    parts = []
    for family in ("localisation", "faithfulness"):
        mine = findings.rank(model, findings.own or "", family)
        if np.isnan(mine):
            continue
        column = _standings(findings, model)[family]
        place = words.ordinal(int((column < mine - 1e-9).sum()) + 1)
        parts.append(f"{place} on {family} (mean rank {words.rank(mine)})")
    return f"By family it is {words.listed(parts)}." if parts else ""


def _metric_answers(findings: Findings, model: str) -> Iterable[MetricAnswer]:
    table = findings.paired[(findings.paired["model"] == model) & ~findings.paired["explainer"].isin(REFERENCES)]
    controls = _controls(findings)
    for metric, rows in table.groupby("metric", sort=False, observed=True):
        blind = rows["explainer"].isin(controls)
        own = findings.row(model, findings.own or "", str(metric))
        shown = words.interval(own["mean"], own["ci_low"], own["ci_high"]) if own is not None else words.DASH
        title = findings.data.metrics[str(metric)].title
        yield MetricAnswer(title, shown, _sorted(findings, rows[~blind]), _sorted(findings, rows[blind]))


def _sorted(findings: Findings, rows: pd.DataFrame) -> dict[str, list[str]]:
    return {
        verdict: [_title(findings, name) for name in rows[rows["verdict"] == verdict]["explainer"]]
        for verdict in VERDICTS
    }


def _comparisons(lines: list[MetricAnswer], whom: str, verdicts: list[dict[str, list[str]]]) -> str:
    counts = {name: sum(len(verdict[name]) for verdict in verdicts) for name in VERDICTS}
    total = sum(counts.values())
    if total == 0:
        return ""
    result = f"ahead in {counts['ahead']}, level in {counts['level']} and behind in {counts['behind']}"
    where = [line.title for line, verdict in zip(lines, verdicts, strict=True) if verdict["behind"]]
    share = f"{len(where)} of {words.plural(len(lines), 'metric')}"
    losses = f" It is behind at least one of them on {share}." if where else ""
    return f"Image by image against the {whom}, in {words.plural(total, 'comparison')}, it is {result}.{losses}"


def _cost(findings: Findings, model: str) -> str:
    own, rest = "", []
    for info in findings.explainers():
        forwards, seconds = (findings.row(model, info.name, cost) for cost in ("forwards", "seconds"))
        if info.control or forwards is None or seconds is None:
            continue
        passes, time = words.plain(forwards["mean"]), words.short_time(seconds["mean"])
        if info.name == findings.own:
            own = f"One explanation takes {passes} forward pass{'' if passes == '1' else 'es'} and {time}"
        else:
            rest.append(f"{info.title} takes {passes} and {time}")
    return f"{own}; {words.listed(rest)}." if own and rest else ""


def _standings(findings: Findings, model: str) -> pd.DataFrame:
    return findings.ranks[findings.ranks["model"] == model]


def _controls(findings: Findings) -> set[str]:
    return {info.name for info in findings.data.explainers.values() if info.control}


def _title(findings: Findings, name: str) -> str:
    info = findings.data.explainers.get(name)
    return info.title if info else name
