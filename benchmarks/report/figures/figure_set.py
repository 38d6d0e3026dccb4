"""Choose the figures of a run, write their captions, and render and store them.

A figure is left out where the run lacks what it needs: a network, a score of a family, a gallery.
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

PAGE_FORM = "svg"  # the last one before PDF, which takes its layout
FORMS = ("png", "svg", "pdf")
RANK_NOTE = (
    "Large markers: mean rank over the metrics that pass the gate, or over all metrics where the panel says so. Ticks: "
    "the rank on each of them, darker where several agree. The evidence mask is the answer itself and is not ranked."
)
SCORE_NOTE = (
    "Dots: mean over images. Bars: 95 % bootstrap interval, over training seeds too where there are several. Compare "
    "within one colour: two networks also differ in what there is to explain."
)
BAND_NOTE = "A score inside the grey band is one that a control, which knows nothing of the network, reaches as well."
CRITICAL_NOTE = (
    "Mean ranks, 1 is best. A thick bar joins explainers whose mean ranks do not differ significantly (Nemenyi, 5 %). "
    "The metrics of one run judge the same maps and are not independent, so read this as a guide."
)
SIZE_NOTE = (
    "Mean over the images with small, medium and large evidence (thirds). Where markers are far apart, the mean over "
    "all images depends on how large the objects are."
)
COST_NOTE = "Best is up (a low mean rank) and left (cheap)."
COST_NOTES = {
    "forwards": "Backward passes are not counted here, but their time is in the next figure. At 0: no pass at all.",
    "seconds": "Measured on the device named under provenance: forward and backward passes and the library's own work.",
}
GALLERY_NOTE = (
    "Each map is scaled by itself, so brightness compares positions within one picture, not pictures with each other. "
    "Of signed maps the positive part is shown. Above each image stands its class, which is the class explained."
)
SCORE_FIGURES = {
    "localisation": (("localisation",), "Localisation: is the map on the evidence?", BAND_NOTE),
    "faithfulness": (("faithfulness",), "Faithfulness: does the network use what the map shows?", BAND_NOTE),
    "robustness": (("robustness",), "Robustness: does the map survive small changes?", BAND_NOTE),
    "checks": (("check",), "Checks: does the map depend on the network?", "Never ranked."),
    "descriptors": (("descriptor", "cost"), "Descriptors and cost", "Never part of the mean rank."),
}
# With more explainers the pictures of a gallery are kept smaller, because the page holds them all.
MANY_EXPLAINERS = 12
GALLERY_DPI, SMALL_GALLERY_DPI = 150, 100


@dataclass(frozen=True)
class RenderedFigure:
    """A figure as files: its section of the page, title and caption, and contents by ending (`FORMS`).

    The narrow form exists only for the page.
    """

    name: str
    section: str
    title: str
    caption: str
    wide: dict[str, bytes]
    narrow: dict[str, bytes]


@dataclass(frozen=True)
class FigureSpec:
    """A figure to be drawn by `draw(narrow)`."""

    name: str
    section: str
    title: str
    caption: str
    draw: Callable[[bool], Figure]
    dpi: int = DPI


def make_figure_set(analysis: RunAnalysis, forms: Sequence[str] = FORMS) -> list[RenderedFigure]:
    """Render all figures of a run in these forms, and in the form of the page."""
    makers = (_ranks, _scores, _sizes, _costs, _galleries)
    return [_render(spec, forms) for make_specs in makers for spec in make_specs(analysis)]


def write_figure_set(figures: Sequence[RenderedFigure], folder: Path) -> list[Path]:
    """Write each figure as NAME.png, NAME.svg and NAME.pdf, and as NAME_narrow.svg.

    Returns:
        The paths of the files written.
    """
    return [
        write_atomically(folder / f"{figure.name}{suffix}.{ending}", content)
        for figure in figures
        for suffix, contents in (("", figure.wide), ("_narrow", figure.narrow))
        for ending, content in contents.items()
    ]


def _render(spec: FigureSpec, forms: Sequence[str]) -> RenderedFigure:
    figure = spec.draw(False)
    wide = {form: render(figure, form, spec.dpi) for form in dict.fromkeys((*forms, PAGE_FORM)) if form != "pdf"}
    if "pdf" in forms:
        # Laid out as SVG, since letters are equally wide in both. They are not in PNG, where they keep to pixels.
        figure.set_layout_engine("none")
        wide["pdf"] = render(figure, "pdf", spec.dpi)
    narrow = {PAGE_FORM: render(spec.draw(True), PAGE_FORM, spec.dpi)}
    return RenderedFigure(spec.name, spec.section, spec.title, spec.caption, wide, narrow)


def _ranks(analysis: RunAnalysis) -> Iterator[FigureSpec]:
    if analysis.ranks["mean_rank"].notna().any():
        yield FigureSpec("mean_rank", "ranks", "Mean rank", RANK_NOTE, partial(ranks_figure, analysis))
    if analysis.tests:
        draw = partial(critical_figure, analysis)
        yield FigureSpec("critical_difference", "critical", "Critical difference", CRITICAL_NOTE, draw)


def _scores(analysis: RunAnalysis) -> Iterator[FigureSpec]:
    for name, (families, title, note) in SCORE_FIGURES.items():
        if analysis.models() and any(analysis.metrics(family) for family in families):
            draw = partial(scores_figure, analysis, families)
            yield FigureSpec(f"scores_{name}", "scores", title, f"{SCORE_NOTE} {note}", draw)


def _sizes(analysis: RunAnalysis) -> Iterator[FigureSpec]:
    metrics = {info.name for info in analysis.metrics("localisation")}
    for model in analysis.models():
        if metrics & set(analysis.sizes[analysis.sizes["model"] == model.name]["metric"]):
            draw = partial(sizes_figure, analysis, model.name)
            yield FigureSpec(f"sizes_{model.name}", "sizes", model.title, SIZE_NOTE, draw)


def _costs(analysis: RunAnalysis) -> Iterator[FigureSpec]:
    for cost, note in COST_NOTES.items():
        info = analysis.data.metrics.get(cost)
        has_ranks = analysis.ranks["mean_rank"].notna().any()
        if info is not None and info in analysis.metrics(info.family) and has_ranks:
            draw = partial(cost_figure, analysis, cost)
            yield FigureSpec(f"cost_{cost}", "cost", format.metric_title(info), f"{COST_NOTE} {note}", draw)


def _galleries(analysis: RunAnalysis) -> Iterator[FigureSpec]:
    data = analysis.data
    if data.gallery is None or len(data.gallery.images) == 0:
        return
    dpi = GALLERY_DPI if len(data.explainers) <= MANY_EXPLAINERS else SMALL_GALLERY_DPI
    for model in data.models.values():
        if data.gallery.shared_positions(model.name):
            draw = partial(gallery_figure, data, model.name)
            yield FigureSpec(f"gallery_{model.name}", "gallery", model.title, GALLERY_NOTE, draw, dpi)
