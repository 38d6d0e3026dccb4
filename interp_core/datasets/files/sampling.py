"""Sample the records of a split, order them, and hash an index.

Order and samples follow keyed hashes of ids. A seed gives the same images wherever the files lie, and adding an image
does not move the others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from interp_core.datasets.records import Index, Record
from interp_core.errors import InterpError


def has_evidence(record: Record, target: int) -> bool:
    """Return whether a box or mask marks the evidence for a class."""
    marked_targets = [*(box.target for box in record.boxes), *(mask.target for mask in record.masks)]
    return None in marked_targets or target in marked_targets


def keyed_hash(name: str, key: bytes) -> bytes:
    """Return 8 pseudo-random bytes that depend on a name and a key only, on every machine."""
    return hashlib.blake2b(name.encode(errors="backslashreplace"), key=key, digest_size=8).digest()


def sort_key(name: str, seed: int) -> bytes:
    """Return the key that puts names into the order of a seed."""
    return keyed_hash(name, seed.to_bytes(8, "little", signed=True))


def rank_in_class(classes: np.ndarray) -> np.ndarray:
    """Return how many earlier items of its class each of (N,) items has, (N,) int64."""
    order = np.argsort(classes, kind="stable")
    _, sizes = np.unique(classes, return_counts=True)
    ranks = np.empty(len(classes), np.int64)
    ranks[order] = np.arange(len(classes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return ranks


def progress_in_class(classes: np.ndarray) -> np.ndarray:
    """Return the relative position of each item within its class, (N,) in (0, 1).

    If items are sorted by it, the first n of them hold the classes in proportion, for every n.
    """
    _, labels, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    return np.asarray((rank_in_class(classes) + 0.5) / sizes[labels])


def sample_records(records: Sequence[Record], most: int, seed: int) -> list[Record]:
    """Sample records in the proportions of their classes; groups stay whole.

    Args:
        records: records of one split.
        most: maximum number of records. A group that does not fit is passed over, so there may be fewer.
        seed: seed of the order.

    Returns:
        The records in the order of the seed; if all are taken, groups stay together.
    """
    groups: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: sort_key(record.id, seed)):
        groups.setdefault(record.group or f"\0{record.id}", []).append(record)
    if most >= len(records):
        return [record for group in groups.values() for record in group]
    strata: dict[tuple[int, ...], int] = {}  # number of each combination of classes
    classes = [tuple(sorted({target for record in group for target in record.targets})) for group in groups.values()]
    progress = progress_in_class(np.array([strata.setdefault(targets, len(strata)) for targets in classes]))
    keys = [sort_key(group[0].id, seed) for group in groups.values()]
    sampled: list[Record] = []
    for _, _, group in sorted(zip(progress.tolist(), keys, groups.values(), strict=True)):
        if len(sampled) + len(group) <= most:
            sampled += group
    return sorted(sampled, key=lambda record: sort_key(record.id, seed))


def digest(index: Index, root: Path) -> str:
    """Hash an index, with paths relative to `root`."""
    state = hashlib.blake2b(repr((index.classes, index.multi_label)).encode(), digest_size=12)
    prefix = str(root)
    for split in sorted(index.records):
        for record in index.records[split]:
            state.update(repr((split, record)).replace(prefix, "").encode())
    return state.hexdigest()


def check_index(index: Index) -> None:
    """Check that ids are unique and that targets are classes.

    Raises:
        InterpError: two images have the same id, a target is not a class, or an image has not exactly one target in a
            data set that is not multi-label.
    """
    ids: set[str] = set()
    for split, records in index.records.items():
        for record in records:
            if record.id in ids:
                raise InterpError(f"split {split}: two images have the id {record.id!r}: ids must be unique")
            ids.add(record.id)
            if not all(0 <= target < len(index.classes) for target in record.targets):
                raise InterpError(f"{record.path}: targets {record.targets} are outside 0..{len(index.classes) - 1}")
            if not index.multi_label and len(record.targets) != 1:
                raise InterpError(f"{record.path}: an image needs exactly one class, got {len(record.targets)}")
