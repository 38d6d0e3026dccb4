"""Find the images of ImageNet and its variants, and read the tables and XML files beside them.

Known limits: training images without table and XML have no boxes; ImageNet-V2 has no boxes at all.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from functools import lru_cache
from pathlib import Path
from typing import Any, NamedTuple

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

# Possible places of images and annotations below the root.
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
DESCRIPTION = (
    "ImageNet's page calls them 'Training images (Task 1 & 2)' (ILSVRC2012_img_train.tar) and 'Validation images (all "
    "tasks)' (ILSVRC2012_img_val.tar), Kaggle's ILSVRC/Data/CLS-LOC"
)
SOLUTION_DESCRIPTION = "Kaggle's page calls it LOC_val_solution.csv: labels and boxes of the validation images"

Entries = tuple[tuple[str, tuple[float, ...]], ...]


class ImageFile(NamedTuple):
    """An image with its class (a WordNet id) and those of its boxes that the layout itself gives."""

    path: Path
    wnid: str
    boxes: Entries = ()


@lru_cache(maxsize=1)
def imagenet1k_wnids() -> tuple[str, ...]:
    """Return the WordNet ids of the 1000 classes, in the order of their indices."""
    return tuple(imagenet_info("imagenet-1k").label_names())


def imagenet_info(subset: str) -> Any:
    """Return timm's names and descriptions of the classes of "imagenet-1k" or "imagenet-22k"."""
    import timm

    data: Any = timm.data
    return data.ImageNetInfo(subset)


def find_part(root: Path, split: SplitName, findings: list[Finding]) -> Iterator[ImageFile]:
    """Yield the images of train or of the public validation set, in any of the known layouts."""
    folder = first_existing(
        require_folder(root, "ImageNet"), [f"{home}/{name}" for name in PARTS[split] for home in HOMES]
    )
    if folder is None:
        return
    if (folder / "val_annotations.txt").is_file():
        yield from _read_tiny_val(folder, findings)
    elif (folder / "images").is_dir():
        raise MissingFile(f"{folder} lacks val_annotations.txt: classes and boxes of tiny-imagenet's validation images")
    elif inner := list_folders(folder):
        _report_loose(folder, findings)
        for class_folder in inner:
            yield from _read_class_folder(class_folder, findings)
    else:
        yield from _read_flat(root, folder, findings)


def _report_loose(folder: Path, findings: list[Finding]) -> None:
    """Add a finding for each image beside class folders."""
    for path in list_images(folder):
        findings.append(
            Finding("image without label", path.name, f"in {folder.name}/ but in no class folder: left out")
        )


def _read_class_folder(folder: Path, findings: list[Finding]) -> Iterator[ImageFile]:
    """Yield the images of a class. tiny-imagenet has a table of boxes beside them."""
    table = folder / f"{folder.name}_boxes.txt"
    boxes = _read_tiny_table(table, 4, findings) if table.is_file() else {}
    for path in walk_images(folder, findings):
        yield ImageFile(path, folder.name, _tiny_box(folder.name, boxes.get(path.name)))


def _read_flat(root: Path, folder: Path, findings: list[Finding]) -> Iterator[ImageFile]:
    """Yield the images of a folder whose classes are in Kaggle's table or in the names of their boxes."""
    table = first_existing(root, [SOLUTIONS["test"]])
    wnids = {stem: entries[0][0] for stem, entries in read_solution(table, []).items()} if table else {}
    read_xml = xml_reader(root, "test", [])
    missing_stems = set(wnids)
    for path in walk_images(folder, findings):
        missing_stems.discard(path.stem)
        wnid = wnids.get(path.stem) or next((name for name, _ in _objects(read_xml(ImageFile(path, "")))), "")
        if wnid:
            yield ImageFile(path, wnid)
        elif not wnids:
            raise MissingFile(f"{root} lacks {SOLUTIONS['test']} to say what {folder} shows: {SOLUTION_DESCRIPTION}")
        else:
            findings.append(Finding("image without label", path.name, f"not in {SOLUTIONS['test']}: left out"))
    for stem in sorted(missing_stems):
        findings.append(Finding("label without image", SOLUTIONS["test"], f"{stem} is not in {folder.name}/"))


def _read_tiny_val(folder: Path, findings: list[Finding]) -> Iterator[ImageFile]:
    """Yield the validation images of tiny-imagenet, whose table has name, class and box in a row."""
    rows = _read_tiny_table(folder / "val_annotations.txt", 5, findings)
    for path in walk_images(folder / "images" if (folder / "images").is_dir() else folder, findings):
        if path.name in rows:
            row = rows.pop(path.name)
            yield ImageFile(path, str(row[0]), _tiny_box(str(row[0]), row[1:]))
        else:
            findings.append(Finding("image without label", path.name, "not in val_annotations.txt: left out"))
    for name in rows:
        findings.append(Finding("label without image", "val_annotations.txt", f"{name[:200]!r} is not there"))


def _read_tiny_table(path: Path, fields: int, findings: list[Finding]) -> dict[str, list[str]]:
    """Read the rows of a table without a header, by file name."""
    rows: dict[str, list[str]] = {}
    for number, line in enumerate(read_text(path).splitlines(), 1):
        if not line.strip():
            continue
        name, *values = line.split("\t") if "\t" in line else line.split()
        if len(values) < fields:
            findings.append(Finding("row", f"{path.name}, row {number}", f"too few fields, left out: {line[:60]!r}"))
        elif name in rows:
            findings.append(Finding("duplicate row", f"{path.name}, row {number}", "the first of its image is used"))
        else:
            rows[name] = [value.strip() for value in values[:fields]]
    return rows


def _tiny_box(wnid: str, corners: Iterable[str] | None) -> Entries:
    """Convert a box of tiny-imagenet, which includes the last pixel."""
    if corners is None:
        return ()
    x0, y0, x1, y1 = (_float(value) for value in corners)
    return ((wnid, (x0, y0, x1 + 1, y1 + 1)),)


def find_variant(root: Path, findings: list[Finding]) -> Iterator[ImageFile]:
    """Yield the images of class folders named by index (ImageNet-V2) or by WordNet id.

    The class folders may lie in a single folder below the root.
    """
    inner = list_folders(root)
    if len(inner) == 1 and not _class_of(inner[0]):
        inner = list_folders(inner[0])
    class_folders = [(folder, wnid) for folder in inner if (wnid := _class_of(folder))]
    if not class_folders:
        raise MissingFile(f"{root} holds neither train/ nor val/ with images of ImageNet: {DESCRIPTION}")
    for folder in inner:
        if not _class_of(folder) and next(walk_images(folder, []), None) is not None:
            findings.append(Finding("unknown class", folder.name, "neither an index nor a WordNet id: left out"))
    for folder, wnid in class_folders:
        for path in walk_images(folder, findings):
            yield ImageFile(path, wnid)


def _class_of(folder: Path) -> str:
    name = folder.name
    if name.isdecimal() and int(name) < 1000:
        return imagenet1k_wnids()[int(name)]
    return name if len(name) == 9 and name[0] == "n" and name[1:].isdecimal() else ""


def read_solution(path: Path, findings: list[Finding]) -> dict[str, list[tuple[str, tuple[float, ...]]]]:
    """Read Kaggle's table of classes and boxes, groups of five words for each image."""
    table = read_table(path, ("ImageId", "PredictionString"), SOLUTION_DESCRIPTION, findings)
    solution: dict[str, list[tuple[str, tuple[float, ...]]]] = {}
    for row, image, text in zip(table.index, table["imageid"], table["predictionstring"], strict=True):
        words = text.split()
        if not words or len(words) % 5:
            findings.append(Finding("row", f"{path.name}, row {row}", f"not groups of five words: {text[:60]!r}"))
        groups = [words[start : start + 5] for start in range(0, len(words) - 4, 5)]
        entries = [(group[0], tuple(_float(value) for value in group[1:])) for group in groups]
        if entries:
            solution.setdefault(image, []).extend(entries)
    return solution


def xml_reader(root: Path, split: SplitName, findings: list[Finding]) -> Callable[[ImageFile], VocFile | None]:
    """Return a function that reads the XML file of an image; it returns None if there is none."""
    part = "train" if split == "train" else "val"
    home = first_existing(root, [f"{home}/{inner}" for inner in (part, ".") for home in NOTES])
    paths = {} if home is None else by_stem(walk_files(home, frozenset({".xml"})))

    def read(image: ImageFile) -> VocFile | None:
        path = paths.get(image.path.stem)
        try:
            return None if path is None else read_voc(path)
        except AnnotationError as error:
            findings.append(Finding("unreadable annotation", f"{image.path.stem}.xml", str(error)))
            return None

    return read


def _objects(content: VocFile | None) -> Entries:
    return () if content is None else content.objects


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return float("nan")
