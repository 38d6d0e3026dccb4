"""Explanations as pictures: a sheet that shows every map of an explained image, for notebooks and files.

Pure functions of arrays, drawn on matplotlib's Figure without pyplot, so that no window opens, nothing global changes
and threads may draw at once. Maps of evidence use a colour map ordered by lightness, signed contributions a diverging
one centred at 0, concept scores one fixed scale from 0 to 1. All maps but scores are scaled by themselves: compare
places within one picture, and pictures by the numbers at their colour bars.

Limit: maps on their own grid are drawn as tiles that fill the picture. Where the cells of a map lie on the image, by
their receptive fields, only the overlay shows.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray

from interp_core.errors import ContractError
from interp_core.pictures.overlay import HEAT, overlay, save_overlays, to_display
from interp_core.pictures.top_regions import Region

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

__all__ = ["Panel", "caption", "overlay", "save_overlays", "sheet", "to_display"]

SIGNED, SCORE = "RdBu_r", "viridis"
BOX, INK, PALE = "#56B4E9", "#222222", "#6B6B6B"
# Inches: width of a picture, gap between pictures, margin; heights of row title, column heads, colour bar and foot.
SIDE, GAP, MARGIN = 1.6, 0.16, 0.12
TITLE, HEADING, BAR, FOOT = 0.28, 0.36, 0.07, 0.64
LARGE, SMALL, TINY = 11, 9, 8.2  # type sizes in points
LETTERS = 9.5  # of the large bold type that fit into an inch
DPI = 120


@dataclass(frozen=True, eq=False)
class Panel:
    """All that the sheet shows of one explained image.

    Attributes:
        title: one line above the row, see `caption`.
        image: (H, W, 3) in [0, 1], see `to_display`.
        map: (H, W) >= 0 at input resolution.
        native: (h, w) >= 0, the same before it was upsampled.
        contributions: (h, w) signed parts of the target's logit on their own grid.
        bias: part of the target's logit that no position carries; None leaves the sum without it.
        levels: (name, concept scores (h, w) in [0, 1]) of each level, finest first.
        regions: boxes drawn on the overlay, see `regions.top_regions`.
    """

    title: str
    image: NDArray
    map: NDArray
    native: NDArray
    contributions: NDArray
    bias: float | None = None
    levels: tuple[tuple[str, NDArray], ...] = ()
    regions: tuple[Region, ...] = ()


def caption(target: int, logit: float, probability: float, name: str | None = None) -> str:
    """Title of a panel: which class is explained, and what the model says of it."""
    shown = f"class {target}" + (f", {_fitted(name, 40, tail=0)}" if name else "")
    return f"{shown}: logit {_signed(logit)}, probability {probability:.3f}"


def sheet(panels: Sequence[Panel], *, rows: int = 4, total: int | None = None) -> Figure:
    """One row per image: the image, its map over it, the map and the contributions on their own grids, each level.

    Args:
        panels: at least one, all with equally many levels.
        rows: most of them that are drawn; how many of how many is stated below.
        total: images there are, if not all came as panels.

    Raises:
        ContractError: no panels, or panels that differ in their levels or hold arrays of a wrong shape.
    """
    from matplotlib.figure import Figure

    _check(panels, rows)
    shown = list(panels[:rows])
    every = max(len(panels), total or 0)
    heights = [SIDE * min(max(panel.image.shape[0] / panel.image.shape[1], 0.4), 2.5) for panel in shown]
    columns = 4 + len(shown[0].levels)
    width = 2 * MARGIN + columns * SIDE + (columns - 1) * GAP
    below = 0.2 if every > len(shown) else 0.0
    height = 2 * MARGIN + sum(heights) + len(shown) * (TITLE + HEADING + BAR + FOOT) + below
    figure = Figure((width, height), dpi=DPI, facecolor="white")
    top = height - MARGIN
    for panel, tall in zip(shown, heights, strict=True):
        _row(figure, panel, top, tall)
        top -= TITLE + HEADING + tall + BAR + FOOT
    if below:
        _write(figure, MARGIN, MARGIN, f"{len(shown)} of {every} images shown", TINY, color=PALE, va="bottom")
    return figure


def _row(figure: Figure, panel: Panel, top: float, tall: float) -> None:
    """All pictures of one image; `top` in inches from the bottom of the figure, `tall` the height of a picture."""
    columns = 4 + len(panel.levels)
    title = _fitted(panel.title, int(columns * (SIDE + GAP) * LETTERS), tail=33)
    _write(figure, MARGIN, top - 0.02, title, LARGE, weight="bold", va="top")
    bottom = top - TITLE - HEADING - tall
    places = (_Place(figure, MARGIN + i * (SIDE + GAP), bottom, tall) for i in range(columns))
    height, width = panel.map.shape
    first = next(places)
    first.head("image", f"{height} × {width} pixels")
    first.picture(panel.image)
    _overlaid(next(places), panel)
    _heat(next(places), panel.native)
    _contributed(next(places), panel.contributions, panel.bias)
    for place, (name, scores) in zip(places, panel.levels, strict=True):
        _scored(place, name, scores)


@dataclass(frozen=True)
class _Place:
    """Room for one picture with its heading, colour bar and foot; inches from the lower left corner of the figure."""

    figure: Figure
    left: float
    bottom: float
    tall: float

    def head(self, text: str, below: str) -> None:
        height = self.bottom + self.tall
        _write(self.figure, self.left, height + 0.18, text, SMALL, va="bottom")
        _write(self.figure, self.left, height + 0.04, below, TINY, color=PALE, va="bottom")

    def foot(self, text: str, bar: bool = True) -> None:
        _write(self.figure, self.left, self.bottom - (BAR + 0.2 if bar else 0.03), text, TINY, color=PALE, va="top")

    def picture(self, values: NDArray, aspect: Literal["equal", "auto"] = "equal", **kwargs: Any) -> tuple[Axes, Any]:
        smooth = "antialiased" if values.ndim == 3 else "nearest"
        axes = _axes(self.figure, self.left, self.bottom, SIDE, self.tall)
        shown = axes.imshow(values, interpolation=smooth, origin="upper", aspect=aspect, **kwargs)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        return axes, shown

    def mapped(self, values: NDArray, colours: str, low: float, high: float) -> None:
        """A map with its colour bar, in the shape of the image; a hatched field where it cannot be shown."""
        if not np.isfinite(values).all():
            return self.missing()
        _, shown = self.picture(values, "auto", cmap=colours, vmin=low, vmax=high)
        axes = _axes(self.figure, self.left, self.bottom - BAR - 0.03, SIDE, BAR)
        bar = self.figure.colorbar(shown, cax=axes, orientation="horizontal")
        bar.set_ticks(ticks := [low, (low + high) / 2, high], labels=[_short(tick) for tick in ticks])
        bar.outline.set_visible(False)  # type: ignore[operator]
        axes.tick_params(labelsize=TINY, length=0, pad=1.5, labelcolor=INK)
        first, _, last = axes.get_xticklabels()
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")
        return None

    def missing(self) -> None:
        axes = _axes(self.figure, self.left, self.bottom, SIDE, self.tall)
        axes.set(xticks=[], yticks=[])
        axes.patch.set(facecolor="#F4F4F4", edgecolor="#BBBBBB", hatch="///")
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        axes.text(0.5, 0.5, "no map\n(NaN or infinite)", ha="center", va="center", fontsize=TINY, color=INK, bbox=box)


def _overlaid(place: _Place, panel: Panel) -> None:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    place.head("map over the image", "bright: most evidence")
    if not np.isfinite(panel.map).all():
        return place.missing()
    axes, _ = place.picture(overlay(panel.image, panel.map))
    if not panel.map.any():
        place.foot("zero everywhere", bar=False)
    edge = [withStroke(linewidth=2.2, foreground="black")]
    for region in panel.regions:
        wide, tall = region.right - region.left, region.bottom - region.top
        corner = region.left - 0.5, region.top - 0.5
        axes.add_patch(Rectangle(corner, wide, tall, fill=False, edgecolor=BOX, linewidth=1.1, path_effects=edge))
    if panel.regions:
        place.foot(f"boxed: {100 * sum(region.mass for region in panel.regions):.0f} % of it", bar=False)
    return None


def _heat(place: _Place, values: NDArray) -> None:
    place.head("map, its own grid", _cells(values))
    place.mapped(values, HEAT, 0, _top(values))


def _contributed(place: _Place, values: NDArray, bias: float | None) -> None:
    place.head("contributions", f"{_cells(values)}; red: for")
    high = _top(np.abs(values))
    place.mapped(values, SIGNED, -high, high)
    total = float(values.sum(dtype=np.float64))
    if not np.isfinite(total):
        return
    added = "" if bias is None else f", with the\nbias {_signed(bias)}: logit {_signed(total + bias)}"
    place.foot(f"sum {_signed(total)}{added}")


def _scored(place: _Place, name: str, scores: NDArray) -> None:
    place.head(f"concept, {_fitted(name, 14, tail=7)}", _cells(scores))
    place.mapped(scores, SCORE, 0, 1)
    if np.isfinite(scores).all():
        place.foot(f"scores {scores.min():.2f} to {scores.max():.2f}")


def _axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    across, up = figure.get_size_inches()
    axes = figure.add_axes((left / across, bottom / up, width / across, height / up))
    axes.grid(False)  # which the user's settings may have asked for
    return axes


def _write(figure: Figure, left: float, bottom: float, text: str, size: float, color: str = INK, **kwargs: Any) -> None:
    across, up = figure.get_size_inches()
    figure.text(left / across, bottom / up, text, fontsize=size, color=color, parse_math=False, **kwargs)


def _top(values: NDArray) -> float:
    """Upper end of a colour bar: the maximum, or 1 where there is nothing above 0."""
    return float(values.max()) if np.isfinite(values).all() and values.max() > 0 else 1.0


def _fitted(text: str, room: int, tail: int) -> str:
    """Text in one line of at most `room` letters; what is too much goes from before its last `tail` letters."""
    line = " ".join(text.split())
    return line if len(line) <= room else f"{line[: room - 1 - tail].rstrip(' ,')}…{line[len(line) - tail :]}"


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−") if abs(value) < 1e5 else f"{value:+.2e}"


def _short(value: float) -> str:
    return f"{value:.2g}".replace("-", "−")


def _cells(values: NDArray) -> str:
    return f"{values.shape[0]} × {values.shape[1]} cells"


def _check(panels: Sequence[Panel], rows: int) -> None:
    if not panels or rows < 1:
        raise ContractError(f"sheet takes at least one panel and one row, got {len(panels)} and {rows}")
    if len({len(panel.levels) for panel in panels}) > 1:
        raise ContractError("sheet takes panels with equally many levels: draw a sheet for each model")
    for number, panel in enumerate(panels):
        if panel.image.ndim != 3 or panel.image.shape != (*panel.map.shape, 3):
            raise ContractError(f"panel {number}: image {panel.image.shape} and map {panel.map.shape} do not fit")
        grids = (panel.native, panel.contributions, *(scores for _, scores in panel.levels))
        if any(grid.ndim != 2 or grid.size == 0 for grid in grids):
            raise ContractError(f"panel {number}: native map, contributions and scores must be (h, w)")
