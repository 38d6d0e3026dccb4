"""Repair boxes: swap inverted corners, cut them to the image, drop unusable ones, and report all of it."""

from __future__ import annotations

import math
from collections.abc import Sequence

from interp_core.datasets.records import Box, Finding


def repair_box(
    corners: Sequence[float],
    where: str,
    findings: list[Finding],
    target: int | None = None,
    size: tuple[int, int] | None = None,
) -> Box | None:
    """Return a box that marks at least part of its image, or None if there is no such part.

    Args:
        corners: x0, y0, x1, y1 in pixels, half-open.
        where: file and row, for findings.
        findings: list to which repairs and dropped boxes are added.
        target: class that the box is evidence for.
        size: (width, height) of the image; None cuts only at its left and top.
    """
    x0, y0, x1, y1 = corners
    if not all(map(math.isfinite, corners)):
        findings.append(Finding("box", where, f"its corners are not all numbers, left out: {_format(corners)}"))
        return None
    if x1 < x0 or y1 < y0:
        findings.append(Finding("box inverted", where, f"corners swapped: {_format(corners)}"))
        x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
    width, height = size or (math.inf, math.inf)
    cut = max(x0, 0.0), max(y0, 0.0), min(x1, width), min(y1, height)
    if cut[0] >= cut[2] or cut[1] >= cut[3]:
        kind = "box empty" if x0 == x1 or y0 == y1 else "box outside"
        findings.append(Finding(kind, where, f"marks no pixel, left out: {_format(corners)}"))
        return None
    if cut != (x0, y0, x1, y1):
        findings.append(Finding("box outside", where, f"reaches beyond the image, cut: {_format(corners)}"))
    return Box(*cut, target=target)


def _format(corners: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in corners) + ")"
