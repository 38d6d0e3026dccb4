"""Define how figures look: two widths, one type size, and colours and markers by network.

Every figure is made in two widths: "wide" for two columns of a paper and for desktops, "narrow" for one column and for
phones. Networks differ by colour and by marker, so that figures survive grey printing. Sizes are in paper.mplstyle,
colours in `palette`. No global state of pyplot is touched.
"""

from __future__ import annotations

import io
import re
import textwrap
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, ParamSpec

from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.report.figures import palette, svg
from benchmarks.store.run_data import ExplainerInfo, MetricInfo
from benchmarks.store.score_names import UNRANKED_FAMILIES

P = ParamSpec("P")
WIDE, NARROW = 7.2, 3.5  # inches
DPI = 200
MARKERS = ("o", "s", "^", "D", "v", "P")
STYLE_FILE = Path(__file__).with_name("paper.mplstyle")
COLOURS: Any = {
    "axes.edgecolor": palette.AXIS,
    "axes.labelcolor": palette.INK,
    "xtick.color": palette.INK,
    "ytick.color": palette.INK,
    "text.color": palette.INK,
    "figure.facecolor": palette.SHEET,
    "savefig.facecolor": palette.SHEET,
    "axes.facecolor": palette.SHEET,
}
ARROWS = {"higher": "higher is better →", "lower": "← lower is better", "none": "no better direction"}
TICK_STEPS = (1, 2, 5, 10, 20, 50, 100)


def use_style(draw: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorate a function to draw its figure in the project's style.

    The user's settings of matplotlib have no effect.
    """

    @wraps(draw)
    def draw_in_style(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with rc_context(COLOURS, STYLE_FILE):
            return draw(*args, **kwargs)

    return draw_in_style


def render(figure: Figure, form: str, dpi: int = DPI) -> bytes:
    """Render a figure as a "png", "svg" or "pdf" file with embedded fonts.

    The same figure gives the same bytes.
    """
    metadata: dict[str, dict[str, Any]] = {
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "png": {"Software": None},
    }
    buffer = io.BytesIO()
    with rc_context(COLOURS, STYLE_FILE):
        figure.savefig(buffer, format=form, dpi=dpi, metadata=metadata[form])
    return svg.finish(buffer.getvalue()) if form == "svg" else buffer.getvalue()


def colour_of(network: int, explainer: ExplainerInfo | None = None) -> str:
    """Return the colour of the network with this index.

    Controls are grey on every network.
    """
    if explainer is not None and explainer.control:
        return palette.CONTROL
    return palette.NETWORKS[network % len(palette.NETWORKS)]


def marker_of(network: int) -> str:
    """Return the marker of the network with this index.

    Colour and marker together differ for 36 networks.
    """
    return MARKERS[(network + network // len(palette.NETWORKS)) % len(MARKERS)]


def wrap(text: str, width: int) -> str:
    """Wrap a text to lines of at most `width` letters.

    Lines do not break before or after a minus sign.
    """
    text = re.sub(r" ([-−]) ", "\N{NO-BREAK SPACE}\\1\N{NO-BREAK SPACE}", text)
    return "\n".join(textwrap.wrap(text, width, break_long_words=False)) or text


def direction_label(metric: MetricInfo) -> str:
    """Return the label under a panel.

    It gives the better direction, and says so where the score does not count in the mean rank.
    """
    note = "" if metric.ranked or metric.family in UNRANKED_FAMILIES else "\n(not in the mean rank)"
    return ARROWS.get(metric.direction, "") + note


def row_heights(explainers: list[ExplainerInfo]) -> dict[str, float]:
    """Return the height of each explainer's row, from the top down.

    There is a gap before the controls.
    """
    heights, height = {}, 0.0
    for index, info in enumerate(explainers):
        has_gap = index > 0 and info.control and not explainers[index - 1].control
        height -= 1.7 if has_gap else 1.0
        heights[info.name] = height
    return heights


def rank_ticks(last: int) -> list[int]:
    """Return the ranks to label on an axis from 1 to `last`.

    These are all of up to ten, else 1 and some round ones.
    """
    step = next(step for step in TICK_STEPS if last / step <= 10 or step == TICK_STEPS[-1])
    return [1, *range(step, last + 1, step)] if step > 1 else list(range(1, last + 1))


def label_rows(axes: Axes, explainers: list[ExplainerInfo], heights: dict[str, float]) -> None:
    """Label the rows, controls in grey, and set the limits."""
    axes.set_yticks([heights[info.name] for info in explainers], [wrap(info.title, 24) for info in explainers])
    # inner panels have no labels to colour
    for text, info in zip(axes.get_yticklabels(), explainers, strict=False):
        text.set_color(palette.FAINT_INK if info.control else palette.INK)
    axes.set_ylim(min(heights.values(), default=-1) - 0.7, -0.3)
    add_grid(axes, "y")


def add_grid(axes: Axes, axis: str = "both") -> None:
    """Add a faint grid behind the data."""
    axes.grid(axis=axis, color=palette.GRID, linewidth=0.6)  # type: ignore[arg-type]
    axes.set_axisbelow(True)
