"""How firm the answer is, in sentences: corrected tests, intervals of ranks, what metrics tell apart, the gate.

Each takes findings and the name of a model, and gives a sentence, or nothing where there is nothing to say.
"""

from __future__ import annotations

import numpy as np

from benchmarks.report import format
from benchmarks.statistics import count_significant
from benchmarks.statistics.analysis import RunAnalysis
from benchmarks.statistics.gate import DOUBTFUL, FAILED
from benchmarks.statistics.summary import SEEDS_AND_IMAGES
from benchmarks.store.score_names import REFERENCES


def corrected(findings: RunAnalysis, model: str) -> str:
    """How many verdicts of the paired table hold after correction."""
    table = findings.paired[(findings.paired["model"] == model) & ~findings.paired["explainer"].isin(REFERENCES)]
    told = table["verdict"].isin(["ahead", "behind"]).sum()
    if not told:
        return ""
    return (
        f"Of the {format.plural(int(told), 'verdict')} of ahead or behind, {count_significant(table)} hold at 5 % by "
        "Wilcoxon's signed-rank test after Holm's correction over all comparisons on this network."
    )


def span(findings: RunAnalysis, model: str) -> str:
    """Between which mean ranks the own explainer moves when images are drawn again."""
    row = findings.ranks[findings.ranks["model"] == model].set_index("explainer").loc[findings.own_explainer]
    if "rank_low" not in row or np.isnan(row["rank_low"]):
        return ""
    ends = f"{format.rank(row['rank_low'])} and {format.rank(row['rank_high'])}"
    return f"With {_drawn(findings)} drawn anew, its mean rank lies between {ends} in 95 % of cases."


def _drawn(findings: RunAnalysis) -> str:
    return SEEDS_AND_IMAGES if (findings.summary["resampled"] == SEEDS_AND_IMAGES).any() else "images"


def told_apart(findings: RunAnalysis, model: str) -> str:
    """Friedman's test, and from whom the critical difference separates the own explainer."""
    test = findings.tests.get(model)
    if test is None or findings.own_explainer not in test.ranks:
        return ""
    mine = float(test.ranks[str(findings.own_explainer)])
    apart = [str(name) for name in test.ranks.index if abs(test.ranks[name] - mine) >= test.critical]
    whom = format.listed([findings.title(name) for name in apart]) if len(apart) < 7 else f"{len(apart)} contestants"
    return (
        f"Over {format.plural(test.blocks, 'metric')} Friedman's test gives chi-squared "
        f"{format.number(test.statistic, 1)} (p {format.probability(test.p)}; Kendall's W "
        f"{format.number(test.concordance, 2)}). Mean ranks are told apart where they differ by "
        f"{format.number(test.critical, 3)} or more; that separates it from {whom or 'none of the others'}."
    )


def gated(findings: RunAnalysis, model: str) -> str:
    """Which metrics are left out, and which only just count."""
    rows = findings.gates[findings.gates["model"] == model]
    out = [findings.data.metrics[name].title for name in rows[rows["verdict"] == FAILED]["metric"]]
    unsure = [findings.data.metrics[name].title for name in rows[rows["verdict"] == DOUBTFUL]["metric"]]
    text = ""
    if out:
        text = f"Left out of the mean rank, because here they do not tell good maps from bad: {format.listed(out)}."
    if unsure:
        text += (
            f"{' ' if text else ''}Counted, but telling only within the noise of the images: {format.listed(unsure)}."
        )
    return text
