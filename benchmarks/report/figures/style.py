"""How figures look: two widths, one type size, colours that colour-blind readers can tell apart (Okabe and Ito 2008).

Every figure is made in two widths: "wide" for two columns of a paper and for desktops, "narrow" for one column and for
phones. Models differ by colour and by marker, so that figures survive grey printing. Everything else is in
paper.mplstyle. No global state of pyplot is touched.
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

from benchmarks.report.figures import svg
from benchmarks.store.run_data import UNRANKED, ExplainerInfo, MetricInfo

P = ParamSpec("P")
WIDE, NARROW = 7.2, 3.5
DPI = 200
COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9")
MARKERS = ("o", "s", "^", "D", "v", "P")
GREY, PALE, INK = "#8A8A8A", "#E9E9E9", "#222222"
STYLE = Path(__file__).with_name("paper.mplstyle")
ARROWS = {"higher": "higher is better →", "lower": "← lower is better", "none": "no better direction"}


def styled(make: Callable[P, Figure]) -> Callable[P, Figure]:
    """Decorator: makes the figure under the project's style, whatever the user's own settings are."""

    @wraps(make)
    def inside(*args: P.args, **kwargs: P.kwargs) -> Figure:
        with rc_context(fname=STYLE):
            return make(*args, **kwargs)

    return inside


def render(figure: Figure, form: str, dpi: int = DPI) -> bytes:
    """A figure as the bytes of a "png", "svg" or "pdf" file, fonts embedded; the same figure gives the same bytes."""
    metadata: dict[str, dict[str, Any]] = {
        "svg": {"Date": None, "Creator": None},
        "pdf": {"CreationDate": None, "Creator": None, "Producer": None},
        "png": {"Software": None},
    }
    buffer = io.BytesIO()
    with rc_context(fname=STYLE):
        figure.savefig(buffer, format=form, dpi=dpi, metadata=metadata[form])
    return svg.finished(buffer.getvalue()) if form == "svg" else buffer.getvalue()


def colour(place: int, explainer: ExplainerInfo | None = None) -> str:
    """Colour of the model at `place`; controls are grey on every model."""
    return GREY if explainer is not None and explainer.control else COLOURS[place % len(COLOURS)]


def marker(place: int) -> str:
    """Marker of the model at `place`; with the colour it is another for each of 36 models."""
    return MARKERS[(place + place // len(COLOURS)) % len(MARKERS)]


def folded(text: str, width: int) -> str:
    """Text in lines of at most `width` letters, not broken before or after a minus sign."""
    kept = re.sub(r" ([-−]) ", "\N{NO-BREAK SPACE}\\1\N{NO-BREAK SPACE}", text)
    return "\n".join(textwrap.wrap(kept, width, break_long_words=False)) or text


def direction(metric: MetricInfo) -> str:
    """What stands under a panel: where better is, and whether the score counts in the mean rank."""
    counted = "" if metric.ranked or metric.family in UNRANKED else "\n(not in the mean rank)"
    return ARROWS.get(metric.direction, "") + counted


def rows(explainers: list[ExplainerInfo]) -> dict[str, float]:
    """Height of each explainer's row, from the top down, with a gap before the controls."""
    heights, height = {}, 0.0
    for place, info in enumerate(explainers):
        gap = place > 0 and info.control and not explainers[place - 1].control
        height -= 1.7 if gap else 1.0
        heights[info.name] = height
    return heights


def rank_ticks(last: int) -> list[int]:
    """Ranks to be named on an axis from 1 to `last`: all of up to ten, else the first and some round ones."""
    step = next(step for step in (1, 2, 5, 10, 20, 50, 100) if last / step <= 10 or step == 100)
    return [1, *range(step, last + 1, step)] if step > 1 else list(range(1, last + 1))


def label_rows(axes: Axes, explainers: list[ExplainerInfo], heights: dict[str, float]) -> None:
    """Name the rows, controls in grey, and set the limits."""
    axes.set_yticks([heights[info.name] for info in explainers], [folded(info.title, 24) for info in explainers])
    # inner panels have no labels to colour
    for text, info in zip(axes.get_yticklabels(), explainers, strict=False):
        text.set_color("#6B6B6B" if info.control else INK)
    axes.set_ylim(min(heights.values(), default=-1) - 0.7, -0.3)
    axes.grid(axis="y", color="#EEEEEE", linewidth=0.6)
    axes.set_axisbelow(True)
