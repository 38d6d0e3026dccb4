"""Place labels beside points, so that they cover neither each other nor the points.

Greedy: points from the left, each takes the nearest free position of a fixed list. Known limit: with far more points
than space some overlap is left, the smallest there is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from matplotlib.transforms import Bbox

from benchmarks.report.figures import palette

# positions of a label, in degrees around its point and points away from it; the first free one is taken
_ANGLES = (0, 180, 35, -35, 145, -145, 90, -90, 65, -65, 115, -115)
_RADII = (6.0, 12.0, 20.0, 30.0, 42.0, 56.0)
_MANY_POINTS, _FONT_SIZE, _SMALL_FONT_SIZE = 15, 7, 6
_HALF_POINT = 3.5


def place_labels(axes: Axes, x: Sequence[float], y: Sequence[float], texts: Sequence[str]) -> list[Annotation]:
    """Write a text beside each point (x, y), in data units.

    Call it when limits and layout are final.
    """
    figure = axes.get_figure(root=True)
    assert isinstance(figure, Figure)
    FigureCanvasAgg(figure)
    figure.draw_without_rendering()
    scale = figure.dpi / 72
    points = axes.transData.transform(np.column_stack([x, y])) if len(texts) else np.empty((0, 2))
    obstacles = [Bbox.from_extents(*(p - _HALF_POINT * scale), *(p + _HALF_POINT * scale)) for p in points]
    font_size = _FONT_SIZE if len(texts) <= _MANY_POINTS else _SMALL_FONT_SIZE
    labels: list[Annotation] = []
    for index in np.lexsort((points[:, 1], points[:, 0])) if len(points) else []:
        label = _place_label(axes, (x[index], y[index]), texts[index], obstacles, font_size)
        obstacles.append(_text_box(label))
        labels.append(label)
    return labels


def _place_label(
    axes: Axes, point: tuple[float, float], text: str, obstacles: Sequence[Bbox], font_size: float
) -> Annotation:
    label = axes.annotate(text, point, (0, 0), textcoords="offset points", fontsize=font_size, annotation_clip=False)
    label.set_in_layout(False)
    frame = axes.get_window_extent()
    best: tuple[float, tuple[float, float]] = (np.inf, (0.0, 0.0))
    for radius in _RADII:
        for angle in _ANGLES:
            offset = _move(label, radius, angle)
            cost = _overlap(_text_box(label), obstacles, frame)
            if cost < best[0]:
                best = (cost, (radius, angle))
            if cost == 0:
                return _add_leader(axes, label, point, offset, radius)
    return _add_leader(axes, label, point, _move(label, *best[1]), best[1][0])


def _move(label: Annotation, radius: float, angle: float) -> tuple[float, float]:
    dx, dy = radius * np.cos(np.deg2rad(angle)), radius * np.sin(np.deg2rad(angle))
    label.set_position((dx, dy))
    label.set_horizontalalignment("center" if abs(dx) < 1e-6 else "left" if dx > 0 else "right")
    label.set_verticalalignment("center" if abs(dy) < 1e-6 else "bottom" if dy > 0 else "top")
    return float(dx), float(dy)


def _overlap(box: Bbox, obstacles: Sequence[Bbox], frame: Bbox) -> float:
    """Return the area shared with obstacles, plus a penalty for leaving the frame."""
    outside = max(0.0, frame.x0 - box.x0) + max(0.0, box.x1 - frame.x1)
    outside += max(0.0, frame.y0 - box.y0) + max(0.0, box.y1 - frame.y1)
    intersections = (Bbox.intersection(box, obstacle) for obstacle in obstacles)
    return sum(area.width * area.height for area in intersections if area is not None) + 50 * outside


def _text_box(label: Annotation) -> Bbox:
    # of the text alone: an annotation's own extent would count its arrow
    return label.get_window_extent().padded(1.0)


def _add_leader(
    axes: Axes, label: Annotation, point: tuple[float, float], offset: tuple[float, float], radius: float
) -> Annotation:
    """Connect a distant label to its point by a line."""
    if radius > _RADII[0]:
        line = {"arrowstyle": "-", "color": palette.LEADER, "linewidth": 0.5, "shrinkA": 0, "shrinkB": 2}
        leader = axes.annotate("", point, offset, textcoords="offset points", arrowprops=line, annotation_clip=False)
        leader.set_in_layout(False)
    return label
