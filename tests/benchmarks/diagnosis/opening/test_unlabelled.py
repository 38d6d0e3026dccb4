"""Folders without labels are opened, and nothing is lost where labels were meant."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.diagnoses import diagnosis
from helpers.layouts import class_folders, mask, picture

from benchmarks.config.errors import ConfigError
from benchmarks.diagnosis.opening.choices import SplitChoice
from benchmarks.diagnosis.opening.data import DataOptions, describe_data, open_dataset, open_images
from benchmarks.diagnosis.opening.reopen import reopen_data
from benchmarks.diagnosis.opening.unlabelled import NO_LABEL, UnlabelledFolder
from interp_core.datasets import Images
from interp_core.errors import InterpError

pytestmark = pytest.mark.slow
SMALL = ("image_size=16", "dataset.workers=0")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Five images, one of them in a sub-folder of a split, and the mask of one."""
    for number in range(4):
        picture(tmp_path / f"{number}.png", seed=number)
    picture(tmp_path / "train" / "4.png", seed=4)
    mask(tmp_path / "0_mask.png")
    (tmp_path / "notes.txt").write_text("no table")
    return tmp_path


def open_all(folder: Path, **fields: object) -> tuple[UnlabelledFolder, Images]:
    options = DataOptions(str(folder), assignments=SMALL, **fields)  # type: ignore[arg-type]
    dataset = open_dataset(options)
    assert isinstance(dataset, UnlabelledFolder)
    return dataset, open_images(dataset, options)


@pytest.mark.parametrize("split", ["train", "val", "test", "all"])
def test_every_split_has_all_images(split: str, folder: Path) -> None:
    dataset, images = open_all(folder, split=SplitChoice(split))
    assert dataset.classes == ()
    assert dataset.reason
    assert sorted(images.ids) == [*(f"folder/{number}.png" for number in range(4)), "folder/train/4.png"]
    assert images.targets.tolist() == [NO_LABEL] * 5
    batch = images.take(np.arange(5))
    assert batch.targets.tolist() == [NO_LABEL] * 5
    assert not batch.masks.any()


def test_a_limit_draws_a_sample(folder: Path) -> None:
    few, images = (open_all(folder, split=SplitChoice.test, limit=limit)[1] for limit in (3, None))
    assert len(few) == 3
    assert set(few.ids) < set(images.ids)


def test_a_description_depends_on_the_images(folder: Path) -> None:
    def digest() -> str:
        options = DataOptions(str(folder), assignments=SMALL)
        return str(describe_data(options, open_dataset(options))["digest"])

    before = digest()
    assert digest() == before
    picture(folder / "5.png", seed=5)
    assert digest() != before


def test_repairs_need_labels(folder: Path) -> None:
    options = DataOptions(str(folder), assignments=SMALL)
    stored = diagnosis(data=describe_data(options, open_dataset(options)))
    with pytest.raises(ConfigError, match="no labels"):
        reopen_data(stored)


def test_labels_are_read_where_there_are_some(folder: Path) -> None:
    class_folders(folder, count=3)
    options = DataOptions(str(folder), assignments=SMALL)
    assert len(open_dataset(options).classes) > 1


@pytest.mark.parametrize("case", ["layout", "table", "empty"])
def test_what_was_meant_as_labels_is_not_passed_over(
    case: str, folder: Path, tmp_path_factory: pytest.TempPathFactory
) -> None:
    words = SMALL
    if case == "layout":
        words = (*SMALL, "layout=classes")
    if case == "table":
        (folder / "index.csv").write_text("a,b\n1,2\n")
    if case == "empty":
        folder = tmp_path_factory.mktemp("empty")
    with pytest.raises(InterpError, match=str(folder)):
        open_dataset(DataOptions(str(folder), assignments=words)).load("val")
