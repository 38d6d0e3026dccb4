"""Runs and parsers for tests of tables, figures and page."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from benchmarks.report import RunData, analyse
from benchmarks.statistics import Resampling
from benchmarks.statistics.analysis import RunAnalysis
from benchmarks.store.record import RunRecord
from helpers import runs as synthetic

NOTHING = RunData(RunRecord(), pd.DataFrame())


def few_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Select three scores of four explainers, which are quick to draw."""
    explainers = ["lap", "lime", "random", "mask"]
    return scores[scores["metric"].isin(["mass", "pf_diff", "forwards"]) & scores["explainer"].isin(explainers)]


def visible_panels(figure: Figure) -> list[Any]:
    """Return the axes of a figure that are not switched off."""
    return [axes for axes in figure.axes if axes.axison]


class Tags(HTMLParser):
    """Tags of a page with their attributes; an unclosed one fails."""

    VOID = frozenset({"meta", "img", "source", "br", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def analyse_shifted(explainer: str, by: float) -> RunAnalysis:
    """Analyse the made-up run with one explainer better (or worse) on every score."""
    data = synthetic.run(images=16)
    scores = data.scores.copy()
    is_lower_better = scores["metric"].isin(["pf_morf"])
    rows = scores["explainer"] == explainer
    scores.loc[rows, "value"] += np.where(is_lower_better[rows], -by, by)
    return analyse(RunData(data.record.model_copy(deep=True), scores), Resampling(resamples=200))


def full_run(images: int = 24, seeds: tuple[int, ...] = (0,)) -> RunData:
    """Return a run with all that the report knows: areas, transformed maps, audit, caveats, traceback."""
    meta = synthetic.meta()
    meta["dataset"]["areas"] = synthetic.areas(images)
    scores = synthetic.transformed(synthetic.scores(images, seeds=seeds))
    return RunData(RunRecord.model_validate(meta), scores, synthetic.gallery(images=5, size=32))


def with_random_first(metric: str) -> RunData:
    """Return the full run with random maps first on one metric."""
    data = full_run()
    scores = data.scores.copy()
    scores.loc[(scores["metric"] == metric) & (scores["explainer"] == "random"), "value"] += 5
    return RunData(data.record, scores, data.gallery)


class Section(HTMLParser):
    """Text of one section of the page."""

    def __init__(self, page: str, name: str) -> None:
        super().__init__()
        self.inside, self.parts, self.name = False, [], name
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self.inside = dict(attrs).get("id") == self.name

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.parts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.parts).split())
