"""The verdict of a run in three sentences: who is first, how certain that is, and where it loses.

The sentences are made from the tables of the analysis alone, so they hold for any run: with or without LAP, with one
explainer or many, on one network or several, finished or not. "First" means the best mean rank over the metrics that
pass the gate; controls take part, the evidence mask does not. "Better" and "behind" on a metric mean that the 95 %
interval of the paired difference leaves out zero.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.report import format
from benchmarks.statistics import failed_metrics
from benchmarks.statistics.analysis import RunAnalysis
from benchmarks.statistics.gate import FAILED
from benchmarks.statistics.summary import SEEDS_AND_IMAGES
from benchmarks.store.run_data import MetricInfo, ModelInfo
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
    networks = ranked_networks(analysis)
    if not networks:
        return _nothing_ranked(analysis)
    self_explained = [
        model for model in networks if not np.isnan(analysis.rank(model.name, analysis.own_explainer or ""))
    ]
    networks = self_explained or networks
    return _of_one_network(analysis, networks[0]) if len(networks) == 1 else _of_many_networks(analysis, networks)


def ranked_networks(analysis: RunAnalysis) -> list[ModelInfo]:
    """Return the networks on which at least one explainer has a mean rank, those that LAP explains first."""
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
    """Return the position of an explainer, 1 for the best; equal mean ranks share a position."""
    (mean_rank,) = (contestant.mean_rank for contestant in contestants if contestant.explainer == explainer)
    return 1 + sum(contestant.mean_rank < mean_rank - TIE for contestant in contestants)


def _nothing_ranked(analysis: RunAnalysis) -> Verdict:
    gates = analysis.gates[analysis.gates["verdict"] == FAILED]
    if len(analysis.ranks) and len(gates):
        failed = [analysis.data.metrics[name].title for name in dict.fromkeys(gates["metric"])]
        return Verdict(
            "No metric of this run tells good maps from bad ones on this task, so no explainer is first.",
            f"{format.join_names(failed)} put random maps above the median explainer, or the median explainer above the "
            "evidence mask.",
            "The scores below are shown as they are and should not be read as a comparison.",
        )
    return Verdict(
        "No explainer has been ranked in this run, so no explainer is first.",
        "Ranks need at least two explainers and one ranked metric on the same network.",
        "The scores that there are stand below.",
    )


def _of_one_network(analysis: RunAnalysis, model: ModelInfo) -> Verdict:
    contestants = standings(analysis, model.name)
    if len(contestants) == 1:
        name = analysis.title(contestants[0].explainer)
        return Verdict(
            f"{_so_far(analysis)}{name} is the only ranked explainer on {model.title}.",
            "It has no opponent, so its rank says nothing about its quality.",
            "Add explainers to the configuration to compare it.",
        )
    return Verdict(
        _leader(analysis, model, contestants),
        _certainty(analysis, model.name, contestants),
        _losses(analysis, model.name, contestants),
    )


def _leader(analysis: RunAnalysis, model: ModelInfo, contestants: Sequence[Standing]) -> str:
    leaders = _leaders(contestants)
    followers = contestants[len(leaders) :]
    verb = "shares first place" if len(leaders) > 1 else "is first"
    partners = f" with {format.join_names([_name(analysis, leader) for leader in leaders[1:]])}"
    before = f", before {_with_ranks(analysis, followers[:2])}" if followers else ""
    return _sentence(
        f"{_so_far(analysis)}{_name(analysis, leaders[0])} {verb}{partners if len(leaders) > 1 else ''} on the network "
        f"“{model.title}”: mean rank {format.decimals(leaders[0].mean_rank)} over {format.plural(leaders[0].metrics, 'metric')}{before}."
    )


def _certainty(analysis: RunAnalysis, model: str, contestants: Sequence[Standing]) -> str:
    winner, second = contestants[:2]
    name = _name(analysis, second)
    lead = second.mean_rank - winner.mean_rank
    if lead <= TIE:
        return f"Between it and {name} the metrics of this run do not decide{_duel(analysis, model, winner, second)}."
    if np.isnan([winner.high, second.low]).any():
        return f"It leads {name} by {format.decimals(lead)} ranks; there are too few images to say how certain that is."
    spans = f"{_span(winner)} against {_span(second)}"
    chance = "images and training seeds" if _resamples_seeds(analysis) else "images"
    if winner.high < second.low:
        text = f"Its lead of {format.decimals(lead)} ranks over {name} is firm: the 95 % intervals do not overlap ({spans})"
    else:
        text = (
            f"Its lead of {format.decimals(lead)} ranks over {name} is not certain: the 95 % intervals overlap ({spans}), "
            f"so other {chance} could reverse it"
        )
    return f"{text}{_duel(analysis, model, winner, second)}."


def _duel(analysis: RunAnalysis, model: str, winner: Standing, second: Standing) -> str:
    """Return on how many metrics the winner beats the second image by image; empty if that was not tested."""
    pair = {winner.explainer, second.explainer}
    if analysis.own_explainer not in pair:
        return ""
    (opponent,) = pair - {analysis.own_explainer}
    rows = _paired(analysis, model)
    verdicts = rows[rows["explainer"] == opponent]["verdict"]
    if verdicts.empty:
        return ""
    better, worse = (int((verdicts == name).sum()) for name in ("ahead", "behind"))
    total = format.plural(len(verdicts), "metric")
    return f"; image by image {analysis.title(analysis.own_explainer)} is better on {better} of {total} and worse on {worse or 'none'}"


def _losses(analysis: RunAnalysis, model: str, contestants: Sequence[Standing]) -> str:
    names = [contestant.explainer for contestant in contestants]
    if analysis.own_explainer not in names:
        return _weakest_metric(analysis, model, contestants[0])
    own = str(analysis.own_explainer)
    title, place = analysis.title(own), position(contestants, own)
    rows = _paired(analysis, model)
    behind = rows[rows["verdict"] == "behind"]
    total = format.plural(rows["metric"].nunique(), "metric")
    start = "" if place == 1 else f"{title} comes {format.ordinal(place)} ({_rank_of(contestants, own)}): "
    if rows.empty:
        return f"{start or title + ' cannot be compared image by image: '}too few images have been scored."
    if behind.empty:
        better = int((rows["verdict"] == "ahead").sum())
        return (
            f"{start}{title if not start else 'it'} is not behind any contestant on any of {total}, "
            f"and better in {better} of {len(rows)} comparisons image by image."
        )
    lost = behind["metric"].nunique()
    subject = f"{title} loses" if not start else "it loses"
    return f"{start}{subject} to at least one contestant on {lost} of {total}{_named_losses(analysis, model, behind)}."


def _named_losses(analysis: RunAnalysis, model: str, behind: pd.DataFrame) -> str:
    """Return the metrics with the clearest losses, each with both means."""
    clearest = behind.sort_values("rank_biserial", kind="stable").drop_duplicates("metric")
    texts = []
    for _, row in clearest.head(MAX_LOSSES_NAMED).iterrows():
        metric = analysis.data.metrics[row["metric"]]
        mine = analysis.row(model, str(analysis.own_explainer), metric.name)
        theirs = analysis.row(model, row["explainer"], metric.name)
        if mine is not None and theirs is not None:
            scores = f"{_score(mine)} against {_score(theirs)} of {_explainer_name(analysis, row['explainer'])}"
            texts.append(f"{metric.title} ({scores})")
    return f"{', most clearly on' if len(clearest) > MAX_LOSSES_NAMED else ':'} {format.join_names(texts)}"


def _weakest_metric(analysis: RunAnalysis, model: str, winner: Standing) -> str:
    """Return where the winner of a run without LAP is furthest from first."""
    rows = analysis.summary[(analysis.summary["model"] == model) & analysis.summary["rank"].notna()]
    rows = rows[~_is_gated(analysis, rows)]
    mine = rows[rows["explainer"] == winner.explainer]
    name = analysis.title(winner.explainer)
    if mine.empty or mine["rank"].max() <= 1:
        return f"{name} is best on every metric that counts; this network has no explanation of its own to compare."
    row = mine.loc[mine["rank"].idxmax()]
    best = rows[rows["metric"] == row["metric"]].sort_values("rank", kind="stable").iloc[0]
    metric: MetricInfo = analysis.data.metrics[row["metric"]]
    return (
        f"{name} is weakest on {metric.title}, rank {format.rank(row['rank'])}: {_score(row)} against {_score(best)} of "
        f"{_explainer_name(analysis, best['explainer'])}."
    )


def _of_many_networks(analysis: RunAnalysis, networks: Sequence[ModelInfo]) -> Verdict:
    boards = {model.title: standings(analysis, model.name) for model in networks}
    subject = (
        str(analysis.own_explainer) if _takes_part(boards, analysis.own_explainer) else _most_frequent_winner(boards)
    )
    boards = {title: board for title, board in boards.items() if subject in {row.explainer for row in board}}
    first = {title: board for title, board in boards.items() if position(board, subject) == 1}
    firm = [title for title, board in first.items() if len(board) > 1 and board[0].high < board[1].low]
    means = sorted(row.mean_rank for board in boards.values() for row in board if row.explainer == subject)
    name = analysis.title(subject)
    leader = (
        f"{_so_far(analysis)}{name} is first on {len(first)} of the {len(boards)} networks it explains; its mean ranks "
        f"lie between {format.decimals(means[0])} and {format.decimals(means[-1])}."
    )
    certainty = (
        f"On {len(firm)} of these {len(first)} its lead is firm, because the 95 % intervals of the first two do not overlap."
        if first
        else "Nowhere does it lead, so there is no lead to be certain of."
    )
    return Verdict(leader, certainty, _lost_networks(analysis, boards, subject))


def _lost_networks(analysis: RunAnalysis, boards: dict[str, list[Standing]], subject: str) -> str:
    lost = [(position(board, subject), title, board) for title, board in boards.items() if position(board, subject) > 1]
    name = analysis.title(subject)
    if not lost:
        return f"{name} is first on every network, though not on every metric: the tables show each."
    lost.sort(key=lambda entry: -entry[0])
    texts = [
        f"{title} ({format.ordinal(place)}, behind {_name(analysis, board[0])})"
        for place, title, board in lost[:MAX_NETWORKS_NAMED]
    ]
    others = f" and {len(lost) - len(texts)} more" if len(lost) > len(texts) else ""
    names = f"{', '.join(texts)}{others}" if others else format.join_names(texts)
    return f"{name} loses on {format.plural(len(lost), 'network')}: {names}."


def _takes_part(boards: dict[str, list[Standing]], explainer: str | None) -> bool:
    return any(row.explainer == explainer for board in boards.values() for row in board)


def _most_frequent_winner(boards: dict[str, list[Standing]]) -> str:
    winners = [board[0].explainer for board in boards.values()]
    return max(dict.fromkeys(winners), key=winners.count)


def _leaders(contestants: Sequence[Standing]) -> list[Standing]:
    return [row for row in contestants if row.mean_rank <= contestants[0].mean_rank + TIE]


def _paired(analysis: RunAnalysis, model: str) -> pd.DataFrame:
    """Return the paired comparisons of a network on the metrics that pass the gate."""
    rows = analysis.paired[(analysis.paired["model"] == model) & ~analysis.paired["explainer"].isin(REFERENCES)]
    rows = rows[rows["verdict"].isin(["ahead", "level", "behind"])]
    return rows[~_is_gated(analysis, rows)]


def _is_gated(analysis: RunAnalysis, rows: pd.DataFrame) -> pd.Series:
    gated = failed_metrics(analysis.gates)
    flags = [(model, metric) in gated for model, metric in zip(rows["model"], rows["metric"], strict=True)]
    return pd.Series(flags, index=rows.index, dtype=bool)


def _name(analysis: RunAnalysis, standing: Standing) -> str:
    return _explainer_name(analysis, standing.explainer)


def _explainer_name(analysis: RunAnalysis, explainer: str) -> str:
    info = analysis.data.explainers.get(explainer)
    title = analysis.title(explainer)
    return f"the control {title}" if info is not None and info.control else title


def _with_ranks(analysis: RunAnalysis, contestants: Sequence[Standing]) -> str:
    return format.join_names([f"{_name(analysis, row)} ({format.decimals(row.mean_rank)})" for row in contestants])


def _rank_of(contestants: Sequence[Standing], explainer: str) -> str:
    return format.decimals(next(row.mean_rank for row in contestants if row.explainer == explainer))


def _span(standing: Standing) -> str:
    return f"{format.decimals(standing.low)} to {format.decimals(standing.high)}"


def _score(row: Any) -> str:
    return format.number(row["mean"])


def _resamples_seeds(analysis: RunAnalysis) -> bool:
    return bool((analysis.summary["resampled"] == SEEDS_AND_IMAGES).any())


def _sentence(text: str) -> str:
    return text.replace("the ", "The ", 1) if text.startswith("the ") else text


def _so_far(analysis: RunAnalysis) -> str:
    return "" if analysis.data.meta.get("finished") else "So far, "
