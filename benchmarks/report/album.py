"""Which figures a run gets, what is said about them, and their files.

A run that lacks what a figure needs (no model, no score of a family, no gallery) goes without that figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.files import write_whole
from benchmarks.report.data import Findings
from benchmarks.report.figures import cost_figure, ranks_figure, scores_figure
from benchmarks.report.gallery import gallery_figure
from benchmarks.report.style import DPI, render

SHOWN = {"gallery": "png"}  # how the page shows a section; svg if not named
SCORE_NOTE = (
    "Dots: mean over images. Bars: 95 % bootstrap interval. Compare within one colour: two networks also differ in "
    "what there is to explain."
)
BAND_NOTE = "A score inside the grey band is one that a control, which knows nothing of the network, reaches as well."
GALLERY_NOTE = (
    "Each map is scaled by itself, so brightness compares places within a picture, not pictures with each other. Of "
    "signed maps the positive part is shown. Above each picture: its class, which is the one explained."
)


@dataclass(frozen=True)
class Plate:
    """A finished figure: its section of the page, its words, and its files by ending ("png", "svg").

    The narrow form exists only as the page shows it: galleries as png, all others as svg.
    """

    name: str
    section: str
    title: str
    caption: str
    wide: dict[str, bytes]
    narrow: dict[str, bytes]


def make_album(findings: Findings) -> list[Plate]:
    """All figures of a run."""
    return [*_ranks(findings), *_scores(findings), *_costs(findings), *_galleries(findings)]


def write_album(plates: list[Plate], folder: Path) -> list[Path]:
    """Write each figure as NAME.png and NAME.svg, and NAME_narrow as the page shows it; their paths."""
    return [
        write_whole(folder / f"{plate.name}{suffix}.{ending}", content)
        for plate in plates
        for suffix, files in (("", plate.wide), ("_narrow", plate.narrow))
        for ending, content in files.items()
    ]


def _plate(name: str, section: str, title: str, caption: str, make: Callable[[bool], Figure], dpi: int = DPI) -> Plate:
    figure = make(False)
    wide = {ending: render(figure, ending, dpi) for ending in ("png", "svg")}
    shown = SHOWN.get(section, "svg")
    return Plate(name, section, title, caption, wide, {shown: render(make(True), shown, dpi)})


def _ranks(findings: Findings) -> Iterator[Plate]:
    caption = (
        "Large markers: mean rank over the metrics. Ticks: the rank on each single metric, darker where several agree. "
        "The evidence mask is the answer itself and is not ranked."
    )
    if len(findings.ranks):
        yield _plate("mean_rank", "ranks", "Mean rank", caption, partial(ranks_figure, findings))


def _scores(findings: Findings) -> Iterator[Plate]:
    plates = {
        "localisation": (("localisation",), "Localisation: is the map on the evidence?", f"{SCORE_NOTE} {BAND_NOTE}"),
        "faithfulness": (("faithfulness",), "Faithfulness: does the network use it?", f"{SCORE_NOTE} {BAND_NOTE}"),
        "descriptors": (("descriptor", "cost"), "Descriptors and cost", f"{SCORE_NOTE} Never part of the mean rank."),
    }
    for name, (families, title, caption) in plates.items():
        if findings.models() and any(findings.metrics(family) for family in families):
            yield _plate(
                f"scores_{name}",
                "scores",
                title,
                caption,
                partial(scores_figure, findings, families),
            )


def _costs(findings: Findings) -> Iterator[Plate]:
    notes = {
        "forwards": "Backward passes are not counted here, but they take their time below. At 0: no pass at all.",
        "seconds": "On the device named under provenance; forward and backward passes and the library's own work.",
    }
    for cost, note in notes.items():
        info = findings.data.metrics.get(cost)
        if info is not None and info in findings.metrics(info.family) and len(findings.ranks):
            caption = f"Best is up (a low mean rank) and left (cheap). {note}"
            yield _plate(f"cost_{cost}", "cost", info.title, caption, partial(cost_figure, findings, cost))


def _galleries(findings: Findings) -> Iterator[Plate]:
    data = findings.data
    if data.gallery is None or len(data.gallery.images) == 0:
        return
    for model in data.models.values():
        if any(owner == model.name for owner, _ in data.gallery.maps):
            yield _plate(
                f"gallery_{model.name}", "gallery", model.title, GALLERY_NOTE,
                partial(gallery_figure, data, model.name), dpi=150,
            )  # fmt: skip
