"""The verdict of a run in three sentences: who is first, how certain that is, and where it loses.

The sentences are made from the tables of the analysis alone, so they hold for any run: with or without LAP, with one
explainer or many, on one network or several, finished or not. "First" means the best mean rank over the metrics that
pass the gate; controls take part, the evidence mask does not. "Better" and "behind" on a metric mean that the 95 %
interval of the paired difference leaves out zero.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.report import format
from benchmarks.statistics import gate_failures
from benchmarks.statistics.analysis import RunAnalysis
from benchmarks.statistics.gate import FAILED
from benchmarks.statistics.summary import SEEDS_AND_IMAGES
from benchmarks.store.run_data import ModelInfo
from benchmarks.store.score_names import REFERENCES

TIE = 1e-9  # mean ranks that differ by less are equal
MAX_LOSSES_NAMED = 2
MAX_NETWORKS_NAMED = 3


@dataclass(frozen=True)
class Verdict:
    """Three sentences about a run.

    Attributes:
        leader: who is first, with the mean ranks of the first and of those behind it.
        certainty: by how much it is first, and whether that could be chance.
        losses: where LAP, or the first explainer of a run without it, is not the best.
    """

    leader: str
    certainty: str
    losses: str

    @property
    def sentences(self) -> tuple[str, str, str]:
        """The sentences in reading order."""
        return self.leader, self.certainty, self.losses


@dataclass(frozen=True)
class Standing:
    """An explainer's mean rank on one network, with its interval (NaN where there is none)."""

    explainer: str
    mean_rank: float
    low: float
    high: float
    metrics: int


def judge(analysis: RunAnalysis) -> Verdict:
    """Return the verdict of a run."""
    if analysis.summary.empty:
        return Verdict(
            "No scores have been computed yet, so no explainer is first.",
            "There is nothing to be certain about.",
            "Start the run again with the same configuration to compute what is missing.",
        )
    networks = networks_with_ranks(analysis)
    if not networks:
        return _nothing_ranked(analysis)
    self_explained = [
        model for model in networks if not np.isnan(analysis.rank(model.name, analysis.own_explainer or ""))
    ]
    networks = self_explained or networks
    contested = [model for model in networks if len(standings(analysis, model.name)) > 1]
    if not contested:
        return _without_opponent(analysis, networks[0])
    return _of_one_network(analysis, contested[0]) if len(contested) == 1 else _of_many_networks(analysis, contested)


def networks_with_ranks(analysis: RunAnalysis) -> list[ModelInfo]:
    """Return the networks with mean ranks, those with the own explainer first."""
    ranked = set(analysis.ranks.dropna(subset=["mean_rank"])["model"])
    networks = [model for model in analysis.models() if model.name in ranked]
    return sorted(networks, key=lambda model: bool(np.isnan(analysis.rank(model.name, analysis.own_explainer or ""))))


def standings(analysis: RunAnalysis, model: str) -> list[Standing]:
    """Return the contestants on a network, best mean rank first."""
    table = analysis.ranks[analysis.ranks["model"] == model].dropna(subset=["mean_rank"])
    contestants = [
        Standing(row["explainer"], row["mean_rank"], row.get("rank_low", np.nan), row.get("rank_high", np.nan),
                 int(row["metrics"]))
        for _, row in table.iterrows()
    ]  # fmt: skip
    return sorted(contestants, key=lambda contestant: contestant.mean_rank)


def position(contestants: Sequence[Standing], explainer: str) -> int:
    """Return the position of an explainer, 1 for the best.

    Equal mean ranks share a position.
    """
    (mean_rank,) = (contestant.mean_rank for contestant in contestants if contestant.explainer == explainer)
    return 1 + sum(contestant.mean_rank < mean_rank - TIE for contestant in contestants)


def _nothing_ranked(analysis: RunAnalysis) -> Verdict:
    gates = analysis.gates[analysis.gates["verdict"] == FAILED]
    if len(analysis.ranks) and len(gates):
        failed = [analysis.data.metrics[name].title for name in dict.fromkeys(gates["metric"])]
        return Verdict(
            "No metric of this run tells good maps from bad ones on this task, so no explainer is first.",
            f"{format.join_names(failed)} put random maps above the median explainer, or the median explainer above "
            "the evidence mask.",
            "The scores below are shown as they are and should not be read as a comparison.",
        )
    return Verdict(
        "No explainer has been ranked in this run, so no explainer is first.",
        "Ranks need at least two explainers and one ranked metric on the same network.",
        "The scores that there are stand below.",
    )


def _without_opponent(analysis: RunAnalysis, model: ModelInfo) -> Verdict:
    (contestant,) = standings(analysis, model.name)
    name = _name(analysis, contestant.explainer)
    return Verdict(
        _sentence(f"{_so_far(analysis)}{name} is the only ranked explainer on the network “{model.title}”."),
        "It has no opponent, so its rank says nothing about its quality.",
        "Add explainers to the configuration to compare it.",
    )


def _of_one_network(analysis: RunAnalysis, model: ModelInfo) -> Verdict:
    contestants = standings(analysis, model.name)
    return Verdict(
        _leader(analysis, model, contestants),
        _certainty(analysis, model.name, contestants),
        _losses(analysis, model.name, contestants),
    )


def _leader(analysis: RunAnalysis, model: ModelInfo, contestants: Sequence[Standing]) -> str:
    leaders = [row for row in contestants if row.mean_rank <= contestants[0].mean_rank + TIE]
    followers = contestants[len(leaders) :]
    verb = "is first"
    if len(leaders) > 1:
        verb = f"shares first place with {format.join_names([_name(analysis, row.explainer) for row in leaders[1:]])}"
    mean_rank = f"mean rank {format.decimals(leaders[0].mean_rank)} over {_metrics(leaders[0].metrics)}"
    before = f", before {_with_ranks(analysis, followers[:2])}" if followers else ""
    subject = _name(analysis, leaders[0].explainer)
    return _sentence(f"{_so_far(analysis)}{subject} {verb} on the network “{model.title}”: {mean_rank}{before}.")


def _certainty(analysis: RunAnalysis, model: str, contestants: Sequence[Standing]) -> str:
    winner, second = contestants[:2]
    name = _name(analysis, second.explainer)
    lead = second.mean_rank - winner.mean_rank
    duel = _duel(analysis, model, winner, second)
    if lead <= TIE:
        return f"The mean ranks do not decide between it and {name}{duel}."
    lead_text = f"{format.decimals(lead)} ranks over {name}"
    if np.isnan([winner.high, second.low]).any():
        return f"Its lead is {lead_text}; there are too few images to say how certain that is{duel}."
    spans = f"{_span(winner)} against {_span(second)}"
    if winner.high < second.low:
        return f"Its lead of {lead_text} is firm: the 95 % intervals do not overlap ({spans}){duel}."
    draws = "images and training seeds" if _resamples_seeds(analysis) else "images"
    doubt = f"the 95 % intervals overlap ({spans}), so other {draws} could reverse it"
    return f"Its lead of {lead_text} is not certain: {doubt}{duel}."


def _duel(analysis: RunAnalysis, model: str, winner: Standing, second: Standing) -> str:
    """Count the metrics on which the own explainer beats its rival image by image.

    Empty if the own explainer is not among the first two.
    """
    pair = {winner.explainer, second.explainer}
    if analysis.own_explainer not in pair:
        return ""
    (opponent,) = pair - {analysis.own_explainer}
    rows = _comparisons(analysis, model)
    verdicts = rows[rows["explainer"] == opponent]["verdict"]
    if verdicts.empty:
        return ""
    better, worse = (int((verdicts == verdict).sum()) for verdict in ("ahead", "behind"))
    title = analysis.title(analysis.own_explainer)
    return f"; image by image {title} is better on {better} of {_metrics(len(verdicts))} and worse on {worse or 'none'}"


def _losses(analysis: RunAnalysis, model: str, contestants: Sequence[Standing]) -> str:
    standing = next((row for row in contestants if row.explainer == analysis.own_explainer), None)
    if standing is None:
        return _weakest_metric(analysis, model, contestants[0])
    title, rank = analysis.title(standing.explainer), position(contestants, standing.explainer)
    subject = title
    if rank > 1:
        subject = f"{title} comes {format.ordinal(rank)} ({format.decimals(standing.mean_rank)}): it"
    rows = _comparisons(analysis, model)
    if rows.empty:
        return f"{subject} cannot be compared image by image, because too few images have been scored."
    total = _metrics(rows["metric"].nunique())
    behind = rows[rows["verdict"] == "behind"]
    if behind.empty:
        better = int((rows["verdict"] == "ahead").sum())
        return (
            f"{subject} is not behind any contestant on any of {total}, and better in {better} of {len(rows)} "
            "comparisons image by image."
        )
    clearest = _clearest_losses(analysis, model, behind)
    return f"{subject} loses to at least one contestant on {behind['metric'].nunique()} of {total}{clearest}."


def _clearest_losses(analysis: RunAnalysis, model: str, behind: pd.DataFrame) -> str:
    """Return the metrics with the clearest losses, each with both means."""
    clearest = behind.sort_values("rank_biserial", kind="stable").drop_duplicates("metric")
    texts = []
    for _, row in clearest.head(MAX_LOSSES_NAMED).iterrows():
        metric = analysis.data.metrics[row["metric"]]
        mine = analysis.row(model, str(analysis.own_explainer), metric.name)
        theirs = analysis.row(model, row["explainer"], metric.name)
        if mine is not None and theirs is not None:
            scores = f"{_score(mine)} against {_score(theirs)} of {_name(analysis, row['explainer'])}"
            texts.append(f"{metric.title} ({scores})")
    return f"{', most clearly on' if len(clearest) > MAX_LOSSES_NAMED else ':'} {format.join_names(texts)}"


def _weakest_metric(analysis: RunAnalysis, model: str, winner: Standing) -> str:
    """Return where the winner of a run without LAP is furthest from first."""
    rows = analysis.summary[(analysis.summary["model"] == model) & analysis.summary["rank"].notna()]
    rows = rows[~_is_gated(analysis, rows)]
    mine = rows[rows["explainer"] == winner.explainer]
    name = _name(analysis, winner.explainer)
    if mine.empty or mine["rank"].max() <= 1:
        return _sentence(f"{name} is best on every metric that counts.")
    row = mine.sort_values("rank", ascending=False, kind="stable").iloc[0]
    best = rows[rows["metric"] == row["metric"]].sort_values("rank", kind="stable").iloc[0]
    scores = f"{_score(row)} against {_score(best)} of {_name(analysis, best['explainer'])}"
    metric = analysis.data.metrics[row["metric"]].title
    return _sentence(f"{name} is weakest on {metric}, where it has rank {format.rank(row['rank'])}: {scores}.")


def _of_many_networks(analysis: RunAnalysis, networks: Sequence[ModelInfo]) -> Verdict:
    boards = {model.title: standings(analysis, model.name) for model in networks}
    subject = _subject(analysis, list(boards.values()))
    boards = {title: board for title, board in boards.items() if subject in {row.explainer for row in board}}
    won = [board for board in boards.values() if position(board, subject) == 1]
    firm = [board for board in won if len(board) > 1 and board[0].high < board[1].low]
    means = [row.mean_rank for board in boards.values() for row in board if row.explainer == subject]
    low, high = format.decimals(min(means)), format.decimals(max(means))
    span = f"its mean rank is {low} on each" if low == high else f"its mean ranks lie between {low} and {high}"
    leader = f"{_name(analysis, subject)} is first on {len(won) or 'none'} of {len(boards)} networks; {span}."
    return Verdict(
        _sentence(_so_far(analysis) + leader),
        _certainty_of_many(len(won), len(firm)),
        _lost_networks(analysis, boards, subject) or _lost_comparisons(analysis, networks, subject),
    )


def _certainty_of_many(won: int, firm: int) -> str:
    if not won:
        return "It leads on none of them, so there is no lead to be certain of."
    if not firm:
        return "Its lead is not certain on any of them, because the 95 % intervals of the first two overlap."
    return f"Its lead is firm on {firm} of these {won}: there the 95 % intervals of the first two do not overlap."


def _subject(analysis: RunAnalysis, boards: Sequence[Sequence[Standing]]) -> str:
    """Return the own explainer, or the most frequent winner where it has no rank."""
    if any(row.explainer == analysis.own_explainer for board in boards for row in board):
        return str(analysis.own_explainer)
    winners = [board[0].explainer for board in boards]
    return max(dict.fromkeys(winners), key=winners.count)


def _lost_networks(analysis: RunAnalysis, boards: Mapping[str, Sequence[Standing]], subject: str) -> str:
    name = _name(analysis, subject)
    positions = {title: position(board, subject) for title, board in boards.items()}
    lost = sorted((title for title in boards if positions[title] > 1), key=lambda title: -positions[title])
    if not lost:
        return ""
    texts = [
        f"“{title}” ({format.ordinal(positions[title])}, behind {_name(analysis, boards[title][0].explainer)})"
        for title in lost[:MAX_NETWORKS_NAMED]
    ]
    if len(lost) > len(texts):
        texts.append(f"{len(lost) - len(texts)} more")
    return _sentence(f"{name} is not first on {format.plural(len(lost), 'network')}: {format.join_names(texts)}.")


def _lost_comparisons(analysis: RunAnalysis, networks: Sequence[ModelInfo], subject: str) -> str:
    start = f"{_name(analysis, subject)} is first on every network"
    verdicts = pd.concat([_comparisons(analysis, model.name)["verdict"] for model in networks])
    if subject != analysis.own_explainer or verdicts.empty:
        return _sentence(f"{start}.")
    behind = int((verdicts == "behind").sum())
    return f"{start}, and image by image it is behind in {behind or 'none'} of {len(verdicts)} comparisons."


def _comparisons(analysis: RunAnalysis, model: str) -> pd.DataFrame:
    """Return the paired comparisons of a network on the metrics that pass the gate."""
    rows = analysis.paired[(analysis.paired["model"] == model) & ~analysis.paired["explainer"].isin(REFERENCES)]
    rows = rows[rows["verdict"].isin(["ahead", "level", "behind"])]
    return rows[~_is_gated(analysis, rows)]


def _is_gated(analysis: RunAnalysis, rows: pd.DataFrame) -> pd.Series:
    gated = gate_failures(analysis.gates)
    flags = [(model, metric) in gated for model, metric in zip(rows["model"], rows["metric"], strict=True)]
    return pd.Series(flags, index=rows.index, dtype=bool)


def _name(analysis: RunAnalysis, explainer: str) -> str:
    info = analysis.data.explainers.get(explainer)
    title = analysis.title(explainer)
    return f"the control {title}" if info is not None and info.control else title


def _with_ranks(analysis: RunAnalysis, contestants: Sequence[Standing]) -> str:
    names = [f"{_name(analysis, row.explainer)} ({format.decimals(row.mean_rank)})" for row in contestants]
    return format.join_names(names)


def _metrics(amount: int) -> str:
    return format.plural(amount, "metric")


def _span(standing: Standing) -> str:
    return f"{format.decimals(standing.low)} to {format.decimals(standing.high)}"


def _score(row: Any) -> str:
    return format.number(row["mean"])


def _resamples_seeds(analysis: RunAnalysis) -> bool:
    return bool((analysis.summary["resampled"] == SEEDS_AND_IMAGES).any())


def _sentence(text: str) -> str:
    return text.replace("the ", "The ", 1) if text.startswith("the ") else text


def _so_far(analysis: RunAnalysis) -> str:
    return "" if analysis.data.record.finished else "So far, "
