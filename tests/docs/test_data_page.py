"""The example of docs/data.md runs as it stands."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.layouts import mask, picture
from helpers.pages import code_block, wide_lines
from helpers.shared import ROOT

from benchmarks.config.load import load_config
from benchmarks.plan.components import RunComponents
from interp_core.datasets import FileDataset, datasets

NAME = "shapes"
COUNT = 10


def test_lines_outside_tables_are_no_longer_than_those_of_the_code() -> None:
    assert [line for line in wide_lines("data.md") if not line.startswith("|")] == []


def test_the_page_has_every_data_set_of_files() -> None:
    page = (ROOT / "docs" / "data.md").read_text()
    own = {name for name, cls in datasets.items() if cls.__module__.startswith("interp_core.")}
    files = {name for name in own if issubclass(datasets[name], FileDataset)}
    assert {name for name in files if f"(`{name}`)" in page} == files


@pytest.fixture
def dataset(tmp_path: Path) -> Iterator[FileDataset]:
    """The data set of the page, as a plugin of a run."""
    path = tmp_path / "my_data.py"
    path.write_text(code_block("data.md", NAME))
    for i in range(COUNT):
        for shape in ("circle", "square"):
            picture(tmp_path / "data" / f"{shape}_{i}.png", seed=i)
            mask(tmp_path / "data" / "masks" / f"{shape}_{i}.png")
    fields = {"name": NAME, "root": str(tmp_path / "data"), "image_size": 32, "workers": 0}
    presets = ROOT / "benchmarks" / "config" / "presets"
    config = load_config(presets / "smoke.yaml", {"plugins": [str(path)], "dataset": fields})
    dataset = RunComponents(config).dataset
    assert isinstance(dataset, FileDataset)
    yield dataset
    datasets._entries.pop(NAME)


def test_the_data_set_has_its_name_and_title(dataset: FileDataset) -> None:
    assert (dataset.name, dataset.title) == (NAME, "My shapes")
    assert datasets[NAME] is type(dataset)


def test_it_gives_images_classes_and_evidence(dataset: FileDataset) -> None:
    assert dataset.classes == ("circle", "square")
    assert {split: len(dataset.load(split)) for split in ("train", "val", "test")} == {"train": 14, "val": 2, "test": 4}  # type: ignore[arg-type]
    test = dataset.load("test").take(np.arange(4))
    assert sorted(test.targets.tolist()) == [0, 0, 1, 1]
    assert test.masks[:, :, :, :12].all()
    assert not test.masks[:, :, :, 20:].any()
    assert test.ids[0].startswith("shapes/")
