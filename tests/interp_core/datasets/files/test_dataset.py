"""Data sets of files: which images a split takes, in which order, and unreadable files."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from interp_core.datasets import FileDataset, FileImageSet, SplitName
from interp_core.datasets.records import Box, Finding, Index, MaskFile, Record
from interp_core.errors import InterpError, UnknownNameError

SIDE = 24
COUNT = 12


def shade(i: int) -> int:
    return 10 + 15 * i


class Shades(FileDataset):
    """Each picture of one shade, named by its number; the even ones are class 0."""

    workers: int | None = 0
    image_size: int = 16
    several: bool = False
    boxed: bool = True

    def index(self) -> Index:
        def record(split: str, i: int) -> Record:
            boxes = (Box(0, 0, 12, 24, 0), Box(12, 0, 24, 12, 1)) if self.boxed else ()
            targets = tuple(range(i % 3)) if self.several else (i % 2,)
            return Record(f"{split}/{i}", self.root / f"{i}.png", targets, boxes, group=f"{split}{i // 2}")

        names: tuple[SplitName, ...] = ("train", "val", "test")
        found = {split: tuple(record(split, i) for i in range(COUNT)) for split in names}
        return Index(("even", "odd"), found, self.several, (Finding("odd", "a.csv, line 3", "nothing done"),))


@pytest.fixture
def root(tmp_path: Path) -> Path:
    for i in range(COUNT):
        Image.fromarray(np.full((SIDE, SIDE), shade(i), np.uint8)).save(tmp_path / f"{i}.png")
    return tmp_path


@pytest.fixture
def shades(root: Path) -> Iterator[Callable[..., Shades]]:
    datasets_made: list[Shades] = []

    def make(**fields: Any) -> Shades:
        datasets_made.append(Shades(root=root, **fields))
        return datasets_made[-1]

    yield make
    for each in datasets_made:
        each.loader.close()


def numbers(split: FileImageSet) -> list[int]:
    return [int(name.split("/")[1]) for name in split.ids]


def test_a_split_reads_what_it_is_asked_for_in_that_order(shades: Callable[..., Shades]) -> None:
    split = shades().load("test")
    assert sorted(numbers(split)) == list(range(COUNT))
    assert split.targets.tolist() == [i % 2 for i in numbers(split)]
    batch = split.take(np.array([3, 0, 3]))
    expected = [numbers(split)[i] for i in (3, 0, 3)]
    assert batch.images.shape == (3, 3, 16, 16)
    assert batch.images[:, 0, 0, 0].tolist() == [shade(i) for i in expected]
    assert batch.ids == [f"test/{i}" for i in expected]
    assert batch.targets.tolist() == [i % 2 for i in expected]


def test_evidence_is_that_of_the_target(shades: Callable[..., Shades]) -> None:
    split = shades().load("test")
    for mask, target in zip(split.take(np.arange(4)).masks, split.targets[:4], strict=True):
        expected = np.zeros((16, 16), bool)
        if target == 0:
            expected[:, :8] = True
        else:
            expected[:8, 8:] = True
        np.testing.assert_array_equal(mask[0], expected)
    assert split.areas(np.arange(2)).tolist() == [0.5 if t == 0 else 0.25 for t in split.targets[:2]]


def test_boxes_without_a_class_and_masks_join(root: Path) -> None:
    labels = np.zeros((48, 48), np.uint8)
    labels[:24, :24], labels[24:, 24:] = 1, 2
    Image.fromarray(labels).save(root / "mask.png")

    class One(Shades):
        def index(self) -> Index:
            masks = (MaskFile(root / "mask.png", (2,)), MaskFile(root / "mask.png", (1,), target=1))
            record = Record("a", root / "0.png", (0,), (Box(0, 0, 6, 6),), masks, size=(48, 48))
            return Index(("even", "odd"), {"test": (record,)})

    (mask,) = One(root=root).load("test").take(np.array([0])).masks[:, 0]
    expected = np.zeros((16, 16), bool)
    expected[8:, 8:], expected[:2, :2] = True, True
    np.testing.assert_array_equal(mask, expected)


def spoil(root: Path, *which: int) -> None:
    for i in which:
        (root / f"{i}.png").write_bytes(b"no picture")


@pytest.mark.slow
@pytest.mark.parametrize("workers", [0, 2])
def test_unreadable_images_are_left_out_and_told(shades: Callable[..., Shades], root: Path, workers: int) -> None:
    spoil(root, 3, 7)
    split = shades(workers=workers).load("test")
    indices, batches = zip(*split.batches(np.array_split(np.arange(COUNT), 5)), strict=True)
    read = [numbers(split)[i] for i in np.concatenate(indices)]
    assert read == [i for i in numbers(split) if i not in (3, 7)]
    assert [int(v) for batch in batches for v in batch.images[:, 0, 0, 0]] == [shade(i) for i in read]
    assert split.unreadable == {f"test/{i}": "it is not an image of a known format" for i in (3, 7)}
    assert len(split.take(np.array([numbers(split).index(3)]))) == 0
    assert np.isnan(split.areas(np.array([numbers(split).index(7)]))).all()


def test_an_unreadable_mask_leaves_its_image_out(root: Path) -> None:
    class Masked(Shades):
        def index(self) -> Index:
            record = Record("a", root / "0.png", (0,), masks=(MaskFile(root / "none.png"),))
            return Index(("even", "odd"), {"test": (record,)})

    split = Masked(root=root).load("test")
    assert len(split.take(np.array([0]))) == 0
    assert split.unreadable == {"a": "its mask: there is no such file"}


def test_several_classes_become_labels_and_pairs(shades: Callable[..., Shades]) -> None:
    dataset = shades(several=True)
    labels = dataset.load("train")
    for row, i in zip(labels.targets, numbers(labels), strict=True):
        assert row.tolist() == [float(i % 3 > 0), float(i % 3 > 1)]
    pairs = dataset.load_explained("test")
    assert sorted(pairs.ids) == sorted(f"test/{i}/{name}" for i in range(COUNT) for name in ("even", "odd")[: i % 3])
    first = pairs.take(np.arange(len(pairs)))
    assert [name.rsplit("/", 1)[1] for name in first.ids] == [("even", "odd")[t] for t in first.targets]
    assert set(first.masks.mean((1, 2, 3))[first.targets == 1]) == {0.25}


def test_a_pair_of_an_unreadable_image_is_told_once(shades: Callable[..., Shades], root: Path) -> None:
    spoil(root, 2)
    pairs = shades(several=True).load_explained("test")
    assert len(pairs.take(np.arange(len(pairs)))) == len(pairs) - 2
    assert list(pairs.unreadable) == ["test/2"]


def test_what_is_explained_can_be_narrowed(shades: Callable[..., Shades]) -> None:
    only = shades(several=True, targets_explained=("odd",)).load_explained("test")
    assert set(only.targets) == {1}
    assert set(shades(targets_explained=("even",)).load_explained("test").targets) == {0}
    with pytest.raises(UnknownNameError, match="did you mean even"):
        shades(targets_explained=("eve",)).load_explained("test")
    with pytest.raises(InterpError, match="with_evidence"):
        shades(boxed=False, with_evidence=True).load_explained("test")
    assert len(shades(with_evidence=True).load_explained("test")) == COUNT


def test_ids_can_be_hashed_with_a_salt(shades: Callable[..., Shades]) -> None:
    plain, hashed, salted = (
        shades(**fields).load("test").ids for fields in ({}, {"hash_ids": True}, {"hash_ids": True, "salt": "pepper"})
    )
    assert len({*plain, *hashed, *salted}) == 3 * COUNT
    assert not any("/" in name for name in (*hashed, *salted))
    assert shades(hash_ids=True, salt="pepper").load("test").ids == salted
    assert "pepper" not in repr(shades(salt="pepper")) + str(shades(salt="pepper").identity())


def test_a_sample_is_as_large_as_asked_and_the_same_again(shades: Callable[..., Shades]) -> None:
    some = shades(test=5).load("test")
    assert len(some) == 4  # groups of two stay whole
    assert some.ids == shades(test=5).load("test").ids
    assert some.ids != shades(test=5, seed=1).load("test").ids


def test_empty_splits_and_bad_indices_are_refused(root: Path) -> None:
    class Wrong(Shades):
        def index(self) -> Index:
            record = Record("a", self.root / "0.png", (2,))
            return Index(("even", "odd"), {"test": (record,), "val": ()})

    with pytest.raises(InterpError, match=r"outside 0\.\.1"):
        Wrong(root=root).load("test")

    class Double(Shades):
        def index(self) -> Index:
            record = Record("a", self.root / "0.png", (0,))
            return Index(("even", "odd"), {"test": (record, record)})

    with pytest.raises(InterpError, match="unique"):
        Double(root=root).load("test")

    class Empty(Shades):
        def index(self) -> Index:
            return Index(("even", "odd"), {})

    with pytest.raises(InterpError, match="no val images"):
        Empty(root=root).load("val")


def test_identity_knows_content_and_not_place(shades: Callable[..., Shades], root: Path, tmp_path: Path) -> None:
    copied = tmp_path / "moved"
    copied.mkdir()
    for path in root.glob("*.png"):
        (copied / path.name).write_bytes(path.read_bytes())
    assert Shades(root=copied, workers=3).identity() == shades().identity()
    assert shades(boxed=False).identity() != shades().identity()
    assert shades(seed=1).identity() != shades().identity()


def test_a_copy_reads_its_own_index(shades: Callable[..., Shades]) -> None:
    first = shades()
    assert not first.multi_label
    assert first.model_copy(update={"several": True}).multi_label
    assert first.findings[0].kind == "odd"


def test_statistics_are_those_of_the_training_images_that_can_be_read(
    shades: Callable[..., Shades], root: Path
) -> None:
    spoil(root, 0)
    values = np.array([shade(i) for i in range(1, COUNT)]) / 255
    mean, std = shades().channel_statistics()
    assert mean == pytest.approx([values.mean()] * 3)
    assert std == pytest.approx([values.std()] * 3)
    spoil(root, *range(COUNT))
    with pytest.raises(InterpError, match="no training image"):
        shades().channel_statistics()
