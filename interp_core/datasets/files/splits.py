"""Which images train, validate and test, where the data set does not say.

Groups, such as the images of a patient, stay whole. Groups are ordered by what they show and then by a keyed hash of
their name, and each goes to the split that lags furthest behind its share: so every split has every class in
proportion, the same on every machine, in whatever order files are listed.
Known limits: a class with fewer groups than splits is not in all of them; adding images moves others.
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
    """A record and the split the data set itself puts it in; None where it says nothing."""

    record: Record
    split: SplitName | None = None


def divide(
    records: Sequence[Record], shares: Mapping[SplitName, float], seed: int, strata: Mapping[str, str] | None = None
) -> dict[SplitName, tuple[Record, ...]]:
    """Records divided by group, each class in proportion.

    Args:
        records: to be divided; those without a group are on their own.
        shares: of all groups, by split.
        seed: of the order within a class.
        strata: finer classes by group, in place of the targets.
    """
    members: dict[str, list[Record]] = {}
    for record in records:
        members.setdefault(record.group or record.id, []).append(record)
    order = sorted(
        members, key=lambda name: (_stratum(members[name], name, strata), keyed_hash(name, str(seed).encode()))
    )
    place = dict(zip(order, _spread(len(order), shares), strict=True))
    parts: dict[SplitName, list[Record]] = {split: [] for split in SPLITS}
    for record in records:
        parts[place[record.group or record.id]].append(record)
    return {split: tuple(part) for split, part in parts.items()}


def complete_splits(
    labelled: Iterable[SplitRecord], seed: int, val_share: float = VAL_SHARE
) -> dict[SplitName, tuple[Record, ...]]:
    """All three splits from those the data set names.

    Where only train and one other split are named, the other one is "test" and a part of train becomes "val". Images in
    no split are divided among all three, whatever else there is, and so is train where it is alone.

    Args:
        labelled: records with the data set's own splits.
        seed: of what is divided here.
        val_share: of train that becomes val.
    """
    own: dict[SplitName | None, list[Record]] = {None: [], "train": [], "val": [], "test": []}
    for item in labelled:
        own[item.split].append(item.record)
    if not own["test"]:
        own["test"], own["val"] = own["val"], []
    if own["train"] and not own["test"]:
        own[None], own["train"] = [*own[None], *own["train"]], []
    parts: dict[SplitName, tuple[Record, ...]] = {split: tuple(own[split]) for split in SPLITS}
    if parts["train"] and not parts["val"]:
        parts |= {k: v for k, v in divide(parts["train"], _held_out(val_share), seed).items() if k != "test"}
    rest = divide(own[None], SHARES, seed)
    return {split: parts[split] + rest[split] for split in SPLITS}


def _held_out(val_share: float) -> dict[SplitName, float]:
    return {"train": 1 - val_share, "val": val_share}


def _stratum(records: list[Record], group: str, strata: Mapping[str, str] | None) -> tuple[object, ...]:
    if strata is not None:
        return (strata.get(group, ""),)
    return tuple(sorted({target for record in records for target in record.targets}))


def _spread(count: int, shares: Mapping[SplitName, float]) -> list[SplitName]:
    """Splits in the order in which they are due."""
    due = dict.fromkeys(shares, 0.0)
    out: list[SplitName] = []
    for _ in range(count):
        for split, share in shares.items():
            due[split] += share
        last = max(due, key=lambda split: due[split])
        due[last] -= 1
        out.append(last)
    return out
