"""Where the images of ImageNet and its heirs lie, and what the files beside them say; see `imagenet.py`.

Known limits: training images whose table and XML are both missing have no boxes; ImageNet-V2 has none at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import NamedTuple

from interp_core.datasets.files.paths import (
    MissingFile,
    by_stem,
    first_existing,
    list_folders,
    list_images,
    require_folder,
    walk_files,
    walk_images,
)
from interp_core.datasets.files.tables import read_table, read_text
from interp_core.datasets.formats.voc import AnnotationError, VocFile, read_voc
from interp_core.datasets.records import Finding, SplitName

# Where the two parts and what belongs to them may lie, beneath the root.
HOMES = ("ILSVRC/Data/CLS-LOC", "Data/CLS-LOC", ".")
NOTES = ("ILSVRC/Annotations/CLS-LOC", "Annotations/CLS-LOC", "Annotations", "Annotation", "bbox")
PARTS: dict[SplitName, tuple[str, ...]] = {"train": ("train",), "test": ("val", "validation")}
SOLUTIONS: dict[SplitName, str] = {"train": "LOC_train_solution.csv", "test": "LOC_val_solution.csv"}
LAYOUTS = (
    ("ILSVRC/Data/CLS-LOC", "Kaggle's layout"),
    ("Data/CLS-LOC", "Kaggle's layout, from ILSVRC/ on"),
    ("val/val_annotations.txt", "tiny-imagenet"),
    ("validation-segmentation", "ImageNet-S"),
    ("val", "class folders in train/ and val/"),
    ("train", "class folders in train/"),
)
CALLED = (
    "ImageNet's page calls them 'Training images (Task 1 & 2)' (ILSVRC2012_img_train.tar) and 'Validation images (all "
    "tasks)' (ILSVRC2012_img_val.tar), Kaggle's ILSVRC/Data/CLS-LOC"
)
CALLED_SOLUTION = "Kaggle's page calls it LOC_val_solution.csv: labels and boxes of the validation images"

Entries = tuple[tuple[str, tuple[float, ...]], ...]


class Picture(NamedTuple):
    """An image, its class and boxes, as far as the layout says."""

    path: Path
    wnid: str
    boxes: tuple[tuple[str, tuple[float, ...]], ...] = ()


@lru_cache(maxsize=1)
def imagenet1k_wnids() -> tuple[str, ...]:
    """WordNet ids of the 1000 classes, in the order of their indices."""
    from timm.data import ImageNetInfo

    return tuple(ImageNetInfo("imagenet-1k").label_names())


def find_part(root: Path, split: SplitName, findings: list[Finding]) -> Iterator[Picture]:
    """Images of train or of the public validation set, in whichever layout is there."""
    folder = first_existing(
        require_folder(root, "ImageNet"), [f"{home}/{name}" for name in PARTS[split] for home in HOMES]
    )
    if folder is None:
        return
    if (folder / "val_annotations.txt").is_file():
        yield from _tiny_val(folder, findings)
    elif (folder / "images").is_dir():
        raise MissingFile(f"{folder} lacks val_annotations.txt: classes and boxes of tiny-imagenet's validation images")
    elif inner := list_folders(folder):
        _tell_loose(folder, findings)
        for one in inner:
            yield from _class_folder(one, findings)
    else:
        yield from _flat(root, folder, findings)


def _tell_loose(folder: Path, findings: list[Finding]) -> None:
    """Tell of images beside class folders."""
    for path in list_images(folder):
        findings.append(
            Finding("image without label", path.name, f"in {folder.name}/ but in no class folder: left out")
        )


def _class_folder(folder: Path, findings: list[Finding]) -> Iterator[Picture]:
    """One class; tiny-imagenet has a table of boxes beside its images."""
    table = folder / f"{folder.name}_boxes.txt"
    boxes = _tiny_boxes(table, 4, findings) if table.is_file() else {}
    for path in walk_images(folder, findings):
        yield Picture(path, folder.name, _tiny_box(folder.name, boxes.get(path.name)))


def _flat(root: Path, folder: Path, findings: list[Finding]) -> Iterator[Picture]:
    """Images in one folder: their classes are in Kaggle's table, or in the names of their boxes."""
    table = first_existing(root, [SOLUTIONS["test"]])
    known = {stem: entries[0][0] for stem, entries in read_solution(table, []).items()} if table else {}
    xml = xml_finder(root, "test", [])
    left = set(known)
    for path in walk_images(folder, findings):
        left.discard(path.stem)
        wnid = known.get(path.stem) or next((name for name, _ in _objects(xml(Picture(path, "")))), "")
        if wnid:
            yield Picture(path, wnid)
        elif not known:
            raise MissingFile(f"{root} lacks {SOLUTIONS['test']} to say what {folder} shows: {CALLED_SOLUTION}")
        else:
            findings.append(Finding("image without label", path.name, f"not in {SOLUTIONS['test']}: left out"))
    for stem in sorted(left):
        findings.append(Finding("label without image", SOLUTIONS["test"], f"{stem} is not in {folder.name}/"))


def _tiny_val(folder: Path, findings: list[Finding]) -> Iterator[Picture]:
    """tiny-imagenet's validation images: name, class and box a row."""
    rows = _tiny_boxes(folder / "val_annotations.txt", 5, findings)
    for path in walk_images(folder / "images" if (folder / "images").is_dir() else folder, findings):
        if path.name in rows:
            row = rows.pop(path.name)
            yield Picture(path, str(row[0]), _tiny_box(str(row[0]), row[1:]))
        else:
            findings.append(Finding("image without label", path.name, "not in val_annotations.txt: left out"))
    for name in rows:
        findings.append(Finding("label without image", "val_annotations.txt", f"{name[:200]!r} is not there"))


def _tiny_boxes(path: Path, fields: int, findings: list[Finding]) -> dict[str, list[str]]:
    """Rows of a table without a header, by file name."""
    found: dict[str, list[str]] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        name, *values = line.split("\t") if "\t" in line else line.split()
        if len(values) < fields:
            findings.append(Finding("row", f"{path.name}, row {number}", f"too few fields, left out: {line[:60]!r}"))
        elif name in found:
            findings.append(Finding("duplicate row", f"{path.name}, row {number}", "the first of its image is used"))
        else:
            found[name] = [value.strip() for value in values[:fields]]
    return found


def _tiny_box(wnid: str, corners: Iterable[str] | None) -> tuple[tuple[str, tuple[float, ...]], ...]:
    """A box of tiny-imagenet, which counts the last pixel in."""
    if corners is None:
        return ()
    x0, y0, x1, y1 = (_float(value) for value in corners)
    return ((wnid, (x0, y0, x1 + 1, y1 + 1)),)


def find_variant(root: Path, findings: list[Finding]) -> Iterator[Picture]:
    """Classes right in the folder: by index (ImageNet-V2) or by WordNet id; one folder above them may be left out."""
    inner = list_folders(root)
    if len(inner) == 1 and not _class_of(inner[0]):
        inner = list_folders(inner[0])
    known = [(folder, wnid) for folder in inner if (wnid := _class_of(folder))]
    if not known:
        raise MissingFile(f"{root} holds neither train/ nor val/ with images of ImageNet: {CALLED}")
    for folder in inner:
        if not _class_of(folder) and next(walk_images(folder, []), None) is not None:
            findings.append(Finding("unknown class", folder.name, "neither an index nor a WordNet id: left out"))
    for folder, wnid in known:
        for path in walk_images(folder, findings):
            yield Picture(path, wnid)


def _class_of(folder: Path) -> str:
    name = folder.name
    if name.isdecimal() and int(name) < 1000:
        return imagenet1k_wnids()[int(name)]
    return name if len(name) == 9 and name[0] == "n" and name[1:].isdecimal() else ""


def read_solution(path: Path, findings: list[Finding]) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    """Kaggle's table: classes and boxes by image, as groups of five words."""
    table = read_table(path, ("ImageId", "PredictionString"), CALLED_SOLUTION, findings)
    found: dict[str, list[tuple[str, tuple[float, ...]]]] = {}
    for row, image, text in zip(table.index, table["imageid"], table["predictionstring"], strict=True):
        words = text.split()
        if not words or len(words) % 5:
            findings.append(Finding("row", f"{path.name}, row {row}", f"not groups of five words: {text[:60]!r}"))
        groups = [words[start : start + 5] for start in range(0, len(words) - 4, 5)]
        entries = [(group[0], tuple(_float(value) for value in group[1:])) for group in groups]
        if entries:
            found.setdefault(image, []).extend(entries)
    return found


def xml_finder(root: Path, split: SplitName, findings: list[Finding]) -> Callable[[Picture], VocFile | None]:
    """What the XML file of an image says; None where there is none."""
    part = "train" if split == "train" else "val"
    home = first_existing(root, [f"{home}/{inner}" for inner in (part, ".") for home in NOTES])
    paths = {} if home is None else by_stem(walk_files(home, frozenset({".xml"})))

    def content(picture: Picture) -> VocFile | None:
        path = paths.get(picture.path.stem)
        try:
            return None if path is None else read_voc(path)
        except AnnotationError as error:
            findings.append(Finding("unreadable annotation", f"{picture.path.stem}.xml", str(error)))
            return None

    return content


def _objects(content: VocFile | None) -> tuple[tuple[str, tuple[float, ...]], ...]:
    return () if content is None else content.objects


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
