"""Tell which split a name or a number stands for: folders, files, and columns of tables.

Names are cut into words at blanks, punctuation, digits and capitals, so that "instances_val2017" and "TrainSet" name a
split and "latest" or "strains" do not. Numbers of folds become splits by their order.
Known limits: only English words; "eval" counts as test.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from itertools import zip_longest

from interp_core.datasets.records import SplitName

WORDS: dict[SplitName, frozenset[str]] = {
    "train": frozenset({"train", "training", "trainval", "trainset", "traindata"}),
    "val": frozenset({"val", "valid", "validation", "validate", "validating", "dev", "devel", "development", "minival",
                      "valset", "valdata", "devset"}),
    "test": frozenset({"test", "testing", "holdout", "heldout", "testset", "testdata", "eval", "evaluation"}),
}  # fmt: skip
# Too short to count inside a longer name such as that of a JSON file.
SHORT_WORDS: dict[SplitName, frozenset[str]] = {
    "train": frozenset({"tr", "trn"}),
    "val": frozenset({"vl", "va"}),
    "test": frozenset({"te", "ts", "tst"}),
}
PAIRS: dict[tuple[str, str], SplitName] = {("hold", "out"): "test", ("held", "out"): "test"}
# Words that say nothing about the content of a folder.
NEUTRAL = frozenset(
    {"image", "images", "img", "imgs", "set", "data", "dataset", "seg", "split", "splits", "stage", "folder", "photos",
     "pictures", "new", "final", "my", "the", "cls", "crop", "cropped", "public", "private", "x", "jpg", "png", "dir",
     "full", "small", "samples", "part", "clean", "raw", "processed", "resized"}
)  # fmt: skip
FOLDS = frozenset({"fold", "folds", "kfold", "cv"})
TRUE, FALSE = frozenset({"1", "1.0", "true", "yes", "t", "y"}), frozenset({"0", "0.0", "false", "no", "f", "n"})
# Columns of yes and no: the splits of yes and of no; None where a no leaves the choice open.
FLAGS: dict[str, tuple[SplitName, SplitName | None]] = {
    "is_train": ("train", "test"), "is_training": ("train", "test"), "is_training_image": ("train", "test"),
    "is_test": ("test", "train"), "is_val": ("val", "train"), "is_valid": ("val", "train"),
    "is_validation": ("val", "train"),
}  # fmt: skip


def split_of(name: str) -> SplitName | None:
    """Return the split that a name such as "instances_val2017", "valid" or "trainval" holds as a word, or None."""
    return _first_split(_words(name))


def split_of_value(name: str) -> SplitName | None:
    """Return the split that a value of a table stands for, short forms such as "tr" included, or None."""
    words = _words(name)
    return _first_split(words) or (_short_split(words[0]) if len(words) == 1 else None)


def splits_of_folders(names: Iterable[str]) -> dict[str, SplitName]:
    """Return the splits of those folders of one level that are named by a split.

    Besides its split, a name holds only words without content ("seg_train", "train_images", "test2017"), or the same
    words as another folder of another split ("dogs_train", "dogs_test"). Folds ("fold1", "fold_2") count by number.
    """
    splits: dict[str, SplitName] = {}
    remainders: dict[tuple[str, ...], set[SplitName]] = {}
    candidates: list[tuple[str, SplitName, tuple[str, ...]]] = []
    names = list(names)
    for name in names:
        words = _words(name)
        split = split_of_value(name) or _first_short(words)
        if split is not None:
            remainder = tuple(w for w in words if _is_content(w))
            candidates.append((name, split, remainder))
            remainders.setdefault(remainder, set()).add(split)
    for name, split, remainder in candidates:
        if not remainder or len(remainders[remainder]) > 1:
            splits[name] = split
    folds = {name: words[-1] for name in names if len(words := _words(name)) >= 2 and _is_fold(words)}
    return splits | _by_value(folds, splits_of_folds(folds.values()))


def splits_of_column(name: str, values: Sequence[str]) -> tuple[dict[str, SplitName], str]:
    """Return the split of each value of a column of a table, and how they were read if that is not plain.

    Args:
        name: name of the column, in lower case.
        values: its values as text; "" for none.
    """
    distinct = sorted({value for value in values if value})
    if name in FLAGS:
        yes, no = FLAGS[name]
        flags = {value: yes if value.lower() in TRUE else no for value in distinct if value.lower() in TRUE | FALSE}
        return {value: split for value, split in flags.items() if split is not None}, ""
    words = {value: split for value in distinct if (split := split_of_value(value)) is not None}
    if words or not distinct or not all(map(_is_whole, distinct)):
        unknown = [value for value in distinct if value not in words]
        note = f"{', '.join(map(repr, unknown[:5]))} name no split: divided by the seed" if unknown else ""
        return words, note
    numbers = sorted({int(float(value)) for value in distinct})
    is_code = name not in FOLDS and numbers in ([0, 1, 2], [1, 2, 3], [0, 1], [1, 2])
    order: tuple[SplitName, ...] = ("train", "val", "test") if len(numbers) == 3 else ("train", "test")
    by_number = dict(zip(numbers, order, strict=True)) if is_code else splits_of_folds(map(str, numbers))
    codes: dict[int, SplitName] = {int(number): split for number, split in by_number.items()}
    splits = {value: codes[int(float(value))] for value in distinct if int(float(value)) in codes}
    return splits, f"numbers are read as splits: {_describe(codes)}" if splits else ""


def splits_of_folds(numbers: Iterable[str]) -> dict[str, SplitName]:
    """Return the splits of fold numbers: the last is test, of three or more the one before is val, others are train."""
    order = sorted({*numbers}, key=int)
    if len(order) < 2:
        return {}
    splits: dict[str, SplitName] = dict.fromkeys(order, "train")
    if len(order) > 2:
        splits[order[-2]] = "val"
    splits[order[-1]] = "test"
    return splits


def _words(name: str) -> list[str]:
    spaced = re.sub(r"(?<=[^\W\d_A-Z])(?=[A-Z])", " ", name)
    return [word.lower() for word in re.findall(r"[^\W\d_]+|\d+", spaced)]


def _first_split(words: Sequence[str]) -> SplitName | None:
    for first, second in zip_longest(words, words[1:], fillvalue=""):
        for split, names in WORDS.items():
            if first in names:
                return split
        if (first, second) in PAIRS:
            return PAIRS[first, second]
    return None


def _short_split(word: str) -> SplitName | None:
    return next((split for split, names in SHORT_WORDS.items() if word in names), None)


def _first_short(words: Sequence[str]) -> SplitName | None:
    """Return the split of a short form among words without content, such as that of "img_tr"."""
    splits = [split for word in words if (split := _short_split(word)) is not None]
    return splits[0] if splits and all(not _is_content(word) for word in words) else None


def _is_content(word: str) -> bool:
    parts = {part for pair in PAIRS for part in pair}
    return not (word.isdigit() or word in NEUTRAL | parts or _first_split([word]) or _short_split(word))


def _is_fold(words: Sequence[str]) -> bool:
    return words[-1].isdecimal() and words[-2] in FOLDS and not any(map(_is_content, words[:-2]))


def _is_whole(value: str) -> bool:
    try:
        return float(value).is_integer() and abs(float(value)) < 1e6
    except ValueError:
        return False


def _by_value(keys: Mapping[str, str], splits: Mapping[str, SplitName]) -> dict[str, SplitName]:
    return {name: splits[key] for name, key in keys.items() if key in splits}


def _describe(codes: Mapping[int, SplitName]) -> str:
    return ", ".join(f"{number} {split}" for number, split in sorted(codes.items()))
