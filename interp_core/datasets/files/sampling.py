"""Which records a split takes, in which order, and what tells one index from another.

Order and samples follow keyed hashes of ids: the same images for a seed wherever the files lie, and an image more
changes the places of no others.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from interp_core.datasets.records import Index, Record
from interp_core.errors import InterpError


def has_evidence(record: Record, target: int) -> bool:
    """Whether a box or mask says where a class is."""
    named = [*(box.target for box in record.boxes), *(mask.target for mask in record.masks)]
    return None in named or target in named


def keyed_hash(name: str, key: bytes) -> bytes:
    """Return 8 bytes that look random but depend only on a name and a key, on every machine alike."""
    return hashlib.blake2b(name.encode(errors="backslashreplace"), key=key, digest_size=8).digest()


def sort_key(name: str, seed: int) -> bytes:
    """Return the key that puts names into the order of a seed."""
    return keyed_hash(name, seed.to_bytes(8, "little", signed=True))


def rank_in_class(classes: np.ndarray) -> np.ndarray:
    """Return how many earlier items of the same class each of (N,) items has, (N,) int64."""
    order = np.argsort(classes, kind="stable")
    _, sizes = np.unique(classes, return_counts=True)
    ranks = np.empty(len(classes), np.int64)
    ranks[order] = np.arange(len(classes)) - np.repeat(np.cumsum(sizes) - sizes, sizes)
    return ranks


def progress_in_class(classes: np.ndarray) -> np.ndarray:
    """Return the relative position of each item within its class, (N,) in (0, 1).

    Sorted by it, the first n items hold the classes in proportion, for every n.
    """
    _, labels, sizes = np.unique(classes, return_inverse=True, return_counts=True)
    return (rank_in_class(classes) + 0.5) / sizes[labels]


def sample_records(records: Sequence[Record], most: int, seed: int) -> list[Record]:
    """About `most` records and never more, in the classes' proportions, in the order of a seed; groups kept whole.

    Args:
        records: of one split.
        most: how many at most.
        seed: of the order.
    """
    groups: dict[str, list[Record]] = {}
    for record in sorted(records, key=lambda record: sort_key(record.id, seed)):
        groups.setdefault(record.group or f"\0{record.id}", []).append(record)
    if most >= len(records):
        return [record for group in groups.values() for record in group]
    strata: dict[tuple[int, ...], int] = {}  # numbered
    classes = [tuple(sorted({target for record in group for target in record.targets})) for group in groups.values()]
    progress = progress_in_class(np.array([strata.setdefault(shown, len(strata)) for shown in classes]))
    keys = [sort_key(group[0].id, seed) for group in groups.values()]
    # All classes are walked along together, each at the pace of its size.
    ranked = sorted(zip(progress.tolist(), keys, groups.values(), strict=True))
    chosen: list[Record] = []
    for _, _, group in ranked:
        if len(chosen) + len(group) <= most:
            chosen += group
    return sorted(chosen, key=lambda record: sort_key(record.id, seed))


def digest(index: Index, root: Path) -> str:
    """Hash of what an index says, with paths below `root`."""
    state = hashlib.blake2b(repr((index.classes, index.multi_label)).encode(), digest_size=12)
    prefix = str(root)
    for split in sorted(index.records):
        for record in index.records[split]:
            state.update(repr((split, record)).replace(prefix, "").encode())
    return state.hexdigest()


def check_index(index: Index) -> None:
    """Refuse an index that contradicts itself.

    Raises:
        InterpError: two images have one id, or a class is none of the classes.
    """
    seen: set[str] = set()
    for split, records in index.records.items():
        for record in records:
            if record.id in seen:
                raise InterpError(f"split {split}: two images are called {record.id!r}: ids must be unique")
            seen.add(record.id)
            if not all(0 <= target < len(index.classes) for target in record.targets):
                raise InterpError(f"{record.path}: class {record.targets} is none of the {len(index.classes)} classes")
            if not index.multi_label and len(record.targets) != 1:
                raise InterpError(f"{record.path}: one class is wanted, got {len(record.targets)}")
