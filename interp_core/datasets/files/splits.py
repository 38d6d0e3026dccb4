"""Divide images into train, val and test if the data set does not.

Groups, such as the images of a patient, stay whole. Groups are sorted by their classes and then by a keyed hash of
their name. Each goes to the split that is furthest behind its share. So every split has every class in proportion, on
every machine and in whatever order files are listed.
Known limits: a class with fewer groups than splits is missing from some split; adding images moves others.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from interp_core.datasets.files.sampling import keyed_hash
from interp_core.datasets.records import SPLITS, Record, SplitName

SHARES: dict[SplitName, float] = {"train": 0.7, "val": 0.1, "test": 0.2}
VAL_SHARE = 0.1


@dataclass(frozen=True, slots=True)
class SplitRecord:
    """A record with the split that the data set puts it in; None if the data set does not say."""

    record: Record
    split: SplitName | None = None


def divide(
    records: Sequence[Record], shares: Mapping[SplitName, float], seed: int, strata: Mapping[str, str] | None = None
) -> dict[SplitName, tuple[Record, ...]]:
    """Divide records by group, with each class in proportion.

    Args:
        records: records to divide; one without a group is its own group.
        shares: share of the groups that each split gets.
        seed: seed of the order within a class.
        strata: finer classes by group, used in place of the targets.
    """
    groups: dict[str, list[Record]] = {}
    for record in records:
        groups.setdefault(record.group or record.id, []).append(record)
    key = str(seed).encode()
    order = sorted(groups, key=lambda name: (_stratum(groups[name], name, strata), keyed_hash(name, key)))
    split_by_group = dict(zip(order, _spread(len(order), shares), strict=True))
    by_split: dict[SplitName, list[Record]] = {split: [] for split in SPLITS}
    for record in records:
        by_split[split_by_group[record.group or record.id]].append(record)
    return {split: tuple(members) for split, members in by_split.items()}


def complete_splits(
    records: Iterable[SplitRecord], seed: int, val_share: float = VAL_SHARE
) -> dict[SplitName, tuple[Record, ...]]:
    """Make all three splits from those that the data set names.

    If only train and one other split are named, the other becomes "test" and a part of train becomes "val". Images
    without a split are divided among all three. So are those of train if it is the only split.

    Args:
        records: records with the splits of the data set.
        seed: seed of the division.
        val_share: share of train that becomes val.
    """
    named: dict[SplitName | None, list[Record]] = {None: [], "train": [], "val": [], "test": []}
    for item in records:
        named[item.split].append(item.record)
    if not named["test"]:
        named["test"], named["val"] = named["val"], []
    if named["train"] and not named["test"]:
        named[None], named["train"] = [*named[None], *named["train"]], []
    splits: dict[SplitName, tuple[Record, ...]] = {split: tuple(named[split]) for split in SPLITS}
    if splits["train"] and not splits["val"]:
        divided = divide(splits["train"], {"train": 1 - val_share, "val": val_share}, seed)
        splits |= {split: divided[split] for split in ("train", "val")}
    remainder = divide(named[None], SHARES, seed)
    return {split: splits[split] + remainder[split] for split in SPLITS}


def _stratum(records: list[Record], group: str, strata: Mapping[str, str] | None) -> tuple[object, ...]:
    if strata is not None:
        return (strata.get(group, ""),)
    return tuple(sorted({target for record in records for target in record.targets}))


def _spread(count: int, shares: Mapping[SplitName, float]) -> list[SplitName]:
    """Assign `count` groups one by one to the split that is furthest behind its share."""
    deficits = dict.fromkeys(shares, 0.0)
    splits: list[SplitName] = []
    for _ in range(count):
        for split, share in shares.items():
            deficits[split] += share
        next_split = max(deficits, key=lambda split: deficits[split])
        deficits[next_split] -= 1
        splits.append(next_split)
    return splits
