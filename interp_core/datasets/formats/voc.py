"""Read Pascal VOC: one XML file per image, with its size and the boxes of its objects, and the VOCdevkit layout.

Source: Everingham et al., The Pascal Visual Object Classes Challenge, development kit. Its boxes count pixels from 1
and include the last one. ImageNet has files of the same form that do not say how they count; their boxes reach the
width of the image, so they are read as half-open.
Known limits: parts of objects, poses and `difficult` are not read; masks are read only with the challenge's 20 classes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree.ElementTree import Element, ParseError

from defusedxml import DefusedXmlException
from defusedxml.ElementTree import parse

from interp_core.datasets.files.boxes import repair_box
from interp_core.datasets.files.images import SUFFIXES
from interp_core.datasets.files.paths import by_stem, first_existing, walk_files
from interp_core.datasets.files.splits import SplitRecord
from interp_core.datasets.files.tables import read_text
from interp_core.datasets.records import Box, Finding, MaskFile, Record, SplitName
from interp_core.errors import InterpError, one_line

CLASSES = (
    "aeroplane", "bicycle", "bird", "boat", "bottle", "bus", "car", "cat", "chair", "cow", "diningtable", "dog",
    "horse", "motorbike", "person", "pottedplant", "sheep", "sofa", "train", "tvmonitor",
)  # fmt: skip
"""Classes of the challenge. Grey values of `SegmentationClass` are positions in this list, from 1."""

IMAGE_SETS: tuple[tuple[str, SplitName], ...] = (
    ("train", "train"),
    ("val", "val"),
    ("test", "test"),
    ("trainval", "train"),
)


class AnnotationError(InterpError):
    """An annotation file that cannot be read."""


@dataclass(frozen=True, slots=True)
class VocFile:
    """Content of an annotation file.

    Attributes:
        size: (width, height) that boxes refer to; None if the file does not say.
        objects: name and corners x0, y0, x1, y1 as written; NaN for values that are not numbers.
    """

    size: tuple[int, int] | None
    objects: tuple[tuple[str, tuple[float, ...]], ...]


def read_voc(path: Path) -> VocFile:
    """Read an annotation file, without expanding entities or fetching anything.

    Raises:
        AnnotationError: the file cannot be read.
    """
    try:
        root = parse(path).getroot()
    except (ParseError, DefusedXmlException, OSError, ValueError, LookupError) as error:
        raise AnnotationError(f"cannot read {path}: {one_line(error)}") from error
    objects = [(entry.findtext("name", "").strip(), _corners(entry.find("bndbox"))) for entry in root.iter("object")]
    return VocFile(_size(root.find("size")), tuple(objects))


def read_voc_folder(folder: Path, findings: list[Finding]) -> Iterator[tuple[Path, VocFile]]:
    """Yield the annotation files below a folder, with their content.

    Args:
        folder: where to look.
        findings: list to which files are added that cannot be read.
    """
    for path in walk_files(folder, frozenset({".xml"})):
        try:
            yield path, read_voc(path)
        except AnnotationError as error:
            findings.append(Finding("unreadable annotation", path.name, str(error)))


def boxes_of(
    content: VocFile, name: str, findings: list[Finding], targets: dict[str, int] | None, first_pixel: int
) -> tuple[Box, ...]:
    """Return the boxes of an annotation file.

    Args:
        content: content of the file.
        name: name of the file, for findings.
        findings: list to which repaired and dropped boxes are added.
        targets: target by name of an object; objects with other names are left out. With None, all boxes are evidence
            for the class of the image.
        first_pixel: number of the first pixel: 1 in VOC, 0 for half-open boxes.
    """
    boxes = []
    for label, (x0, y0, x1, y1) in content.objects:
        if targets is None or label in targets:
            corners = (x0 - first_pixel, y0 - first_pixel, x1, y1)
            boxes.append(repair_box(corners, name, findings, None if targets is None else targets[label], content.size))
    return tuple(box for box in boxes if box is not None)


def is_devkit(root: Path) -> bool:
    """Return whether a folder has the layout of VOCdevkit/VOC2012."""
    return (root / "JPEGImages").is_dir() and (root / "Annotations").is_dir()


def read_devkit(root: Path, name: str, findings: list[Finding]) -> tuple[tuple[str, ...], list[SplitRecord]]:
    """Read the classes and images of a folder with JPEGImages, Annotations and optionally ImageSets and masks.

    Args:
        root: the folder.
        name: name of the data set, the first part of ids.
        findings: list to which defects are added.
    """
    paths = list(walk_files(root / "JPEGImages", SUFFIXES))
    images = by_stem(paths)
    for path in paths:
        if images[path.stem] != path:
            findings.append(Finding("image without label", path.name, "another image has its name: left out"))
    contents = {path.stem: content for path, content in read_voc_folder(root / "Annotations", findings)}
    names = {label for content in contents.values() for label, _ in content.objects}
    classes = CLASSES if names <= set(CLASSES) else tuple(sorted(names))
    targets = {label: target for target, label in enumerate(classes)}
    for stem in sorted(contents.keys() - images.keys()):
        findings.append(Finding("label without image", f"Annotations/{stem}.xml", "no such image in JPEGImages"))
    for stem in sorted(images.keys() - contents.keys()):
        findings.append(Finding("image without label", images[stem].name, "no XML in Annotations: left out"))
    masks = by_stem(walk_files(root / "SegmentationClass")) if classes == CLASSES else {}
    splits = _read_image_sets(root)
    records = []
    for stem in sorted(contents.keys() & images.keys()):
        if splits and stem not in splits:
            findings.append(Finding("image in no set", images[stem].name, "ImageSets do not name it: left out"))
            continue
        record = _record(f"{name}/{stem}", images[stem], contents[stem], targets, masks.get(stem), findings)
        records.append(SplitRecord(record, splits.get(stem)))
    return classes, records


def _record(
    record_id: str, path: Path, content: VocFile, targets: dict[str, int], mask: Path | None, findings: list[Finding]
) -> Record:
    image_targets = tuple(sorted({targets[label] for label, _ in content.objects}))
    boxes = boxes_of(content, path.with_suffix(".xml").name, findings, targets, first_pixel=1)
    masks = () if mask is None else tuple(MaskFile(mask, (target + 1,), target) for target in image_targets)
    # A mask is more exact than the boxes around the same objects.
    return Record(record_id, path, image_targets, () if masks else boxes, masks, size=content.size)


def _read_image_sets(root: Path) -> dict[str, SplitName]:
    splits: dict[str, SplitName] = {}
    for name, split in IMAGE_SETS:
        path = first_existing(root, [f"ImageSets/Main/{name}.txt", f"ImageSets/{name}.txt"])
        for line in read_text(path).splitlines() if path else []:
            if line.strip():
                splits.setdefault(line.split()[0], split)
    return splits


def _size(entry: Element | None) -> tuple[int, int] | None:
    width, height = (_number(entry, name) for name in ("width", "height"))
    return (int(width), int(height)) if width >= 1 and height >= 1 and math.isfinite(width * height) else None


def _corners(entry: Element | None) -> tuple[float, ...]:
    return tuple(_number(entry, name) for name in ("xmin", "ymin", "xmax", "ymax"))


def _number(entry: Element | None, name: str) -> float:
    try:
        return float(entry.findtext(name, "nan")) if entry is not None else math.nan
    except ValueError:
        return math.nan
