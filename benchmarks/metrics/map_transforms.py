"""Transforms of maps: are scores better if maps are smoother, coarser or sharper?

Removal metrics favour smooth maps and mass accuracy favours sharp ones, whatever the maps show. An explainer that leads
only at its own resolution leads by its resolution. Each transform adds rows named `<explainer>@<transform>`, whose maps
are scored like all others.

    smooth   Gaussian blur with a standard deviation of s pixels, mirrored at the border
    grid     mean over the cells of a g x g grid, resized to full size bilinearly
    sharp    sign(x) |x / max|x||^p

Known limits: metrics that call the explainer again (robustness, checks, mosaics) are left out, so that no map is
computed twice. Degenerate maps are not changed.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

import numpy as np
import torch
import torch.nn.functional as F
from scipy.ndimage import gaussian_filter

from benchmarks.metrics.base import Family, Metric, is_degenerate

Kind = Literal["smooth", "grid", "sharp"]
FAMILIES: tuple[Family, ...] = ("localisation", "faithfulness", "descriptor")
_TITLES = {
    "smooth": "blurred, standard deviation {} px",
    "grid": "averaged on a grid of {0} x {0}",
    "sharp": "raised to the power {}",
}


@dataclass(frozen=True)
class MapTransform:
    """One transform of maps.

    Attributes:
        kind: "smooth", "grid" or "sharp".
        value: standard deviation in pixels > 0, cells a side >= 1, or exponent > 0.
    """

    kind: Kind
    value: float

    @property
    def name(self) -> str:
        """Name behind the @, such as smooth2."""
        return f"{self.kind}{self.value:g}"

    @property
    def title(self) -> str:
        """Title in words."""
        return _TITLES[self.kind].format(f"{self.value:g}")

    def __call__(self, maps: np.ndarray) -> np.ndarray:
        """Transform maps (N, 1, H, W), and return float32.

        Degenerate maps are not changed.
        """
        changed = _FUNCTIONS[self.kind](maps, self.value).astype(np.float32)
        return np.where(is_degenerate(maps)[:, None, None, None], maps, changed)

    def applies_to(self, metric: Metric) -> bool:
        """Return whether a metric scores transformed maps."""
        return metric.family in FAMILIES and not metric.needs_explain

    def describe(self) -> dict[str, Any]:
        """Return the description for run.json."""
        return {"name": self.name, "title": self.title, "kind": self.kind, "value": self.value}


def blur(maps: np.ndarray, sigma: float) -> np.ndarray:
    """Blur maps (N, 1, H, W) by a Gaussian of `sigma` pixels."""
    return gaussian_filter(maps.astype(np.float64), sigma, axes=(2, 3))


def average_on_grid(maps: np.ndarray, side: float) -> np.ndarray:
    """Average maps (N, 1, H, W) over side x side cells.

    They are resized back bilinearly.
    """
    # In float64, so that a map of one value keeps one value.
    coarse = F.adaptive_avg_pool2d(torch.from_numpy(maps.astype(np.float64)), int(side))
    return F.interpolate(coarse, maps.shape[-2:], mode="bilinear", align_corners=False).numpy()


def sharpened(maps: np.ndarray, power: float) -> np.ndarray:
    """Raise maps (N, 1, H, W) to `power` and keep their sign.

    They are divided by their largest magnitude first.
    """
    largest = np.abs(maps).max(axis=(1, 2, 3), keepdims=True)
    unit = maps / np.where(largest > 0, largest, 1)
    return np.sign(unit) * np.abs(unit) ** power


_FUNCTIONS = {"smooth": blur, "grid": average_on_grid, "sharp": sharpened}


def build_transforms(
    smoothing: tuple[float, ...], grids: tuple[int, ...], sharpening: tuple[float, ...]
) -> list[MapTransform]:
    """Build the transforms of a run, in the order of its fields.

    Args:
        smoothing: standard deviations in pixels.
        grids: cells a side.
        sharpening: exponents.
    """
    by_kind: dict[Kind, tuple[float, ...]] = {"smooth": smoothing, "grid": grids, "sharp": sharpening}
    return [MapTransform(kind, float(value)) for kind, values in by_kind.items() for value in values]
