"""Draw the gallery: the same few images under every explainer of a network, with the evidence outlined.

Each map is scaled by itself from its least to its greatest value. Of maps whose negative values count against the class
only the positive part is shown. So brightness compares positions within one picture, not pictures with each other.
"""

from __future__ import annotations

import numpy as np
from matplotlib import colormaps
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle

from benchmarks.report.figures import palette, style
from benchmarks.report.format import shorten
from benchmarks.store.gallery import Gallery
from benchmarks.store.run_data import ExplainerInfo, RunData

_INFERNO = colormaps["inferno"]
_MAP_SHARE = 0.7  # of the map's colour in the overlay; the remainder is the grey image
_INSET = 0.04
_LABEL_WIDTH = 13  # letters, so that a label does not meet its neighbour


@style.use_style
def gallery_figure(data: RunData, model: str, narrow: bool = False) -> Figure:
    """Draw the maps of all explainers of one network.

    Columns are images. The first row is the image, the others are the explainers' overlays. Only images are shown
    that every explainer has a map of. The others are for pairs.

    Raises:
        ValueError: the run has no gallery.
    """
    gallery = data.gallery
    if gallery is None:
        raise ValueError("this run has no gallery")
    explainers = [info for info in data.explainers.values() if (model, info.name) in gallery.maps]
    images = gallery.shared_positions(model)[: 4 if narrow else 8]
    figure = _make_figure(len(images), 1 + len(explainers), style.NARROW if narrow else style.WIDE)
    panels = figure.subplots(1 + len(explainers), len(images), squeeze=False)
    for column, index in enumerate(images):
        _draw_image(panels[0, column], gallery, index)
        for row, info in enumerate(explainers, start=1):
            _draw_overlay(panels[row, column], gallery, gallery.map_of(model, info.name, index), index, info)
    for axes, title in zip(panels[:, 0], ["Image", *(info.title for info in explainers)], strict=True):
        axes.set_ylabel(style.wrap(title, 12), rotation=0, ha="right", va="center", labelpad=5, fontsize=7)
    _add_legend(figure, bool(gallery.masks[images].any()))
    return figure


def overlay(image: np.ndarray, scaled_map: np.ndarray) -> np.ndarray:
    """Lay a map in colours over the grey image.

    Args:
        image: (H, W, 3) as uint8.
        scaled_map: (H, W) in [0, 1].

    Returns:
        The picture, (H, W, 3) in [0, 1].
    """
    grey = image.astype(np.float64).mean(-1, keepdims=True) / 255
    return (1 - _MAP_SHARE) * grey + _MAP_SHARE * np.asarray(_INFERNO(scaled_map))[..., :3]


def label_text(label: str) -> str:
    """Shorten a class name to stand above its image.

    Of ImageNet's lists of synonyms the first is used.
    """
    return shorten(label.split(",")[0].strip(), _LABEL_WIDTH)


def scale_map(values: np.ndarray, signed: bool) -> np.ndarray | None:
    """Scale a map (H, W), or its positive part if signed, to [0, 1].

    Returns None for a map without information: constant, NaN or infinite.
    """
    if not np.isfinite(values).all() or np.ptp(values) == 0:
        return None
    positive = np.maximum(values, 0) if signed else values
    span = np.ptp(positive)
    return np.zeros(positive.shape) if span == 0 else (positive - positive.min()) / span


def _make_figure(columns: int, rows: int, width: float) -> Figure:
    margin, header = 0.82, 0.42
    side = min((width - margin - 0.05) / max(1, columns), 0.8)
    full_width, full_height = margin + side * columns + 0.05, header + rows * side * 1.02 + 0.05
    figure = Figure((full_width, full_height))
    figure.subplots_adjust(
        margin / full_width, 0.05 / full_height, 1 - 0.05 / full_width, 1 - header / full_height, 0.04, 0.04
    )
    return figure


def _draw_image(axes: Axes, gallery: Gallery, index: int) -> None:
    _draw_picture(axes, gallery.images[index], gallery.masks[index])
    label = gallery.labels[index] if index < len(gallery.labels) else ""
    axes.set_title(f"“{label_text(label)}”", loc="center", fontsize=7, fontweight="normal", pad=3)


def _draw_overlay(axes: Axes, gallery: Gallery, values: np.ndarray, index: int, info: ExplainerInfo) -> None:
    scaled_map = scale_map(values, info.signed)
    if scaled_map is None:
        _mark_as_empty(axes, "NaN" if not np.isfinite(values).all() else "constant")
        return
    _draw_picture(axes, overlay(gallery.images[index], scaled_map), gallery.masks[index])


def _draw_picture(axes: Axes, picture: np.ndarray, mask: np.ndarray) -> None:
    axes.imshow(picture, interpolation="nearest")
    _hide_frame(axes)
    if mask.any() and not mask.all():
        axes.contour(mask.astype(float), levels=[0.5], colors=palette.OUTLINE_EDGE, linewidths=1.3)
        axes.contour(mask.astype(float), levels=[0.5], colors=palette.OUTLINE, linewidths=0.7)


def _mark_as_empty(axes: Axes, reason: str) -> None:
    _hide_frame(axes)
    axes.set_aspect("equal")
    side = 1 - 2 * _INSET
    patch = Rectangle(
        (_INSET, _INSET), side, side, facecolor=palette.NO_MAP, edgecolor=palette.NO_MAP_EDGE, hatch="///"
    )
    axes.add_patch(patch)
    box = {"facecolor": palette.SHEET, "edgecolor": "none", "pad": 1.5}
    axes.text(0.5, 0.5, f"no map\n({reason})", ha="center", va="center", fontsize=7, bbox=box)


def _hide_frame(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _add_legend(figure: Figure, has_outlines: bool) -> None:
    handles: list[Artist] = [Rectangle((0, 0), 1, 1, color=palette.BRIGHT, label="bright: most relevant")]
    if has_outlines:
        handles.append(Line2D([], [], color=palette.OUTLINE, label="evidence outlined"))
    figure.legend(handles=handles, loc="upper left", ncols=2, handlelength=1.2, columnspacing=1.2)
