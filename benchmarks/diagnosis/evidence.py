"""Evidence: what a network says about every image of a data set, from one pass, in little memory.

Images are read, explained and summarised shard by shard. A shard is written once, so that an interrupted diagnosis goes
on where it stopped, and several processes share them. All later checks read summaries; only interventions and pictures
read images again.

Maps are kept as sums over a grid of `GRID` x `GRID` cells, so every statistic of maps has that resolution.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.diagnosis.processes import ALONE, Processes
from benchmarks.diagnosis.properties import NAMES, image_properties, perceptual_hash
from benchmarks.diagnosis.subject import Look, Subject
from benchmarks.store.atomic import atomic_file
from benchmarks.store.provenance import digest
from interp_core.datasets import Images
from interp_core.errors import ContractError

GRID = 14  # cells a side of stored maps
SHARD = 256  # images of a file
BATCH = 32
DECISIVE = 4  # cells of an image whose features are kept: those with the most evidence for the answer
VERSION = 3  # of the shards
UNREADABLE = "unreadable"
Report = Callable[[int, int], None]


@dataclass(frozen=True)
class Evidence:
    """Summaries of N images.

    Attributes:
        ids: names of the images.
        rows: (N,) their indices in the data set.
        classes: names of the K classes.
        targets: (N,) int64 labels, or (N, K) of 0 and 1; -1 where there is no label.
        probabilities: (N, K).
        features: (N, D) input of the last linear layer.
        maps: (N, GRID, GRID) signed evidence for the answer, summed over cells.
        inside: (N,) share of the positive evidence inside the object's mask, NaN without a mask.
        area: (N,) share of the image that the mask covers, NaN without a mask.
        properties: (N, P) of the whole images.
        property_names: names of the P properties.
        hashes: (N,) uint64, equal or near for images that look the same.
        level: name of the level of `cells`.
        cells: (N, DECISIVE, C) features of the cells with most evidence for the answer, most first; none of them on
            or beside the object where its mask is known.
        places: (N, DECISIVE, 2) rows and columns of these cells in [0, 1].
        weights: (N, DECISIVE) share of the positive evidence in these cells.
        metadata: further columns of the images by name, (N,) of text or numbers.
        unreadable: reasons by id of images that could not be read.
    """

    ids: list[str]
    rows: np.ndarray
    classes: tuple[str, ...]
    targets: np.ndarray
    probabilities: np.ndarray
    features: np.ndarray
    maps: np.ndarray
    inside: np.ndarray
    area: np.ndarray
    properties: np.ndarray
    property_names: tuple[str, ...]
    hashes: np.ndarray
    level: str
    cells: np.ndarray
    places: np.ndarray
    weights: np.ndarray
    metadata: dict[str, np.ndarray] = field(default_factory=dict)
    unreadable: dict[str, str] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.ids)

    @property
    def answers(self) -> np.ndarray:
        """Predicted classes (N,)."""
        return self.probabilities.argmax(1)

    @property
    def has_labels(self) -> bool:
        """Whether every image has one label."""
        return self.targets.ndim == 1 and bool((self.targets >= 0).all()) and len(self) > 0

    @property
    def labels(self) -> np.ndarray:
        """Labels (N,); the answers where there are none."""
        return self.targets if self.has_labels else self.answers

    @property
    def correct(self) -> np.ndarray:
        """Whether each answer equals the label, (N,) bool."""
        return self.answers == self.labels


def collect_evidence(
    subject: Subject,
    images: Images,
    folder: Path,
    *,
    level: str | None = None,
    identity: Any = None,
    report: Report | None = None,
    processes: Processes = ALONE,
) -> Evidence:
    """Explain all images of a data set, shard by shard, and return their summaries.

    Args:
        subject: the network.
        images: one split of a data set.
        folder: for the shards; finished ones are not computed again.
        level: level whose cells are kept; None for the finest with at most `GRID` cells a side.
        identity: of the network and the data, part of the names of the shards.
        report: called with the number of images done and of all.
        processes: that share the shards.

    Raises:
        ContractError: no image can be read.
    """
    size = (images.shape[-2], images.shape[-1])
    level = level or default_level(subject, size)
    key = digest(identity, subject.explainer.name, level, GRID, DECISIVE, VERSION, list(images.shape))
    folder.mkdir(parents=True, exist_ok=True)
    shards = np.array_split(np.arange(len(images)), max(1, -(-len(images) // SHARD)))
    paths = [folder / f"{key}-{number:05d}.npz" for number in range(len(shards))]
    done, own = 0, slice(processes.rank, None, processes.count)
    for path, rows in zip(paths[own], shards[own], strict=True):
        if not path.exists():
            parts = list(_summaries(subject, images, rows, level))
            _write_shard(path, parts, _unreadable_among(images, rows))
        done += len(rows)
        if report is not None:
            report(done, sum(map(len, shards[own])))
    processes.wait()
    return _read_shards(paths, subject, level, len(images))


def default_level(subject: Subject, size: tuple[int, int]) -> str:
    """Return the finest level with at most `GRID` cells a side; the head where none has."""
    for name in subject.levels:
        pitch = subject.grid_of(name, size).pitch
        if all(length / step <= GRID + 0.5 for length, step in zip(size, pitch, strict=True)):
            return name
    return subject.levels[-1]


def _summaries(subject: Subject, images: Images, rows: np.ndarray, level: str) -> Iterator[dict[str, np.ndarray]]:
    parts = np.array_split(rows, max(1, -(-len(rows) // BATCH)))
    for indices, batch in images.batches(parts):
        if len(batch):
            look = subject.look(batch.images, [level])
            yield {
                "ids": np.array(batch.ids),
                "rows": indices,
                "targets": batch.targets,
                "probabilities": look.probabilities.float().cpu().numpy(),
                "features": look.features.cpu().numpy().astype(np.float16),
                "maps": _to_grid(look.maps).cpu().numpy().astype(np.float32),
                "properties": image_properties(batch.images),
                "hashes": perceptual_hash(batch.images),
                **_inside(look.maps, batch.masks),
                **_decisive(look, level, batch.masks),
            }


def _to_grid(maps: Tensor) -> Tensor:
    """Sum maps (N, 1, H, W) over cells, (N, GRID, GRID)."""
    rows, columns = maps.shape[-2:]
    return F.adaptive_avg_pool2d(maps.float(), GRID)[:, 0] * (rows * columns / GRID**2)


def _inside(maps: Tensor, masks: np.ndarray) -> dict[str, np.ndarray]:
    positive = maps[:, 0].clamp(min=0).float().cpu().numpy()
    total, area = positive.sum((1, 2)), masks[:, 0].mean((1, 2))
    inside = (positive * masks[:, 0]).sum((1, 2)) / np.maximum(total, 1e-30)
    known = (area > 0) & (total > 0)
    return {"inside": np.where(known, inside, np.nan), "area": np.where(area > 0, area, np.nan)}


def _decisive(look: Look, level: str, masks: np.ndarray) -> dict[str, np.ndarray]:
    """Choose the cells of a level with the most evidence, besides the object where its mask is known."""
    cells = look.cells[level].float()
    n, channels, rows, columns = cells.shape
    evidence = F.adaptive_avg_pool2d(look.maps.float(), (rows, columns)).clamp(min=0)
    shares = evidence / evidence.sum((1, 2, 3), keepdim=True).clamp(min=1e-30)
    objects = F.adaptive_max_pool2d(torch.from_numpy(masks).to(shares), (rows, columns))
    near = F.max_pool2d(objects, 3, stride=1, padding=1)  # a cell's evidence reaches its neighbours
    shares = (shares * (near == 0)).reshape(n, -1)
    weights, chosen = shares.topk(min(DECISIVE, rows * columns), 1)
    picked = cells.reshape(n, channels, -1).gather(2, chosen[:, None].expand(-1, channels, -1)).transpose(1, 2)
    places = torch.stack([(chosen // columns + 0.5) / rows, (chosen % columns + 0.5) / columns], 2)
    return {
        "cells": picked.cpu().numpy().astype(np.float16),
        "places": places.float().cpu().numpy(),
        "weights": weights.cpu().numpy(),
    }


def _unreadable_among(images: Images, rows: np.ndarray) -> dict[str, str]:
    """Return the reasons of the images at rows (n,) that could not be read."""
    names = {images.ids[row] for row in rows}
    return {name: reason for name, reason in images.unreadable.items() if name in names}


def _write_shard(path: Path, parts: Sequence[dict[str, np.ndarray]], unreadable: dict[str, str]) -> None:
    arrays = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]} if parts else {}
    arrays[UNREADABLE] = np.array(list(unreadable.items()), str).reshape(-1, 2)
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez(file, **arrays)  # type: ignore[arg-type]


def _read_shards(paths: Sequence[Path], subject: Subject, level: str, total: int) -> Evidence:
    columns: dict[str, list[np.ndarray]] = {}
    for path in paths:
        with np.load(path, allow_pickle=False) as file:
            for name in file.files:
                columns.setdefault(name, []).append(file[name])
    unreadable = {str(name): str(reason) for part in columns.pop(UNREADABLE) for name, reason in part}
    if not columns:
        reasons = "; ".join(f"{name}: {reason}" for name, reason in list(unreadable.items())[:3])
        raise ContractError(f"none of the {total} images can be read: {reasons or 'the split is empty'}")
    arrays: dict[str, Any] = {name: np.concatenate(values) for name, values in columns.items()}
    arrays["ids"] = [str(name) for name in arrays["ids"]]
    return Evidence(classes=subject.classes, property_names=NAMES, level=level, unreadable=unreadable, **arrays)
