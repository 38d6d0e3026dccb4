"""Images are opened from what a user types."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.layouts import class_folders

from benchmarks.config.errors import ConfigError
from benchmarks.diagnosis.opening.choices import SplitChoice
from benchmarks.diagnosis.opening.data import (
    DataOptions,
    data_options,
    describe_data,
    hash_images,
    open_dataset,
    open_images,
)
from interp_core.datasets import FileImageSet
from interp_core.errors import InterpError

pytestmark = pytest.mark.slow
SMALL = ("image_size=16", "dataset.workers=0")
DIGITS = ("image_size=32", "train=3", "val=4", "test=5", "distractors=0", "digit_scale=[0.6, 0.7]")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    class_folders(tmp_path / "data", count=10)
    return tmp_path / "data"


@pytest.mark.parametrize(("split", "count"), [("train", 14), ("val", 2), ("test", 4), ("all", 20)])
def test_a_folder_is_a_data_set(split: str, count: int, folder: Path) -> None:
    options = DataOptions(str(folder), assignments=SMALL, split=SplitChoice(split))
    images = open_images(open_dataset(options), options)
    assert isinstance(images, FileImageSet)
    assert (len(images), len(set(images.ids)), images.shape) == (count, count, (3, 16, 16))
    assert len(images.take(np.arange(len(images)))) == count


@pytest.mark.parametrize("split", ["train", "all"])
def test_a_limit_draws_a_sample(split: str, folder: Path) -> None:
    options = DataOptions("folder", folder, SMALL, SplitChoice(split), limit=6)
    images = open_images(open_dataset(options), options)
    assert len(images) == 6
    assert len(set(images.targets.tolist())) == 2


@pytest.mark.parametrize(("split", "count"), [("val", 4), ("all", 12)])
def test_generated_images_lie_in_memory(split: str, count: int) -> None:
    options = DataOptions("digits-in-scenes", assignments=DIGITS, split=SplitChoice(split))
    images = open_images(open_dataset(options), options)
    assert len(images) == count
    ids, hashes = hash_images(images)
    assert ids == list(images.ids)
    assert hashes.dtype == np.uint64
    assert len(set(hashes.tolist())) > 1


def test_hashes_leave_unreadable_images_out(folder: Path) -> None:
    (folder / "cat" / "cat0.png").write_bytes(b"words")
    options = DataOptions(str(folder), assignments=SMALL, split=SplitChoice.all)
    images = open_images(open_dataset(options), options)
    steps: list[tuple[int, int]] = []
    ids, hashes = hash_images(images, lambda done, total: steps.append((done, total)))
    assert len(ids) == len(hashes) == 19
    assert steps == [(20, 20)]
    assert list(images.unreadable) == ["folder/cat/cat0.png"]


def test_a_description_opens_the_same_images(folder: Path) -> None:
    options = DataOptions("folder", folder, SMALL, SplitChoice.train, limit=5)
    dataset = open_dataset(options)
    description = describe_data(options, dataset)
    assert data_options(json.loads(json.dumps(description))) == options
    assert description["name"] == "folder"
    other = DataOptions("folder", folder, SMALL, SplitChoice.train)
    assert describe_data(other, open_dataset(other))["digest"] != description["digest"]
    with pytest.raises(ConfigError, match="--data"):
        data_options({})


@pytest.mark.parametrize(
    ("data", "fields", "expected"),
    [
        ("imagenett", {}, "did you mean imagenet"),
        ("folder", {}, "give --root"),
        ("folder", {"root": Path("nowhere")}, "not a folder"),
        (".", {"root": Path()}, "leave --root out"),
        (".", {"assignments": ("colour=red",)}, "colour"),
        ("digits-in-scenes", {"assignments": ("image_size",)}, "path and a value"),
    ],
)
def test_what_is_no_data_set_is_told(data: str, fields: dict[str, Any], expected: str) -> None:
    options = DataOptions(data, **fields)
    with pytest.raises(InterpError, match=expected):
        open_dataset(options).load("val")
