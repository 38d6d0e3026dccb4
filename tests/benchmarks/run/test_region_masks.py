"""Masks of a few training images: who gets one, what it is, and what is read for it."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from benchmarks.config.errors import ConfigError
from benchmarks.config.models import RegionSource
from benchmarks.run.images import RunImages
from benchmarks.run.region_masks import candidates, draw_images, regions_of
from interp_core.datasets import ImageSet, datasets
from interp_core.datasets.files.image_set import FileImageSet, Item
from interp_core.datasets.records import Box, Record
from interp_core.errors import UnknownNameError

CLASSES = np.repeat([0, 1, 2, 3], [40, 20, 10, 10])


@pytest.fixture
def data() -> RunImages:
    """Only its clock is used."""
    return RunImages(datasets["digits-in-scenes"](image_size=32, train=8, val=1, test=1))


@pytest.fixture
def split() -> ImageSet:
    """Twelve images of three classes; the mask of image i is its first i rows, the tag its last column or nothing."""
    masks, tags = np.zeros((2, 12, 1, 16, 16), bool)
    for i in range(12):
        masks[i, 0, :i] = True
    tags[::2, 0, :, -1] = True
    ids = [f"image-{i}" for i in range(12)]
    return ImageSet(np.zeros((12, 3, 16, 16), np.uint8), np.arange(12) % 3, masks, ids, {"tag": tags})


def counts(rows: np.ndarray) -> list[int]:
    return np.bincount(CLASSES[rows], minlength=4).tolist()


@pytest.mark.parametrize("seed", [-3, 0, 7])
@pytest.mark.parametrize(("count", "expected"), [(8, [4, 2, 1, 1]), (16, [8, 4, 2, 2]), (80, [40, 20, 10, 10])])
def test_a_stratified_draw_has_the_proportions_of_the_classes(seed: int, count: int, expected: list[int]) -> None:
    assert counts(draw_images(CLASSES, count, RegionSource(), seed)) == expected


def test_odd_shares_are_off_by_less_than_one_image_a_class() -> None:
    for count in range(1, 80):
        found = np.array(counts(draw_images(CLASSES, count, RegionSource(), 0)))
        assert found.sum() == count
        assert np.abs(found - count * np.array([0.5, 0.25, 0.125, 0.125])).max() < 1


@pytest.mark.parametrize("draw", ["stratified", "random"])
def test_a_smaller_draw_is_part_of_a_larger_one_and_another_seed_is_another_draw(draw: Any) -> None:
    source = RegionSource(draw=draw)
    few, many = (set(draw_images(CLASSES, count, source, 5).tolist()) for count in (7, 30))
    assert few < many
    assert set(draw_images(CLASSES, 30, source, 6).tolist()) != many
    assert set(draw_images(CLASSES, 30, RegionSource(draw=draw, seed=4), 1).tolist()) == many


def test_images_of_several_classes_are_drawn_at_random() -> None:
    labels = np.eye(4, dtype=np.float32)[CLASSES]
    found = draw_images(labels, 20, RegionSource(), 0)
    assert np.array_equal(found, draw_images(CLASSES, 20, RegionSource(draw="random"), 0))


def test_every_mask_is_that_of_its_image_and_empty_ones_are_none(data: RunImages, split: ImageSet) -> None:
    sources = {"object": RegionSource(), "irrelevant": RegionSource(of="tag"), "around": RegionSource(outside=True)}
    found = regions_of(data, split, sources, seed=0)
    indices, masks = found["object"]
    assert indices.tolist() == list(range(1, 12))  # the mask of image 0 is empty
    assert masks.dtype == torch.bool
    assert torch.equal(masks, torch.from_numpy(split.masks[1:]))
    assert found["irrelevant"][0].tolist() == [0, 2, 4, 6, 8, 10]
    assert torch.equal(found["irrelevant"][1], torch.from_numpy(split.regions["tag"][::2]))
    assert torch.equal(found["around"][1], ~masks)


@pytest.mark.parametrize(("share", "expected"), [(0.01, 1), (0.5, 3), (1.0, 6)])
def test_a_share_is_of_the_images_that_have_a_mask(
    data: RunImages, split: ImageSet, share: float, expected: int
) -> None:
    indices, masks = regions_of(data, split, {"tag": RegionSource(of="tag", share=share)}, seed=1)["tag"]
    assert len(indices) == len(masks) == expected
    assert set(indices.tolist()) <= {0, 2, 4, 6, 8, 10}


def test_masks_that_are_not_there(data: RunImages, split: ImageSet) -> None:
    with pytest.raises(UnknownNameError, match="did you mean tag"):
        candidates(split, "tags")
    without = ImageSet(split.images, split.targets, np.zeros_like(split.masks), split.ids)
    with pytest.raises(ConfigError, match="no training image that can be read has a mask"):
        regions_of(data, without, {"object": RegionSource()}, seed=0)


class Reads:
    """Gives pictures whose mask is the left half; notes who was read."""

    def __init__(self, unreadable: Iterable[str] = (), outside: Iterable[str] = ()) -> None:
        self.read: list[str] = []
        self.unreadable, self.outside = set(unreadable), set(outside)

    def results(self, items: Iterable[Item]) -> Iterator[Any]:
        for item in items:
            self.read.append(item.id)
            mask = np.zeros((16, 16), bool)
            mask[:, :8] = item.id not in self.outside
            yield "damaged" if item.id in self.unreadable else (np.zeros((3, 16, 16), np.uint8), mask)


def files(loader: Reads, *, several: bool = False) -> FileImageSet:
    """Twenty files of two classes, every other one with a box for its class."""
    items = []
    for i in range(20):
        boxes = (Box(0, 0, 8, 16, i % 4 // 2),) if i % 2 else ()
        record = Record(str(i), Path(f"{i}.png"), (i % 4 // 2,), boxes)
        items.append(Item(str(i), str(i), record, None if several else i % 4 // 2))
    targets = np.arange(20) % 4 // 2
    labels = np.eye(2, dtype=np.float32)[targets]
    return FileImageSet(items, labels if several else targets, 16, loader)  # type: ignore[arg-type]


@pytest.mark.parametrize("several", [False, True])
def test_of_files_only_the_chosen_ones_are_read(data: RunImages, several: bool) -> None:
    loader = Reads()
    indices, masks = regions_of(data, files(loader, several=several), {"object": RegionSource(share=0.4)}, 0)["object"]
    assert loader.read == [str(i) for i in indices.tolist()]
    assert len(indices) == 4
    assert all(i % 2 for i in indices.tolist())
    assert masks.shape == (4, 1, 16, 16)
    assert masks[..., :8].all()
    assert not masks[..., 8:].any()


def test_files_that_cannot_be_read_and_boxes_outside_the_view_give_no_mask(data: RunImages) -> None:
    split = files(Reads(unreadable=["3"], outside=["5"]))
    indices, _ = regions_of(data, split, {"object": RegionSource()}, 0)["object"]
    assert indices.tolist() == [1, 7, 9, 11, 13, 15, 17, 19]
    assert split.unreadable == {"3": "damaged"}


def test_files_have_no_further_masks() -> None:
    with pytest.raises(UnknownNameError, match="tag"):
        candidates(files(Reads()), "tag")
