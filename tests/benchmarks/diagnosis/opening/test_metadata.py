"""Rows find their images, and file properties come from headers."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.layouts import class_folders, picture

from benchmarks.diagnosis.opening.metadata import (
    FILE_PROPERTIES,
    MetadataError,
    Names,
    file_properties,
    match_rows,
    read_metadata,
)
from interp_core.datasets import FileImageSet, Folder, ImageSet

pytestmark = pytest.mark.slow


@pytest.fixture
def images(tmp_path: Path) -> FileImageSet:
    """Three cats and three dogs."""
    class_folders(tmp_path / "data", count=3, split="test")
    return Folder(root=tmp_path / "data", image_size=16, workers=0).load("test")


def table(path: Path, key: str, keys: list[str], **columns: list[object]) -> Path:
    frame = pd.DataFrame(
        {key: keys, "age": range(len(keys)), "site": [f"s{i % 2}" for i in range(len(keys))], **columns}
    )
    frame.to_parquet(path) if path.suffix == ".parquet" else frame.to_csv(path, index=False)
    return path


@pytest.mark.parametrize("ending", [".csv", ".parquet"])
@pytest.mark.parametrize("form", ["id", "without data set", "path", "file name", "stem"])
def test_rows_are_matched(form: str, ending: str, images: FileImageSet, tmp_path: Path) -> None:
    keys = {
        "id": list(images.ids),
        "without data set": [name.partition("/")[2] for name in images.ids],
        "path": [item.record.path.relative_to(tmp_path / "data").as_posix() for item in images.items],
        "file name": [item.record.path.name for item in images.items],
        "stem": [item.record.path.stem for item in images.items],
    }[form]
    order = np.random.default_rng(0).permutation(len(keys))
    path = table(tmp_path / f"facts{ending}", "id" if form in ("id", "stem") else "file", [keys[i] for i in order])
    metadata = read_metadata(path, images, tmp_path / "data")
    assert metadata.columns["age"].tolist() == np.argsort(order).tolist()
    assert metadata.columns["site"].tolist() == [f"s{i % 2}" for i in np.argsort(order)]
    assert (metadata.unmatched_rows, metadata.unmatched_images) == (0, 0)


def test_what_is_not_matched_is_counted_and_empty(images: FileImageSet, tmp_path: Path) -> None:
    path = table(tmp_path / "facts.csv", "id", [images.ids[2], "other", "another"], smoker=[True, False, True])
    metadata = read_metadata(path, images)
    assert (metadata.unmatched_rows, metadata.unmatched_images) == (2, 5)
    np.testing.assert_array_equal(metadata.columns["age"], [np.nan, np.nan, 0, np.nan, np.nan, np.nan])
    assert metadata.columns["site"].tolist() == ["", "", "s0", "", "", ""]
    assert metadata.columns["smoker"][2] == 1
    assert metadata.columns["smoker"].dtype == np.float64


def test_a_name_that_fits_two_images_fits_neither() -> None:
    names = [Names(("a/x.png",), "x.png", "x"), Names(("b/x.png",), "x.png", "x"), Names(("a/y.png",), "y.png", "y")]
    assert match_rows(["x.png", "y"], names).tolist() == [-1, -1, 1]
    assert match_rows(["b\\x.png", "p/y.png", "q/y.jpg"], names).tolist() == [-1, 0, 1]
    assert match_rows(["p/y.png", "q/y.png"], names).tolist() == [-1, -1, -1]
    assert match_rows(["a/y.png", "a/y.png"], names).tolist() == [-1, -1, 0]


def test_what_is_wrong_with_a_table_is_told(images: FileImageSet, tmp_path: Path) -> None:
    with pytest.raises(MetadataError, match="no file"):
        read_metadata(tmp_path / "gone.csv", images)
    with pytest.raises(MetadataError, match="no column file or id"):
        read_metadata(table(tmp_path / "a.csv", "name", ["x"]), images)
    with pytest.raises(MetadataError, match="no id names an image"):
        read_metadata(table(tmp_path / "a.csv", "id", ["x"]), images)
    (tmp_path / "b.parquet").write_bytes(b"words")
    with pytest.raises(MetadataError, match="cannot read"):
        read_metadata(tmp_path / "b.parquet", images)
    (tmp_path / "c.csv").write_text("")
    with pytest.raises(MetadataError, match="cannot read"):
        read_metadata(tmp_path / "c.csv", images)


def test_an_empty_table_is_told(images: FileImageSet, tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text("id,age\n")
    with pytest.raises(MetadataError, match="no rows"):
        read_metadata(tmp_path / "a.csv", images)


def test_file_properties_come_from_headers(images: FileImageSet) -> None:
    picture(images.items[0].record.path, size=(64, 16))
    images.items[1].record.path.write_bytes(b"words")
    calls: list[tuple[int, int]] = []
    columns = file_properties(images, lambda done, total: calls.append((done, total)))
    assert tuple(columns) == FILE_PROPERTIES
    first, second, third = (tuple(columns[name][i] for name in FILE_PROPERTIES) for i in range(3))
    assert first[:3] == (64, 16, 4)
    assert first[3] == images.items[0].record.path.stat().st_size
    assert first[4] == third[4] == "png"
    assert np.isnan(second[:4]).all()
    assert second[4] == ""
    assert third[:3] == (32, 24, 32 / 24)
    assert calls == [(6, 6)]


def test_images_in_memory_have_no_file_properties() -> None:
    images = ImageSet(np.zeros((1, 3, 8, 8), np.uint8), np.zeros(1, np.int64), np.zeros((1, 1, 8, 8), bool), ["a"])
    assert file_properties(images) == {}
