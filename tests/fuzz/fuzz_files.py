"""Draw damaged and odd files with Hypothesis: `tox -e fuzz`. pytest does not collect this file unless it is named.

Each example writes a small data set, changes it, and reads all of it. It must end within ten seconds in images,
findings or an `InterpError` of one line; every image on disk must be a record or be named by a finding. The number of
examples is INTERP_BENCH_FUZZ, 10,000 by default, shared by the tests.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.fuzzing import FUZZ, ODD, changed, damaged, folder
from helpers.layouts import class_folders, dicom, encode, picture
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from benchmarks.config.load import load_config
from interp_core.datasets import SPLITS, FileDataset, Folder
from interp_core.errors import InterpError

NAMES = [
    "file",
    "label",
    "x0",
    "y0",
    "x1",
    "y1",
    "bbox",
    "split",
    "mask",
    "group",
    "name",
    "x",
    "w",
    "fold",
    "image",
    "dx",
]
CONFIG = (
    "name: a\ndataset: {name: digits-in-scenes, image_size: 32}\nmodels:\n  - {name: p, backbone: test_resnet}\n"
    "explainers: [random]\nmetrics: [sparseness]\nimages: 3\n"
)


def read_all(dataset: FileDataset) -> None:
    """Read a data set whole; check that nothing is lost without a word."""
    try:
        index = dataset.indexed
    except InterpError as error:
        assert "\n" not in str(error)  # noqa: PT017
        return
    records = [record for split in SPLITS for record in index.records[split]]
    told = " ".join(f"{finding.where} {finding.what}" for finding in index.findings)
    known = {record.path for record in records} | {mask.path for record in records for mask in record.masks}
    # Tables and COCO JSON name the images that they want.
    unlisted = (
        []
        if isinstance(dataset, Folder) and dataset.detect_layout() in ("index", "coco")
        else dataset.root.rglob("*.png")
    )
    for path in unlisted:
        names = [path.stem, *path.relative_to(dataset.root).parts[:-1]]
        assert path in known or any(name in told for name in names), f"{path} is lost"
    for split in SPLITS:
        if index.records[split]:
            part = dataset.load(split)
            batch = part.take(np.arange(len(part)))
            assert len(batch) + len(part.unreadable) == len(part)


def pictures() -> dict[str, bytes]:
    pixels = np.random.default_rng(0).integers(0, 255, (12, 16, 3), dtype=np.uint8)
    image = Image.fromarray(pixels)
    forms = {"png": "PNG", "jpg": "JPEG", "gif": "GIF", "bmp": "BMP", "tif": "TIFF", "webp": "WEBP"}
    contents = {suffix: encode(image, form) for suffix, form in forms.items()}
    with folder() as root:
        contents["dcm"] = dicom(root / "x.dcm", (16, 12)).read_bytes()
    return contents


PICTURES = pictures()


def small(root: Path, **fields: Any) -> Folder:
    return Folder(root=root, image_size=16, workers=0, **fields)


@FUZZ
@given(st.data())
def test_images(data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from(sorted(PICTURES)))
    with folder() as root:
        for name in ("a", "b"):
            (root / name).mkdir()
            (root / name / f"1.{suffix}").write_bytes(damaged(data.draw, PICTURES[suffix]))
            (root / name / f"2.{suffix}").write_bytes(PICTURES[suffix])
        read_all(small(root))


@FUZZ
@given(st.data())
def test_masks(data: st.DataObject) -> None:
    suffix = data.draw(st.sampled_from(sorted(PICTURES)))
    with folder() as root:
        class_folders(root, count=2)
        (root / "masks").mkdir()
        (root / "masks" / f"cat0.{suffix}").write_bytes(damaged(data.draw, PICTURES[suffix]))
        read_all(small(root))


@FUZZ
@given(st.data())
def test_tables(data: st.DataObject) -> None:
    head = data.draw(st.lists(st.sampled_from(NAMES), min_size=1, max_size=8))
    values = {"file": ["cat/cat0.png", "cat0", "dog/dog0.png", "dog1.png"], "label": ["a", "b", "0", "1", "1.0"]}
    rows = [[data.draw(st.one_of(ODD, st.sampled_from(values.get(name, ["1", "8", "0.4", "train"])))) for name in head]
            for _ in range(data.draw(st.integers(0, 6)))]  # fmt: skip
    separator = data.draw(st.sampled_from([",", ";", "\t"]))
    text = "\n".join(separator.join(row) for row in [head, *rows])
    content = text.encode(data.draw(st.sampled_from(["utf-8", "utf-16", "utf-8-sig"])))
    if data.draw(st.booleans()):
        content = damaged(data.draw, content)
    with folder() as root:
        class_folders(root, count=2)
        (root / data.draw(st.sampled_from(["index.csv", "boxes.csv"]))).write_bytes(content)
        read_all(small(root, layout=data.draw(st.sampled_from(["auto", "index", "classes"]))))


@FUZZ
@given(st.data())
def test_coco(data: st.DataObject) -> None:
    entries = [
        {"id": 0, "image_id": 0, "category_id": 1, "bbox": [1, 1, 5, 5], "segmentation": [[1, 1, 5, 1, 5, 5]]},
        {"id": 1, "image_id": 1, "category_id": 2, "bbox": [1, 1, 5, 5], "iscrowd": 1,
         "segmentation": {"size": [12, 16], "counts": [9, 2, 181]}},
    ]  # fmt: skip
    content = {
        "images": [{"id": i, "file_name": f"{i}.png", "width": 16, "height": 12} for i in range(2)],
        "annotations": entries, "categories": [{"id": 1, "name": "a"}, {"id": 2, "name": "b"}],
    }  # fmt: skip
    text = json.dumps(changed(data.draw, content)).encode()
    if data.draw(st.integers(0, 3)) == 0:
        text = damaged(data.draw, text)
    with folder() as root:
        for i in range(2):
            picture(root / "images" / f"{i}.png", (16, 12))
        (root / "all.json").write_bytes(text)
        read_all(small(root, layout=data.draw(st.sampled_from(["auto", "coco"]))))


@FUZZ
@given(st.data())
def test_names(data: st.DataObject) -> None:
    words = [
        "train",
        "test",
        "val",
        "images",
        "masks",
        "mask",
        "labels",
        "cat",
        "dog",
        "fold1",
        "fold2",
        "a_mask",
        "@eaDir",
        "0",
    ]
    with folder() as root:
        for _ in range(data.draw(st.integers(1, 6))):
            parts = data.draw(st.lists(st.sampled_from(words), max_size=4))
            path = root.joinpath(*parts, data.draw(st.sampled_from(["1.png", "2.png", "1_mask.png", "x.txt"])))
            if path.suffix == ".txt":
                path.parent.mkdir(parents=True, exist_ok=True)
                path.write_text("x")
            elif "@eaDir" not in parts:
                picture(path, (8, 8))
        read_all(small(root, layout=data.draw(st.sampled_from(["auto", "classes"]))))


@FUZZ
@given(st.data())
def test_configurations(data: st.DataObject) -> None:
    with folder() as root:
        path = root / "a.yaml"
        path.write_bytes(damaged(data.draw, CONFIG.encode()))
        _ends_well(lambda: load_config(path))


def _ends_well(work: Callable[[], Any]) -> None:
    with suppress(InterpError):
        work()


if __name__ == "__main__":
    raise SystemExit(pytest.main([__file__, "-q"]))
