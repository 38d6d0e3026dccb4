"""Boxes as annotators leave them, made usable: turned the right way round, cut to the image, or dropped; all said."""

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
    """A box that marks at least part of its image, else None.

    Args:
        corners: x0, y0, x1, y1 in pixels, half-open.
        where: file and row, for findings.
        findings: is told what was repaired or dropped.
        target: class the box is evidence for.
        size: (width, height) of the image where it is known; else only what lies left of or above it is cut.
    """
    x0, y0, x1, y1 = corners
    if not all(map(math.isfinite, corners)):
        findings.append(Finding("box", where, f"its corners are not all numbers, left out: {_told(corners)}"))
        return None
    if x1 < x0 or y1 < y0:
        findings.append(Finding("box inverted", where, f"corners swapped: {_told(corners)}"))
        x0, x1, y0, y1 = min(x0, x1), max(x0, x1), min(y0, y1), max(y0, y1)
    wide, high = size or (math.inf, math.inf)
    cut = max(x0, 0.0), max(y0, 0.0), min(x1, wide), min(y1, high)
    if cut[0] >= cut[2] or cut[1] >= cut[3]:
        kind = "box empty" if x0 == x1 or y0 == y1 else "box outside"
        findings.append(Finding(kind, where, f"marks no pixel, left out: {_told(corners)}"))
        return None
    if cut != (x0, y0, x1, y1):
        findings.append(Finding("box outside", where, f"reaches beyond the image, cut: {_told(corners)}"))
    return Box(*cut, target=target)


def _told(corners: Sequence[float]) -> str:
    return "(" + ", ".join(f"{value:g}" for value in corners) + ")"
