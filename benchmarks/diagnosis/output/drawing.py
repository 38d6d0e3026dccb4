"""Draw small figures of checks as images, without pyplot and without a display."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

WIDTH = 900  # pixels
DPI = 100
ACCENT, REST, LINE = "#C44E24", "#8A96A3", "#444444"
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.titlelocation": "left",
    "axes.titlesize": 10,
    "legend.frameon": False,
    "text.parse_math": False,
}


def draw(paint: Callable[[Figure], None], height: int = 280) -> Image.Image:
    """Return an image of `WIDTH` x `height` pixels of what `paint` draws on a figure."""
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    with rc_context(STYLE):
        figure = Figure(figsize=(WIDTH / DPI, height / DPI), dpi=DPI, layout="constrained")
        canvas = FigureCanvasAgg(figure)
        paint(figure)
        canvas.draw()
    return Image.fromarray(np.asarray(canvas.buffer_rgba())).convert("RGB")


def draw_bars(axes: Axes, names: Sequence[str], values: np.ndarray, alarming: np.ndarray, threshold: float) -> None:
    """Draw a horizontal bar for each name, the first on top, coloured where alarming, with a line at the threshold."""
    rows = np.arange(len(names))[::-1]
    axes.barh(rows, values, color=[ACCENT if alarm else REST for alarm in alarming], height=0.65)
    axes.axvline(threshold, color=LINE, linewidth=0.8, linestyle=":")
    axes.set_yticks(rows, [shorten(name) for name in names])
    axes.set_xlim(0, max(1.0, float(np.max(values, initial=0))))


def draw_histograms(axes: Axes, values: np.ndarray, chosen: np.ndarray, names: tuple[str, str]) -> None:
    """Draw the distribution of values (N,) of the chosen images (N,) bool and of the others."""
    finite = np.isfinite(values)
    edges = np.histogram_bin_edges(values[finite], 30) if finite.any() else np.linspace(0, 1, 31)
    for mask, name, colour in ((chosen, names[0], ACCENT), (~chosen, names[1], REST)):
        part = values[mask & finite]
        axes.hist(
            part, list(edges), weights=np.full(len(part), 1 / max(1, len(part))), color=colour, alpha=0.65, label=name
        )
    axes.set_ylabel("share of images")
    axes.legend(fontsize=8)


def shorten(text: str, limit: int = 24) -> str:
    """Return a text of at most `limit` letters."""
    return text if len(text) <= limit else text[: limit - 1] + "…"
