"""Regions: where a suspect lies in any image.

A fixed region lies at the same place in every image, such as a border. A concept region lies where features of one
level of the network look alike: a linear classifier of cells, which was trained on the cells that made the finding.
Both are arrays, so that `amend` can use them on images that the diagnosis has not seen.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Protocol

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.diagnosis.subject import Subject
from benchmarks.store.atomic import atomic_file
from interp_core.backbone.geometry import resize
from interp_core.errors import ContractError, one_line

FILE = "regions.npz"
AGAIN = "run interp-bench diagnose again"


class Region(Protocol):
    """A place in images."""

    def masks(self, subject: Subject, images: np.ndarray | Tensor) -> Tensor:
        """Return masks (N, 1, H, W) bool on the CPU for images (N, 3, H, W), uint8 or in [0, 1]."""

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the region as arrays by name."""


@dataclass(frozen=True)
class FixedRegion:
    """The same place in every image.

    Attributes:
        mask: (rows, columns) bool on any grid.
    """

    mask: np.ndarray

    def masks(self, subject: Subject, images: np.ndarray | Tensor) -> Tensor:  # noqa: ARG002
        """Return masks (N, 1, H, W) bool; see `Region`."""
        mask = torch.from_numpy(self.mask[None, None].astype(np.float32))
        return F.interpolate(mask, tuple(images.shape[-2:]), mode="nearest").bool().expand(len(images), -1, -1, -1)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the mask."""
        return {"mask": self.mask}


@dataclass(frozen=True)
class ConceptRegion:
    """The place where features of a level look alike: w . (x - mean) / std + bias > threshold.

    Attributes:
        level: name of the level.
        weight: (C,) of standardised features.
        bias: of the classifier.
        mean: (C,) of the features.
        std: (C,) of the features.
        threshold: in units of the classifier's logit.
        least: smaller share of the image than this counts as no region.
    """

    level: str
    weight: np.ndarray
    bias: float
    mean: np.ndarray
    std: np.ndarray
    threshold: float = 0.0
    least: float = 0.0

    def scores(self, subject: Subject, images: np.ndarray | Tensor) -> Tensor:
        """Return the classifier's logits at input resolution, (N, 1, H, W) on the CPU."""
        parts = [self._scores(subject, part) for part in torch.as_tensor(images).split(32)]
        return torch.cat(parts)

    @torch.no_grad()
    def _scores(self, subject: Subject, images: Tensor) -> Tensor:
        cells = subject.cells(images, self.level)
        if cells.shape[1] != len(self.weight):
            raise ContractError(
                f"the region is of {len(self.weight)} features, level {self.level} of this network has "
                f"{cells.shape[1]}: give the network that was diagnosed"
            )
        weight = torch.from_numpy(self.weight / self.std).to(cells)
        offset = float(self.bias - (self.weight * self.mean / self.std).sum())
        logits = torch.einsum("nchw,c->nhw", cells, weight)[:, None] + offset
        size = (int(images.shape[-2]), int(images.shape[-1]))
        return resize(logits, *size, subject.grid_of(self.level, size)).cpu()

    def masks(self, subject: Subject, images: np.ndarray | Tensor) -> Tensor:
        """Return masks (N, 1, H, W) bool; see `Region`."""
        masks = self.scores(subject, images) > self.threshold
        return masks & (masks.float().mean((1, 2, 3), keepdim=True) >= self.least)

    def at(self, threshold: float) -> ConceptRegion:
        """Return the region with another threshold."""
        return replace(self, threshold=threshold)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return weights and constants."""
        return {name: np.asarray(value) for name, value in vars(self).items()}


@dataclass(frozen=True)
class UnionRegion:
    """Several regions together, such as one cue for each class.

    Attributes:
        parts: the regions.
    """

    parts: tuple[Region, ...]

    def masks(self, subject: Subject, images: np.ndarray | Tensor) -> Tensor:
        """Return masks (N, 1, H, W) bool; see `Region`."""
        return torch.stack([part.masks(subject, images) for part in self.parts]).any(0)

    def arrays(self) -> dict[str, np.ndarray]:
        """Return the arrays of all parts, each after its number."""
        return {
            f"{number}.{key}": value for number, part in enumerate(self.parts) for key, value in part.arrays().items()
        }


def save_regions(folder: Path, regions: Mapping[str, Region]) -> Path:
    """Write regions by name to one file in `folder`."""
    arrays = {f"{name}/{key}": value for name, region in regions.items() for key, value in region.arrays().items()}
    with atomic_file(folder / FILE) as path, path.open("wb") as file:
        np.savez_compressed(file, **arrays)  # type: ignore[arg-type]
    return folder / FILE


def load_region(folder: Path, name: str) -> Region:
    """Read one region from the file in `folder`.

    Raises:
        ContractError: there is no such file, no such region in it, or it is damaged.
    """
    if not (folder / FILE).is_file():
        raise ContractError(f"{folder} has no {FILE}: give the findings.json of a whole diagnosis folder")
    arrays = _read_arrays(folder / FILE, lambda region: region == name)
    fields = {key.rpartition("/")[2]: value for key, value in arrays.items()}
    if not fields:
        raise ContractError(f"{folder / FILE} has no region {name!r}")
    try:
        return _from_arrays(fields)
    except (KeyError, ValueError, TypeError, RecursionError) as error:
        reason = f"no {error}" if isinstance(error, KeyError) else one_line(error)
        raise ContractError(f"{folder / FILE}: region {name!r} is damaged: {reason}; {AGAIN}") from error


def add_region(folder: Path, name: str, region: Region) -> None:
    """Add one region to the file in `folder`, in place of an older one of this name."""
    arrays = _read_arrays(folder / FILE, lambda region: region != name)
    arrays |= {f"{name}/{key}": value for key, value in region.arrays().items()}
    with atomic_file(folder / FILE) as path, path.open("wb") as stream:
        np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]


def _read_arrays(path: Path, includes: Callable[[str], bool]) -> dict[str, np.ndarray]:
    """Read the arrays of the regions whose names a function returns True for."""
    try:
        with np.load(path, allow_pickle=False) as file:
            return {key: file[key] for key in file.files if includes(key.rpartition("/")[0])}
    except Exception as error:  # numpy, zipfile and zlib have errors of their own
        raise ContractError(f"cannot read {path}: {one_line(error)}; {AGAIN}") from error


def _from_arrays(fields: Mapping[str, np.ndarray]) -> Region:
    numbers = sorted({int(key.partition(".")[0]) for key in fields if "." in key})
    if numbers:
        return UnionRegion(
            tuple(
                _from_arrays({key.partition(".")[2]: v for key, v in fields.items() if key.startswith(f"{number}.")})
                for number in numbers
            )
        )
    odd = [name for name, value in fields.items() if not isinstance(value, np.ndarray)]
    if odd:
        raise ValueError(f"its {odd[0]} is no array")
    if "mask" in fields:
        return FixedRegion(_checked_mask(fields["mask"]))
    vectors = {key: fields[key] for key in ("weight", "mean", "std")}
    scalars = {key: float(fields[key]) for key in ("bias", "threshold", "least")}
    _check_numbers(vectors, scalars)
    if fields["level"].shape or fields["level"].dtype.kind != "U":
        raise ValueError("its level is no name")
    weight, mean, std = vectors.values()
    return ConceptRegion(level=str(fields["level"]), weight=weight, mean=mean, std=std, **scalars)


def _checked_mask(mask: np.ndarray) -> np.ndarray:
    if mask.ndim != 2 or not mask.size or mask.dtype != bool:
        raise ValueError(f"its mask is {mask.dtype} of shape {mask.shape}, not bool of (rows, columns)")
    return mask


def _check_numbers(vectors: Mapping[str, np.ndarray], scalars: Mapping[str, float]) -> None:
    shapes = {value.shape for value in vectors.values()}
    if len(shapes) > 1 or len(next(iter(shapes))) != 1:
        raise ValueError(f"weight, mean and std are not of one length: {sorted(shapes)}")
    for name, value in vectors.items():
        if value.dtype.kind != "f" or not np.isfinite(value).all() or (name == "std" and not (value > 0).all()):
            raise ValueError(f"{name} has values that are no sound numbers")
    unsound = [name for name, value in scalars.items() if np.isnan(value)]
    if unsound:
        raise ValueError(f"{unsound[0]} is no number")
