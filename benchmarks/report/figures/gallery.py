"""The gallery: the same few images under every explainer of a model, with the evidence outlined.

Each map is scaled by itself from its least to its greatest value; of maps whose negative values speak against the class
only the positive part is shown. So brightness compares places within one picture, never pictures with each other.
"""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from benchmarks.report.figures import style
from benchmarks.report.format import shorten
from benchmarks.store.gallery import Gallery
from benchmarks.store.run_data import ExplainerInfo, RunData

OUTLINE = "#56B4E9"
_COLOURS = colormaps["inferno"]
_SHARE = 0.7  # of the map's colour in the overlay; the rest is the grey image
_INSET = 0.04
_LETTERS = 13  # of a caption, so that it does not meet its neighbour's


@style.styled
def gallery_figure(data: RunData, model: str, narrow: bool = False) -> Figure:
    """Images as columns, the picture and then each explainer's overlay as rows, for one model of the gallery.

    Only images that every explainer has a map of: the others are for pairs.
    """
    gallery = data.gallery
    if gallery is None:
        raise ValueError("this run has no gallery")
    explainers = [info for info in data.explainers.values() if (model, info.name) in gallery.maps]
    places = gallery.shared_positions(model)[: 4 if narrow else 8]
    count = len(places)
    figure = _canvas(count, 1 + len(explainers), style.NARROW if narrow else style.WIDE)
    panels = figure.subplots(1 + len(explainers), count, squeeze=False)
    for column, place in enumerate(places):
        _picture(panels[0, column], gallery, place)
        for line, info in enumerate(explainers, start=1):
            _overlay(panels[line, column], gallery, gallery.map_of(model, info.name, place), place, info)
    for axes, title in zip(panels[:, 0], ["Image", *(info.title for info in explainers)], strict=True):
        axes.set_ylabel(style.folded(title, 12), rotation=0, ha="right", va="center", labelpad=5, fontsize=7)
    _legend(figure, bool(gallery.masks[places].any()))
    return figure


def overlay(image: np.ndarray, shown: np.ndarray) -> np.ndarray:
    """Map (H, W) in [0, 1] in colours over the grey image (H, W, 3) uint8; (H, W, 3) in [0, 1]."""
    grey = image.astype(np.float64).mean(-1, keepdims=True) / 255
    return (1 - _SHARE) * grey + _SHARE * np.asarray(_COLOURS(shown))[..., :3]


def caption(label: str) -> str:
    """A class name short enough to stand over its image: of ImageNet's lists of synonyms the first."""
    return shorten(label.split(",")[0].strip(), _LETTERS)


def scaled(values: np.ndarray, signed: bool) -> np.ndarray | None:
    """Map (H, W) scaled to [0, 1], positive part if signed; None if it says nothing (NaN, infinite, constant)."""
    if not np.isfinite(values).all() or np.ptp(values) == 0:
        return None
    kept = np.maximum(values, 0) if signed else values
    span = np.ptp(kept)
    return np.zeros(kept.shape) if span == 0 else (kept - kept.min()) / span


def _canvas(columns: int, lines: int, width: float) -> Figure:
    margin, top = 0.82, 0.42
    side = min((width - margin - 0.05) / max(1, columns), 0.8)
    height = top + lines * side * 1.02 + 0.05
    figure = Figure((margin + side * columns + 0.05, height))
    right = 1 - 0.05 / (margin + side * columns + 0.05)
    figure.subplots_adjust(
        margin / (margin + side * columns + 0.05), 0.05 / height, right, 1 - top / height, 0.04, 0.04
    )
    return figure


def _picture(axes: Axes, gallery: Gallery, place: int) -> None:
    _bare(axes, gallery.images[place], gallery.masks[place])
    label = gallery.labels[place] if place < len(gallery.labels) else ""
    axes.set_title(f"“{caption(label)}”", loc="center", fontsize=7, fontweight="normal", pad=3)


def _overlay(axes: Axes, gallery: Gallery, values: np.ndarray, place: int, info: ExplainerInfo) -> None:
    shown = scaled(values, info.signed)
    if shown is None:
        _degenerate(axes, "NaN" if not np.isfinite(values).all() else "constant")
        return
    _bare(axes, overlay(gallery.images[place], shown), gallery.masks[place])


def _bare(axes: Axes, picture: np.ndarray, mask: np.ndarray) -> None:
    axes.imshow(picture, interpolation="nearest")
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)
    if mask.any() and not mask.all():
        axes.contour(mask.astype(float), levels=[0.5], colors="black", linewidths=1.3)
        axes.contour(mask.astype(float), levels=[0.5], colors=OUTLINE, linewidths=0.7)


def _degenerate(axes: Axes, reason: str) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.set_aspect("equal")
    axes.spines[:].set_visible(False)
    inside = 1 - 2 * _INSET
    axes.add_patch(Rectangle((_INSET, _INSET), inside, inside, facecolor="#F4F4F4", edgecolor="#BBBBBB", hatch="///"))
    box = {"facecolor": "white", "edgecolor": "none", "pad": 1.5}
    axes.text(0.5, 0.5, f"no map\n({reason})", ha="center", va="center", fontsize=7, bbox=box)


def _legend(figure: Figure, outlined: bool) -> None:
    handles: list[Artist] = [Rectangle((0, 0), 1, 1, color=_COLOURS(0.75), label="bright: most relevant")]
    if outlined:
        handles.append(Line2D([], [], color=OUTLINE, label="evidence outlined"))
    figure.legend(handles=handles, loc="upper left", ncols=2, handlelength=1.2, columnspacing=1.2)
