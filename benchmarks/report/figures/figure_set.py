"""Which figures a run gets, what is said about them, and their files.

A run that lacks what a figure needs (no model, no score of a family, no gallery) goes without that figure.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from benchmarks.report import format
from benchmarks.report.figures.critical_difference import critical_figure
from benchmarks.report.figures.gallery import gallery_figure
from benchmarks.report.figures.scores import cost_figure, ranks_figure, scores_figure
from benchmarks.report.figures.sizes import sizes_figure
from benchmarks.report.figures.style import DPI, render
from benchmarks.statistics.analysis import RunAnalysis
from benchmarks.store.atomic import write_atomically

SHOWN = "svg"  # the form of the page
FORMS = ("png", "svg", "pdf")
SCORE_NOTE = (
    "Dots: mean over images. Bars: 95 % bootstrap interval, over training seeds too where there are several. Compare "
    "within one colour: two networks also differ in what there is to explain."
)
BAND_NOTE = "A score inside the grey band is one that a control, which knows nothing of the network, reaches as well."
CRITICAL_NOTE = (
    "Mean ranks, 1 is best. A thick bar joins explainers whose mean ranks the metrics do not tell apart (Nemenyi, "
    "5 %). Metrics of one run judge the same maps and are no independent blocks, so read this as a guide."
)
SIZE_NOTE = (
    "Mean over the images with small, medium and large evidence (thirds). Where markers lie far apart, the mean over "
    "all images depends on what is photographed."
)
GALLERY_NOTE = (
    "Each map is scaled by itself, so brightness compares places within a picture, not pictures with each other. Of "
    "signed maps the positive part is shown. Above each picture: its class, which is the one explained."
)


# Rows of a gallery beyond which its pictures are kept smaller: the page holds them all.
MANY = 12


@dataclass(frozen=True)
class Plate:
    """A finished figure: its section of the page, its words, and its files by ending (`FORMS`).

    The narrow form exists only as the page shows it, as svg.
    """

    name: str
    section: str
    title: str
    caption: str
    wide: dict[str, bytes]
    narrow: dict[str, bytes]


@dataclass(frozen=True)
class Sketch:
    """A figure before it is drawn: `make(narrow)` draws it."""

    name: str
    section: str
    title: str
    caption: str
    make: Callable[[bool], Figure]
    dpi: int = DPI


def make_album(findings: RunAnalysis, forms: Sequence[str] = FORMS) -> list[Plate]:
    """All figures of a run, in these forms and the one the page shows."""
    makers = (_ranks, _scores, _sizes, _costs, _galleries)
    return [_drawn(sketch, forms) for make in makers for sketch in make(findings)]


def write_album(plates: list[Plate], folder: Path) -> list[Path]:
    """Write each figure as NAME.png, NAME.svg and NAME.pdf, and NAME_narrow as the page shows it; their paths."""
    return [
        write_atomically(folder / f"{plate.name}{suffix}.{ending}", content)
        for plate in plates
        for suffix, files in (("", plate.wide), ("_narrow", plate.narrow))
        for ending, content in files.items()
    ]


def _drawn(sketch: Sketch, forms: Sequence[str]) -> Plate:
    figure = sketch.make(False)
    # each form lays out anew: letters are not equally wide in all of them
    wide = {form: render(figure, form, sketch.dpi) for form in dict.fromkeys((*forms, SHOWN))}
    narrow = {SHOWN: render(sketch.make(True), SHOWN, sketch.dpi)}
    return Plate(sketch.name, sketch.section, sketch.title, sketch.caption, wide, narrow)


def _ranks(findings: RunAnalysis) -> Iterator[Sketch]:
    caption = (
        "Large markers: mean rank over the metrics that pass the gate, or over all where the panel says so. Ticks: the "
        "rank on each of them, darker where several agree. "
        "The evidence mask is the answer itself and is not ranked."
    )
    if findings.ranks["mean_rank"].notna().any():
        yield Sketch("mean_rank", "ranks", "Mean rank", caption, partial(ranks_figure, findings))
    if findings.tests:
        yield Sketch(
            "critical_difference", "critical", "Critical difference", CRITICAL_NOTE, partial(critical_figure, findings)
        )


def _scores(findings: RunAnalysis) -> Iterator[Sketch]:
    plates = {
        "localisation": (("localisation",), "Localisation: is the map on the evidence?", f"{SCORE_NOTE} {BAND_NOTE}"),
        "faithfulness": (("faithfulness",), "Faithfulness: does the network use it?", f"{SCORE_NOTE} {BAND_NOTE}"),
        "robustness": (("robustness",), "Robustness: do small changes matter?", f"{SCORE_NOTE} {BAND_NOTE}"),
        "checks": (("check",), "Checks: does the map depend on the network?", f"{SCORE_NOTE} Never ranked."),
        "descriptors": (("descriptor", "cost"), "Descriptors and cost", f"{SCORE_NOTE} Never part of the mean rank."),
    }
    for name, (families, title, caption) in plates.items():
        if findings.models() and any(findings.metrics(family) for family in families):
            yield Sketch(
                f"scores_{name}",
                "scores",
                title,
                caption,
                partial(scores_figure, findings, families),
            )


def _sizes(findings: RunAnalysis) -> Iterator[Sketch]:
    judged = {info.name for info in findings.metrics("localisation")}
    for model in findings.models():
        if judged & set(findings.sizes[findings.sizes["model"] == model.name]["metric"]):
            yield Sketch(
                f"sizes_{model.name}", "sizes", model.title, SIZE_NOTE, partial(sizes_figure, findings, model.name)
            )


def _costs(findings: RunAnalysis) -> Iterator[Sketch]:
    notes = {
        "forwards": "Backward passes are not counted here, but they take their time below. At 0: no pass at all.",
        "seconds": "On the device named under provenance; forward and backward passes and the library's own work.",
    }
    for cost, note in notes.items():
        info = findings.data.metrics.get(cost)
        ranked = findings.ranks["mean_rank"].notna().any()
        if info is not None and info in findings.metrics(info.family) and ranked:
            caption = f"Best is up (a low mean rank) and left (cheap). {note}"
            yield Sketch(
                f"cost_{cost}", "cost", format.metric_title(info), caption, partial(cost_figure, findings, cost)
            )


def _galleries(findings: RunAnalysis) -> Iterator[Sketch]:
    data = findings.data
    if data.gallery is None or len(data.gallery.images) == 0:
        return
    for model in data.models.values():
        if data.gallery.shared_positions(model.name):
            yield Sketch(
                f"gallery_{model.name}", "gallery", model.title, GALLERY_NOTE,
                partial(gallery_figure, data, model.name), dpi=150 if len(data.explainers) <= MANY else 100,
            )  # fmt: skip
