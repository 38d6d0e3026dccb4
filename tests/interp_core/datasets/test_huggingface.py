"""Data sets of Hugging Face's library, saved to disk and read again without it decoding anything."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from interp_core.datasets import Box, HuggingFace
from interp_core.errors import InterpError

library = pytest.importorskip("datasets")
library.disable_progress_bars()


def rows(count: int, **more: Any) -> Any:
    pictures = [Image.fromarray(np.full((20, 30, 3), 10 * i, np.uint8)) for i in range(count)]
    features = {"image": library.Image(), "label": library.ClassLabel(names=["cat", "dog"])}
    columns: dict[str, Any] = {"image": pictures, "label": [i % 2 for i in range(count)]}
    for name, (feature, values) in more.items():
        features[name], columns[name] = feature, values
    return library.Dataset.from_dict(columns, features=library.Features(features))


def sizes(dataset: HuggingFace) -> dict[str, int]:
    return {split: len(members) for split, members in dataset.checked_index.records.items()}


@pytest.mark.slow
def test_splits_classes_and_pixels(tmp_path: Path) -> None:
    parts = library.DatasetDict({"train": rows(20), "validation": rows(6)})
    dataset = HuggingFace.of(parts, tmp_path / "saved", cache=tmp_path / "cache", image_size=20, workers=0)
    assert dataset.classes == ("cat", "dog")
    assert sizes(dataset) == {"train": 18, "val": 2, "test": 6}
    split = dataset.load("test")
    part = split.take(np.arange(6))
    order = [int(name.rpartition("/")[2]) for name in part.ids]
    np.testing.assert_array_equal(part.images[:, 0, 0, 0], [10 * i for i in order])
    np.testing.assert_array_equal(part.targets, [i % 2 for i in order])


def test_bytes_are_written_once(tmp_path: Path) -> None:
    first = HuggingFace.of(rows(6), tmp_path / "saved", cache=tmp_path / "cache")
    times = {
        record.path: record.path.stat().st_mtime_ns
        for records in first.checked_index.records.values()
        for record in records
    }
    second = HuggingFace(root=tmp_path / "saved", cache=tmp_path / "cache")
    assert {
        r.path: r.path.stat().st_mtime_ns for records in second.checked_index.records.values() for r in records
    } == times
    assert len(times) == 6


def test_the_cache_is_the_users_own_where_none_is_named(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "home"))
    dataset = HuggingFace.of(rows(3), tmp_path / "saved")
    assert all(
        r.path.is_relative_to(tmp_path / "home") for records in dataset.checked_index.records.values() for r in records
    )


def test_boxes_and_masks(tmp_path: Path) -> None:
    objects = {
        "bbox": library.Sequence(library.Sequence(library.Value("float32"), 4)),
        "category": library.Sequence(library.ClassLabel(names=["cat", "dog"])),
    }
    values = [{"bbox": [[1, 2, 3, 4], [0, 0, -5, 5]], "category": [1, 0]} for _ in range(4)]
    dataset = HuggingFace.of(rows(4, objects=(objects, values)), tmp_path / "a", cache=tmp_path / "b")
    assert dataset.checked_index.records["train"][0].boxes == (Box(1, 2, 4, 6, 1),)
    assert {finding.kind for finding in dataset.findings} == {"box inverted", "box outside"}
    masks = [Image.fromarray(np.eye(20, 30, dtype=np.uint8) * 255) for _ in range(4)]
    dataset = HuggingFace.of(rows(4, mask=(library.Image(), masks)), tmp_path / "c", cache=tmp_path / "d", workers=0)
    assert dataset.load("train").take(np.arange(1)).masks.any()


def test_several_labels(tmp_path: Path) -> None:
    feature = library.Sequence(library.ClassLabel(names=["sun", "sea", "sand"]))
    saved = rows(4, labels=(feature, [[0], [1, 2], [0, 2], []])).remove_columns("label")
    dataset = HuggingFace.of(saved, tmp_path / "a", cache=tmp_path / "b")
    assert dataset.multi_label
    assert dataset.classes == ("sun", "sea", "sand")
    assert [finding.kind for finding in dataset.findings] == ["image without label"]


def test_labels_that_are_words_and_rows_without_image(tmp_path: Path) -> None:
    saved = rows(3, kind=(library.Value("string"), ["b", "a", "b"]))
    with_gap = library.Dataset.from_dict(
        {"image": [*saved["image"][:2], None], "kind": ["b", "a", "b"]},
        features=library.Features({"image": library.Image(), "kind": library.Value("string")}),
    )
    dataset = HuggingFace.of(with_gap, tmp_path / "a", cache=tmp_path / "b", label="kind")
    assert dataset.classes == ("a", "b")
    assert [finding.kind for finding in dataset.findings] == ["unreadable"]


@pytest.mark.parametrize("fields", [{"label": "breed"}, {"image": "photo"}, {"image": "label"}])
def test_columns_that_are_not_there(tmp_path: Path, fields: dict[str, str]) -> None:
    with pytest.raises(InterpError, match=r"no column of|holds no images"):
        _ = HuggingFace.of(rows(3), tmp_path / "a", cache=tmp_path / "b", **fields).checked_index


def test_what_is_no_saved_data_set(tmp_path: Path) -> None:
    with pytest.raises(InterpError, match="is not a data set saved by save_to_disk"):
        _ = HuggingFace(root=tmp_path).checked_index
    HuggingFace.of(rows(3), tmp_path / "a")
    for path in (tmp_path / "a").glob("*.arrow"):
        path.write_bytes(path.read_bytes()[:50])
    with pytest.raises(InterpError, match="is not a data set saved by save_to_disk"):
        _ = HuggingFace(root=tmp_path / "a", cache=tmp_path / "b").checked_index
