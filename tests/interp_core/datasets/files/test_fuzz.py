"""Damaged, strange and contradictory files: each ends in a read image, a finding or an `InterpError`; none is lost.

Images: every format, mode and orientation, whole and damaged. Tables: those of every data set, damaged, differently
encoded and contradictory. Boxes: any numbers. All by fixed seeds.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pytest
from helpers.layouts import (
    celeba,
    class_folders,
    coco,
    devkit,
    dicom,
    encode,
    imagenet_kaggle,
    picture,
    rsna,
    tiny_imagenet,
    write,
)
from PIL import Image

from interp_core.datasets import SPLITS, CelebA, FileDataset, Folder, ImageNet, Rsna
from interp_core.datasets.files.images import SUFFIXES
from interp_core.errors import InterpError

pytestmark = pytest.mark.slow

SMALL = {"image_size": 16, "workers": 0}


def outcome(dataset: FileDataset) -> tuple[int, int] | None:
    """How many images were read and how many were not; None where the data set is refused, in one line.

    Every image on disk must be among the records, or named in a finding together with or by its class.
    """
    refused = None
    try:
        index = dataset.checked_index
    except InterpError as error:
        refused = str(error)
    if refused is not None:
        assert "\n" not in refused
        assert len(refused) > 20
        return None
    records = [record for split in SPLITS for record in index.records[split]]
    told = " ".join(f"{finding.where} {finding.what}" for finding in index.findings)
    assert "\n" not in told
    listed = {record.path for record in records} | {mask.path for record in records for mask in record.masks}
    for path in dataset.root.rglob("*"):
        if path.is_file() and path.suffix.lower() in SUFFIXES and path not in listed:
            assert path.stem in told or path.parent.name in told, f"{path} is lost"
    read = lost = 0
    for split in SPLITS:
        if index.records[split]:
            part = dataset.load(split)
            batch = part.take(np.arange(len(part)))
            assert len(batch) + len(part.unreadable) == len(part)
            assert all(reason and "\n" not in reason for reason in part.unreadable.values())
            read, lost = read + len(batch), lost + len(part.unreadable)
    assert read + lost == len(records)
    return read, lost


# Images


def plain(mode: str, size: tuple[int, int] = (40, 30)) -> Image.Image:
    pixels = np.random.default_rng(1).integers(0, 255, (size[1], size[0], 3), dtype=np.uint8)
    if mode in ("I;16", "I", "F"):
        deep = pixels[..., 0].astype({"I;16": np.uint16, "I": np.int32, "F": np.float32}[mode]) * 200
        return Image.fromarray(deep)
    return Image.fromarray(pixels).convert(mode)


FORMATS = {
    "JPEG": ("L", "RGB", "CMYK"), "PNG": ("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), "GIF": ("L", "P", "RGB"),
    "BMP": ("1", "L", "P", "RGB"), "TIFF": ("1", "L", "P", "RGB", "RGBA", "CMYK", "I;16", "F"),
    "WEBP": ("RGB", "RGBA"), "PPM": ("1", "L", "RGB"), "JPEG2000": ("L", "RGB", "RGBA"), "PCX": ("1", "L", "P", "RGB"),
    "TGA": ("L", "P", "RGB", "RGBA"),
}  # fmt: skip
ENDINGS = {"JPEG": "jpg", "JPEG2000": "jp2", "TIFF": "tif"}
PICTURES = [(form, mode) for form, modes in FORMATS.items() for mode in modes]


def flipped(content: bytes) -> bytes:
    """A hundredth of all bytes, at least eight, replaced."""
    out, rng = bytearray(content), np.random.default_rng(len(content))
    for place in rng.integers(0, len(out), max(8, len(out) // 100)):
        out[place] = int(rng.integers(256))
    return bytes(out)


DAMAGE: dict[str, Callable[[bytes], bytes]] = {
    "whole": lambda content: content,
    "half": lambda content: content[: len(content) // 2],
    "without its end": lambda content: content[:-9],
    "beginning alone": lambda content: content[:20],
    "no bytes": lambda content: b"",
    "zeros": lambda content: bytes(len(content)),
    "zeros behind": lambda content: content[:64] + bytes(len(content)),
    "flipped": flipped,
    "backwards": lambda content: content[::-1],
    "twice": lambda content: content * 2,
}


def beside_a_sound_one(root: Path, content: bytes, ending: str) -> Folder:
    for i in range(2):
        picture(root / "a" / f"sound{i}.png", seed=i)
    (root / "b").mkdir()
    (root / "b" / f"strange.{ending}").write_bytes(content)
    return Folder(root=root, **SMALL)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize(("form", "mode"), PICTURES, ids=["-".join(pair) for pair in PICTURES])
def test_pictures(tmp_path: Path, form: str, mode: str, damage: str) -> None:
    content = encode(plain(mode), form)
    counts = outcome(beside_a_sound_one(tmp_path, DAMAGE[damage](content), ENDINGS.get(form, form.lower())))
    assert counts in ((3, 0), (2, 1))
    if damage == "whole" or (damage == "twice" and form != "JPEG2000"):
        assert counts == (3, 0)
    if damage in ("beginning alone", "no bytes", "zeros"):
        assert counts == (2, 1)


@pytest.mark.parametrize("damage", DAMAGE)
@pytest.mark.parametrize("ending", ["dcm", "png"])
def test_dicom(tmp_path: Path, ending: str, damage: str) -> None:
    content = dicom(tmp_path / "made" / "x.dcm").read_bytes()
    counts = outcome(beside_a_sound_one(tmp_path / "data", DAMAGE[damage](content), ending))
    assert counts in ((3, 0), (2, 1))
    if damage == "whole":
        assert counts == (3, 0)


@pytest.mark.parametrize(
    "missing", ["PixelData", "Rows", "BitsAllocated", "PhotometricInterpretation", "SamplesPerPixel"]
)
def test_dicom_without_what_it_needs(tmp_path: Path, missing: str) -> None:
    import pydicom

    path = dicom(tmp_path / "made" / "x.dcm")
    content = pydicom.dcmread(path)
    delattr(content, missing)
    content.save_as(path)
    counts = outcome(beside_a_sound_one(tmp_path / "data", path.read_bytes(), "dcm"))
    assert counts == (2, 1) if missing in ("PixelData", "Rows") else counts in ((3, 0), (2, 1))


@pytest.mark.parametrize("orientation", range(10))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "WEBP", "TIFF"])
def test_exif(tmp_path: Path, form: str, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    content = encode(plain("RGB"), form, exif=exif)
    assert outcome(beside_a_sound_one(tmp_path, content, ENDINGS.get(form, form.lower()))) == (3, 0)


@pytest.mark.parametrize("form", ["GIF", "WEBP", "PNG", "TIFF"])
@pytest.mark.parametrize("damage", ["whole", "half", "flipped"])
def test_several_frames(tmp_path: Path, form: str, damage: str) -> None:
    frames = [Image.new("RGB", (20, 20), colour) for colour in ("red", "green", "blue")]
    content = encode(frames[0], form, save_all=True, append_images=frames[1:])
    counts = outcome(beside_a_sound_one(tmp_path, DAMAGE[damage](content), ENDINGS.get(form, form.lower())))
    assert counts == (3, 0) if damage == "whole" else counts in ((3, 0), (2, 1))


@pytest.mark.parametrize("ending", ["jpg", "png", "gif", "tif", "dcm", "webp", "bmp"])
@pytest.mark.parametrize(
    "content",
    [b"MZ\x90\x00", b"<html>not found</html>", b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n", b"\x89PNG\r\n"],
)
def test_what_is_no_picture(tmp_path: Path, content: bytes, ending: str) -> None:
    assert outcome(beside_a_sound_one(tmp_path, content, ending)) == (2, 1)


@pytest.mark.parametrize("damage", DAMAGE)
def test_masks(tmp_path: Path, damage: str) -> None:
    class_folders(tmp_path, count=2)
    path = tmp_path / "masks" / "cat0.png"
    path.parent.mkdir()
    path.write_bytes(DAMAGE[damage](encode(plain("L", (32, 24)), "PNG")))
    counts = outcome(Folder(root=tmp_path, **SMALL))
    assert counts in ((4, 0), (3, 1))


def test_a_bomb_is_refused(tmp_path: Path) -> None:
    content = encode(Image.new("1", (12_000, 12_000)), "PNG")
    assert outcome(beside_a_sound_one(tmp_path, content, "png")) == (2, 1)


# Tables


def columns_less(name: int) -> Callable[[bytes], bytes]:
    def cut(content: bytes) -> bytes:
        out = []
        for line in content.decode().splitlines():
            separator = next((s for s in ",\t" if s in line), " ")
            words = line.split(separator)
            out.append(separator.join(words[:name] + words[name + 1 :]))
        return "\n".join(out).encode()

    return cut


def each_line(change: Callable[[int, str], Iterator[str]]) -> Callable[[bytes], bytes]:
    return lambda content: "\n".join(
        new for i, line in enumerate(content.decode().splitlines()) for new in change(i, line)
    ).encode()


def numbers_as(text: str) -> Callable[[bytes], bytes]:
    """Every standing number but the first line's replaced."""

    def changed(content: bytes) -> bytes:
        first, *rest = content.decode().splitlines()
        separators = str.maketrans(",\t", "  ")
        words = {word for line in rest for word in line.translate(separators).split() if _is_number(word)}
        for line in range(len(rest)):
            for separator in (",", "\t", " "):
                parts = rest[line].split(separator)
                rest[line] = separator.join(text if part in words else part for part in parts)
        return "\n".join([first, *rest]).encode()

    return changed


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


CHANGES: dict[str, Callable[[bytes], bytes]] = {
    **{f"column {i} missing": columns_less(i) for i in range(4)},
    "utf-8 with mark": lambda c: b"\xef\xbb\xbf" + c,
    "utf-16": lambda c: c.decode().encode("utf-16"),
    "utf-16 without mark": lambda c: c.decode().encode("utf-16-le"),
    "utf-32": lambda c: c.decode().encode("utf-32"),
    "latin-1": lambda c: c + "\ncaf\xe9,1,2,3".encode("latin-1"),
    "Windows line ends": lambda c: c.replace(b"\n", b"\r\n"),
    "old Mac line ends": lambda c: c.replace(b"\n", b"\r"),
    "empty": lambda c: b"",
    "blank": lambda c: b"\n \n\n",
    "header alone": lambda c: c.split(b"\n")[0] + b"\n",
    "half": lambda c: c[: len(c) // 2],
    "twice": lambda c: c + b"\n" + c,
    "duplicate rows": each_line(lambda i, line: iter((line, line))),
    "blank lines between": each_line(lambda i, line: iter((line, ""))),
    "longer rows": each_line(lambda i, line: iter((line + ",9,9" * (i > 0),))),
    "shorter rows": each_line(lambda i, line: iter((line.rpartition(",")[0] if i else line,))),
    "an open quote": lambda c: c.replace(b",", b',"', 5),
    "zeros": lambda c: bytes(200),
    "zeros between": lambda c: c.replace(b"\n", b"\0\n"),
    "noise": lambda c: np.random.default_rng(len(c)).bytes(500),
    "backwards": lambda c: c[::-1],
    "semicolons": lambda c: c.replace(b",", b";"),
    "a long row": lambda c: c + b"\n" + b"x" * 200_000 + b"," * 1000,
    "escape codes": lambda c: c + b"\n\x1b[31m[bold]<script>,1,2,3,4",
    "no numbers": numbers_as("x"),
    "negative": numbers_as("-7"),
    "huge": numbers_as("1e300"),
    "infinite": numbers_as("inf"),
    "not a number": numbers_as("nan"),
}


def made_rsna(root: Path) -> FileDataset:
    return Rsna(root=rsna(root, 4, ".png"), **SMALL)


def made_kaggle(root: Path) -> FileDataset:
    return ImageNet(root=imagenet_kaggle(root, count=2, xml=False), **SMALL)


def made_tiny(root: Path) -> FileDataset:
    return ImageNet(root=tiny_imagenet(root, count=2), **SMALL)


def made_celeba(root: Path) -> FileDataset:
    return CelebA(root=celeba(root, 4, official=False), **SMALL)


def made_index(root: Path) -> FileDataset:
    for i in range(3):
        picture(root / f"a{i}.png")
    rows = [f"a{i}.png,{'ab'[i % 2]},train,1,2,9,8" for i in range(3)]
    write(root / "index.csv", "\n".join(["file,label,split,x0,y0,x1,y1", *rows]))
    return Folder(root=root, layout="index", **SMALL)


def made_boxes(root: Path) -> FileDataset:
    write(class_folders(root, count=2) / "boxes.csv", "file,x0,y0,x1,y1\ncat0.png,1,2,9,8\ndog1.png,0,0,3,3")
    return Folder(root=root, **SMALL)


def made_coco(root: Path) -> FileDataset:
    return Folder(root=coco(root, "train", 3), layout="coco", **SMALL)


def made_voc(root: Path) -> FileDataset:
    return Folder(root=devkit(root, 4), layout="voc", **SMALL)


TABLES: list[tuple[Callable[[Path], FileDataset], str]] = [
    (made_rsna, "stage_2_train_labels.csv"),
    (made_rsna, "stage_2_detailed_class_info.csv"),
    (made_kaggle, "LOC_val_solution.csv"),
    (made_kaggle, "LOC_train_solution.csv"),
    (made_tiny, "val/val_annotations.txt"),
    (made_tiny, "train/n01443537/n01443537_boxes.txt"),
    (made_celeba, "list_attr_celeba.txt"),
    (made_celeba, "list_eval_partition.txt"),
    (made_celeba, "list_landmarks_align_celeba.txt"),
    (made_index, "index.csv"),
    (made_boxes, "boxes.csv"),
    (made_coco, "annotations/instances_train2017.json"),
    (made_voc, "Annotations/2007_000000.xml"),
    (made_voc, "ImageSets/Main/train.txt"),
]


@pytest.mark.parametrize("change", CHANGES)
@pytest.mark.parametrize(("make", "table"), TABLES, ids=[table for _, table in TABLES])
def test_tables(tmp_path: Path, make: Callable[[Path], FileDataset], table: str, change: str) -> None:
    dataset = make(tmp_path / "data")
    path = tmp_path / "data" / table
    path.write_bytes(CHANGES[change](path.read_bytes()))
    counts = outcome(dataset)
    if change in ("utf-8 with mark", "Windows line ends", "old Mac line ends", "utf-16") and path.suffix == ".csv":
        assert counts == outcome(make(tmp_path / "whole"))


@pytest.mark.parametrize(("make", "table"), TABLES, ids=[table for _, table in TABLES])
def test_a_folder_in_place_of_a_table(tmp_path: Path, make: Callable[[Path], FileDataset], table: str) -> None:
    dataset = make(tmp_path)
    (tmp_path / table).unlink()
    (tmp_path / table).mkdir()
    outcome(dataset)


# Boxes

CORNERS = ("-5", "0", "3.5", "31", "32", "40", "1e30", "-1e30", "nan", "inf", "", "x", "7", "20")


@pytest.mark.parametrize("seed", range(60))
def test_boxes(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for i in range(4):
        picture(tmp_path / "c" / f"a{i}.png")
    rows = [f"a{i % 4},{','.join(rng.choice(CORNERS, 4))}" for i in range(12)]
    write(tmp_path / "boxes.csv", "\n".join(["file,x0,y0,x1,y1", *rows]))
    dataset = Folder(root=tmp_path, **SMALL)
    assert outcome(dataset) == (4, 0)
    box_count = sum(len(record.boxes) for records in dataset.checked_index.records.values() for record in records)
    dropped = [f for f in dataset.findings if "left out" in f.what or f.kind == "duplicate row"]
    assert box_count + len(dropped) == 12


@pytest.mark.parametrize("seed", range(20))
def test_boxes_of_json(tmp_path: Path, seed: int) -> None:
    rng = np.random.default_rng(seed)
    path = coco(tmp_path, "train", 3) / "annotations/instances_train2017.json"
    content = json.loads(path.read_text())
    for entry in content["annotations"]:
        entry["bbox"] = [float(value) for value in rng.choice([-9, 0, 5, 31, 1e9, -1e9, float("nan"), float("inf")], 4)]
    write(path, json.dumps(content))
    assert outcome(Folder(root=tmp_path, layout="coco", **SMALL)) == (3, 0)
