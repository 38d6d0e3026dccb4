"""Names and numbers that stand for splits."""

from __future__ import annotations

import pytest

from interp_core.datasets.files.split_words import split_of, splits_of_column, splits_of_folders


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("instances_val2017", "val"), ("trainval", "train"), ("TrainSet", "train"), ("PublicTest", "test"),
        ("valid", "val"), ("hold-out", "test"), ("dev", "val"), ("test-dev", "test"), ("latest", None),
        ("devices", None), ("constrained", None), ("strains", None), ("all", None), ("", None),
    ],
)  # fmt: skip
def test_words_in_names(name: str, split: str | None) -> None:
    assert split_of(name) == split


@pytest.mark.parametrize(
    ("names", "splits"),
    [
        (["seg_train", "seg_test"], ["train", "test"]),
        (["train_images", "test_images"], ["train", "test"]),
        (["tr", "te"], ["train", "test"]),
        (["dogs_train", "dogs_test"], ["train", "test"]),
        (["train station", "airport"], [None, None]),
        (["fold_1", "fold_2", "fold_10"], ["train", "val", "test"]),
        (["0", "1", "2"], [None, None, None]),
    ],
)
def test_folders(names: list[str], splits: list[str | None]) -> None:
    assert [splits_of_folders(names).get(name) for name in names] == splits


@pytest.mark.parametrize(
    ("column", "values", "splits"),
    [
        ("split", ["tr", "dev", "holdout", ""], ["train", "val", "test", None]),
        ("split", ["0", "1", "2", "0"], ["train", "val", "test", "train"]),
        ("split", ["1.0", "2.0", "1.0"], ["train", "test", "train"]),
        ("fold", ["0", "1", "2", "3"], ["train", "train", "val", "test"]),
        ("is_train", ["True", "0"], ["train", "test"]),
        ("is_valid", ["False", "True"], ["train", "val"]),
        ("split", ["train", "elsewhere"], ["train", None]),
    ],
)
def test_columns(column: str, values: list[str], splits: list[str | None]) -> None:
    mapping, note = splits_of_column(column, values)
    assert [mapping.get(value) for value in values] == splits
    assert bool(note) == (values[0].replace(".", "").isdigit() or "elsewhere" in values)
