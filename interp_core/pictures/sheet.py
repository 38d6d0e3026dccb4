"""Draw a sheet with every map of the explained images, for notebooks and files.

Functions take arrays and draw on matplotlib's Figure without pyplot, so that no window opens, nothing global changes
and threads can draw at the same time. Overlays use a colour map ordered by lightness, signed contributions a
diverging one centred at 0, concept scores a fixed scale from 0 to 1. All maps but scores are scaled by their own
maximum: compare positions within one picture, and pictures by the numbers at their colour bars.

Limit: a map on its own grid is drawn as tiles that fill the picture. Only the overlay shows where its cells lie on the
image, by their receptive fields.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np

from interp_core.errors import ContractError
from interp_core.pictures.overlay import Array, overlay, save_overlays, to_display
from interp_core.pictures.top_regions import TopRegion

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
LETTERS_PER_INCH = 9.5  # of the large bold type
DPI = 120


@dataclass(frozen=True, eq=False)
class Panel:
    """Contents of one row of the sheet, for one explained image.

    Attributes:
        title: one line above the row, see `caption`.
        image: (H, W, 3) in [0, 1], see `to_display`.
        map: (H, W) signed at input resolution; its positive part is laid over the image.
        grids: (name, signed parts of the target's logit (h, w)) of each level on its own grid, coarsest first.
        bias: part of the target's logit that belongs to no position; None leaves the sums without it.
        scores: (name, concept scores (h, w) in [0, 1]) of the levels that have them, coarsest first.
        regions: boxes drawn on the overlay, see `interp_core.pictures.top_regions`.
    """

    title: str
    image: Array
    map: Array
    grids: tuple[tuple[str, Array], ...]
    bias: float | None = None
    scores: tuple[tuple[str, Array], ...] = ()
    regions: tuple[TopRegion, ...] = ()


def caption(target: int, logit: float, probability: float, name: str | None = None) -> str:
    """Return the title of a panel, with class, logit and probability."""
    label = f"class {target}" + (f", {_shorten(name, 40, tail=0)}" if name else "")
    return f"{label}: logit {_format_signed(logit)}, probability {probability:.3f}"


def sheet(panels: Sequence[Panel], *, rows: int = 4, total: int | None = None) -> Figure:
    """Draw one row of pictures per image.

    These are the image, the overlay, the contributions on each grid with their sum, and concept scores.

    Args:
        panels: at least one, all with equally many grids and scores.
        rows: largest number of rows; a line below says how many images are shown.
        total: number of images, if there are more than panels.

    Raises:
        ContractError: no panels, or panels that differ in their number of pictures or hold arrays of a wrong shape.
    """
    from matplotlib.figure import Figure

    _check_panels(panels, rows)
    drawn_panels = list(panels[:rows])
    count, total_count = len(drawn_panels), max(len(panels), total or 0)
    heights = [SIDE * min(max(panel.image.shape[0] / panel.image.shape[1], 0.4), 2.5) for panel in drawn_panels]
    columns = _column_count(drawn_panels[0])
    width = 2 * MARGIN + columns * SIDE + (columns - 1) * GAP
    note_height = 0.2 if total_count > count else 0.0
    height = 2 * MARGIN + sum(heights) + count * (TITLE + HEADING + BAR + FOOT) + note_height
    figure = Figure((width, height), dpi=DPI, facecolor="white")
    top = height - MARGIN
    for panel, picture_height in zip(drawn_panels, heights, strict=True):
        _draw_row(figure, panel, top, picture_height)
        top -= TITLE + HEADING + picture_height + BAR + FOOT
    if note_height:
        _write(figure, MARGIN, MARGIN, f"{count} of {total_count} images shown", TINY, color=PALE, va="bottom")
    return figure


def _draw_row(figure: Figure, panel: Panel, top: float, height: float) -> None:
    """Draw all pictures of one image.

    Args:
        figure: to draw on.
        panel: contents of the row.
        top: upper end of the row, in inches from the bottom of the figure.
        height: height of a picture in inches.
    """
    columns = _column_count(panel)
    title = _shorten(panel.title, int(columns * (SIDE + GAP) * LETTERS_PER_INCH), tail=33)
    _write(figure, MARGIN, top - 0.02, title, LARGE, weight="bold", va="top")
    bottom = top - TITLE - HEADING - height
    slots = (_Slot(figure, MARGIN + i * (SIDE + GAP), bottom, height) for i in range(columns))
    image_slot = next(slots)
    image_slot.write_heading("image", f"{panel.map.shape[0]} × {panel.map.shape[1]} pixels")
    image_slot.draw_picture(panel.image)
    _draw_overlay(next(slots), panel)
    for name, values in panel.grids:
        _draw_contributions(next(slots), name, values, panel.bias)
    for slot, (name, scores) in zip(slots, panel.scores, strict=True):
        _draw_scores(slot, name, scores)


def _column_count(panel: Panel) -> int:
    return 2 + len(panel.grids) + len(panel.scores)


@dataclass(frozen=True)
class _Slot:
    """Area of one picture with its heading, colour bar and foot.

    Attributes:
        figure: to draw on.
        left: left end of the picture, in inches from the left end of the figure.
        bottom: lower end of the picture, in inches from the lower end of the figure.
        height: of the picture, in inches.
    """

    figure: Figure
    left: float
    bottom: float
    height: float

    def write_heading(self, title: str, subtitle: str) -> None:
        top = self.bottom + self.height
        _write(self.figure, self.left, top + 0.18, title, SMALL, va="bottom")
        _write(self.figure, self.left, top + 0.04, subtitle, TINY, color=PALE, va="bottom")

    def write_foot(self, text: str, bar: bool = True) -> None:
        _write(self.figure, self.left, self.bottom - (BAR + 0.2 if bar else 0.03), text, TINY, color=PALE, va="top")

    def draw_picture(
        self, values: Array, aspect: Literal["equal", "auto"] = "equal", **kwargs: Any
    ) -> tuple[Axes, Any]:
        interpolation = "antialiased" if values.ndim == 3 else "nearest"
        axes = _add_axes(self.figure, self.left, self.bottom, SIDE, self.height)
        picture = axes.imshow(values, interpolation=interpolation, origin="upper", aspect=aspect, **kwargs)
        axes.set(xticks=[], yticks=[])
        axes.spines[:].set_visible(False)
        return axes, picture

    def draw_map(self, values: Array, colours: str, low: float, high: float) -> None:
        """Draw a map with its colour bar, in the image's shape.

        A map that is not finite becomes a hatched field.
        """
        if not np.isfinite(values).all():
            return self.draw_missing()
        _, picture = self.draw_picture(values, "auto", cmap=colours, vmin=low, vmax=high)
        axes = _add_axes(self.figure, self.left, self.bottom - BAR - 0.03, SIDE, BAR)
        bar = self.figure.colorbar(picture, cax=axes, orientation="horizontal")
        bar.set_ticks(ticks := [low, (low + high) / 2, high], labels=[_format(tick) for tick in ticks])
        bar.outline.set_visible(False)
        axes.tick_params(labelsize=TINY, length=0, pad=1.5, labelcolor=INK)
        first, _, last = axes.get_xticklabels()
        first.set_horizontalalignment("left")
        last.set_horizontalalignment("right")
        return None

    def draw_missing(self) -> None:
        axes = _add_axes(self.figure, self.left, self.bottom, SIDE, self.height)
        axes.set(xticks=[], yticks=[])
        axes.patch.set(facecolor="#F4F4F4", edgecolor="#BBBBBB", hatch="///")
        box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
        axes.text(0.5, 0.5, "no map\n(NaN or infinite)", ha="center", va="center", fontsize=TINY, color=INK, bbox=box)


def _draw_overlay(slot: _Slot, panel: Panel) -> None:
    from matplotlib.patches import Rectangle
    from matplotlib.patheffects import withStroke

    slot.write_heading("map over the image", "bright: most evidence")
    if not np.isfinite(panel.map).all():
        return slot.draw_missing()
    positive = panel.map.clip(min=0)
    axes, _ = slot.draw_picture(overlay(panel.image, positive))
    if not positive.any():
        slot.write_foot("nowhere above zero", bar=False)
    edge = [withStroke(linewidth=2.2, foreground="black")]
    for region in panel.regions:
        width, height = region.right - region.left, region.bottom - region.top
        corner = region.left - 0.5, region.top - 0.5
        axes.add_patch(Rectangle(corner, width, height, fill=False, edgecolor=BOX, linewidth=1.1, path_effects=edge))
    if panel.regions:
        slot.write_foot(f"boxed: {100 * sum(region.mass for region in panel.regions):.0f} % of it", bar=False)
    return None


def _draw_contributions(slot: _Slot, name: str, values: Array, bias: float | None) -> None:
    slot.write_heading(f"parts, {_shorten(name, 14, tail=7)}", f"{_grid_size(values)}; red: for")
    high = _upper_end(np.abs(values))
    slot.draw_map(values, SIGNED, -high, high)
    total = float(values.sum(dtype=np.float64))
    if not np.isfinite(total):
        return
    bias_note = "" if bias is None else f", with the\nbias {_format_signed(bias)}: logit {_format_signed(total + bias)}"
    slot.write_foot(f"sum {_format_signed(total)}{bias_note}")


def _draw_scores(slot: _Slot, name: str, scores: Array) -> None:
    slot.write_heading(f"concept, {_shorten(name, 14, tail=7)}", _grid_size(scores))
    slot.draw_map(scores, SCORE, 0, 1)
    if np.isfinite(scores).all():
        slot.write_foot(f"scores {scores.min():.2f} to {scores.max():.2f}")


def _add_axes(figure: Figure, left: float, bottom: float, width: float, height: float) -> Axes:
    figure_width, figure_height = figure.get_size_inches()
    bounds = (left / figure_width, bottom / figure_height, width / figure_width, height / figure_height)
    axes = figure.add_axes(bounds)
    axes.grid(False)  # the user's settings may turn it on
    return axes


def _write(figure: Figure, left: float, bottom: float, text: str, size: float, color: str = INK, **kwargs: Any) -> None:
    width, height = figure.get_size_inches()
    figure.text(left / width, bottom / height, text, fontsize=size, color=color, parse_math=False, **kwargs)


def _upper_end(values: Array) -> float:
    """Return the upper end of a colour bar.

    It is the maximum, or 1 if nothing is above 0.
    """
    return float(values.max()) if np.isfinite(values).all() and values.max() > 0 else 1.0


def _shorten(text: str, room: int, tail: int) -> str:
    """Shorten a text to one line of at most `room` letters.

    The last `tail` letters are kept.
    """
    line = " ".join(text.split())
    return line if len(line) <= room else f"{line[: room - 1 - tail].rstrip(' ,')}…{line[len(line) - tail :]}"


def _format_signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−") if abs(value) < 1e5 else f"{value:+.2e}"


def _format(value: float) -> str:
    return f"{value:.2g}".replace("-", "−")


def _grid_size(values: Array) -> str:
    return f"{values.shape[0]} × {values.shape[1]} cells"


def _check_panels(panels: Sequence[Panel], rows: int) -> None:
    if not panels or rows < 1:
        raise ContractError(f"sheet takes at least one panel and one row, got {len(panels)} and {rows}")
    if len({(len(panel.grids), len(panel.scores)) for panel in panels}) > 1:
        raise ContractError("sheet takes panels with equally many grids and scores: draw a sheet for each model")
    for number, panel in enumerate(panels):
        if panel.image.ndim != 3 or panel.image.shape != (*panel.map.shape, 3):
            raise ContractError(f"panel {number}: image {panel.image.shape} and map {panel.map.shape} do not fit")
        grids = [values for _, values in (*panel.grids, *panel.scores)]
        if any(grid.ndim != 2 or grid.size == 0 for grid in grids):
            raise ContractError(f"panel {number}: contributions and scores must be (h, w)")
