"""Pascal VOC: one XML file an image, with its size and its objects' boxes; also the whole VOCdevkit layout.

Source: Everingham et al., The Pascal Visual Object Classes Challenge, development kit. Its boxes count pixels from 1
and include the last; ImageNet's files, of the same form, do not say, and reach the image's width, so they are taken as
half-open.
Known limits: parts of objects, poses and `difficult` are not read; masks of classes need the layout's own 20 classes.
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
"""The challenge's own; grey values of `SegmentationClass` are their places here, from 1."""

SETS: tuple[tuple[str, SplitName], ...] = (("train", "train"), ("val", "val"), ("test", "test"), ("trainval", "train"))


class AnnotationError(InterpError):
    """A file of annotations that cannot be read."""


@dataclass(frozen=True, slots=True)
class VocFile:
    """What an annotation file says.

    Attributes:
        size: (width, height) its boxes refer to; None where it does not say.
        objects: name and corners x0, y0, x1, y1 as written; NaN for what is no number.
    """

    size: tuple[int, int] | None
    objects: tuple[tuple[str, tuple[float, ...]], ...]


def read_voc(path: Path) -> VocFile:
    """An annotation file; nothing in it is expanded or fetched.

    Raises:
        AnnotationError: it cannot be read.
    """
    try:
        root = parse(path).getroot()
    except (ParseError, DefusedXmlException, OSError, ValueError, LookupError) as error:
        raise AnnotationError(f"cannot read {path}: {one_line(error)}") from error
    found = [(entry.findtext("name", "").strip(), _corners(entry.find("bndbox"))) for entry in root.iter("object")]
    return VocFile(_size(root.find("size")), tuple(found))


def read_voc_folder(folder: Path, findings: list[Finding]) -> Iterator[tuple[Path, VocFile]]:
    """All annotation files beneath a folder that can be read.

    Args:
        folder: where to look.
        findings: is told of those that cannot.
    """
    for path in walk_files(folder, frozenset({".xml"})):
        try:
            yield path, read_voc(path)
        except AnnotationError as error:
            findings.append(Finding("unreadable annotation", path.name, str(error)))


def boxes_of(
    content: VocFile, name: str, findings: list[Finding], targets: dict[str, int] | None, first_pixel: int
) -> tuple[Box, ...]:
    """The boxes of an annotation file.

    Args:
        content: what it says.
        name: of the file, for findings.
        findings: is told of boxes repaired or dropped.
        targets: class of each object's name; objects of other names are left out. None for the image's class.
        first_pixel: what the file calls the first pixel: 1 in VOC, 0 for half-open boxes.
    """
    made = []
    for label, (x0, y0, x1, y1) in content.objects:
        if targets is None or label in targets:
            corners = (x0 - first_pixel, y0 - first_pixel, x1, y1)
            made.append(repair_box(corners, name, findings, None if targets is None else targets[label], content.size))
    return tuple(box for box in made if box is not None)


def is_devkit(root: Path) -> bool:
    """Whether a folder is laid out as VOCdevkit/VOC2012 is."""
    return (root / "JPEGImages").is_dir() and (root / "Annotations").is_dir()


def read_devkit(root: Path, name: str, findings: list[Finding]) -> tuple[tuple[str, ...], list[SplitRecord]]:
    """Classes and images of a folder with JPEGImages, Annotations and, where there are any, ImageSets and masks.

    Args:
        root: the folder.
        name: of the data set, before ids.
        findings: is told what is wrong.
    """
    paths = list(walk_files(root / "JPEGImages", SUFFIXES))
    pictures = by_stem(paths)
    for path in paths:
        if pictures[path.stem] != path:
            findings.append(Finding("image without label", path.name, "another has its name: left out"))
    found = {path.stem: content for path, content in read_voc_folder(root / "Annotations", findings)}
    names = {label for content in found.values() for label, _ in content.objects}
    classes = CLASSES if names <= set(CLASSES) else tuple(sorted(names))
    targets = {label: index for index, label in enumerate(classes)}
    for stem in sorted(found.keys() - pictures.keys()):
        findings.append(Finding("label without image", f"Annotations/{stem}.xml", "no such picture in JPEGImages"))
    for stem in sorted(pictures.keys() - found.keys()):
        findings.append(Finding("image without label", pictures[stem].name, "no XML in Annotations: left out"))
    masks = by_stem(walk_files(root / "SegmentationClass")) if classes == CLASSES else {}
    splits = _image_sets(root)
    labelled = []
    for stem in sorted(found.keys() & pictures.keys()):
        if splits and stem not in splits:
            findings.append(Finding("image in no set", pictures[stem].name, "ImageSets do not name it: left out"))
            continue
        record = _record(f"{name}/{stem}", pictures[stem], found[stem], targets, masks.get(stem), findings)
        labelled.append(SplitRecord(record, splits.get(stem)))
    return classes, labelled


def _record(
    id_: str, path: Path, content: VocFile, targets: dict[str, int], mask: Path | None, findings: list[Finding]
) -> Record:
    shown = tuple(sorted({targets[label] for label, _ in content.objects}))
    boxes = boxes_of(content, path.with_suffix(".xml").name, findings, targets, first_pixel=1)
    marked = () if mask is None else tuple(MaskFile(mask, (target + 1,), target) for target in shown)
    # A mask says more than the boxes around the same objects.
    return Record(id_, path, shown, () if marked else boxes, marked, size=content.size)


def _image_sets(root: Path) -> dict[str, SplitName]:
    found: dict[str, SplitName] = {}
    for name, split in SETS:
        path = first_existing(root, [f"ImageSets/Main/{name}.txt", f"ImageSets/{name}.txt"])
        for line in read_text(path).splitlines() if path else []:
            if line.strip():
                found.setdefault(line.split()[0], split)
    return found


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
