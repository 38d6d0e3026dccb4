"""Make the records of COCO JSON: images, categories and the evidence of objects, one file per split.

The evidence of an object is its polygons or run lengths, and else its box, x, y, width, height in pixels from 0, or in
shares of the image. Source: cocodataset.org, "Data format", object detection.
Known limits: a crowd without run lengths counts as label but marks nothing; keypoints and captions are not read.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from interp_core.datasets.files.box_forms import SHARES, are_shares
from interp_core.datasets.files.boxes import repair_box
from interp_core.datasets.files.paths import FileFinder, relative_id, walk_files
from interp_core.datasets.files.shapes import ShapeMask, shape_of
from interp_core.datasets.files.split_words import split_of
from interp_core.datasets.files.splits import SplitRecord
from interp_core.datasets.formats.coco_json import CocoFile, CocoImage, CocoObject, order_of_id, read_coco
from interp_core.datasets.formats.voc import AnnotationError
from interp_core.datasets.records import Box, Finding, Record

KEYS = (b"images", b"annotations", b"categories")


@dataclass(frozen=True)
class ObjectEvidence:
    """Evidence of the objects of an image: boxes and shapes, and the size that boxes refer to if it is known."""

    boxes: tuple[Box, ...]
    masks: tuple[ShapeMask, ...]
    size: tuple[int, int] | None


def looks_like_coco(path: Path, keys: Iterable[bytes] = KEYS) -> bool:
    """Return whether the first megabyte of a JSON file has one of these keys."""
    try:
        with path.open("rb") as file:
            beginning = file.read(2**20).replace(b"\0", b"")
    except OSError:
        return False
    return any(b'"' + key + b'"' in beginning for key in keys)


def coco_files(root: Path) -> list[Path]:
    """List the files of object annotations in a folder and one level down, where exporters put them."""
    paths = [path for path in walk_files(root, frozenset({".json"})) if len(path.relative_to(root).parts) <= 2]
    no_objects = ("captions_", "person_keypoints_", "image_info_")
    return [path for path in paths if not path.stem.startswith(no_objects) and looks_like_coco(path)]


def read_coco_files(root: Path, findings: list[Finding]) -> list[CocoFile]:
    """Read the files of `coco_files` that are COCO's, with a finding for each that only resembles them."""
    contents = []
    for path in coco_files(root):
        try:
            contents.append(read_coco(path))
        except AnnotationError as error:
            if sum(looks_like_coco(path, (key,)) for key in KEYS) >= 2:
                reason = str(error).partition(": ")[2]
                findings.append(Finding("unreadable annotation", relative_id(path, root), f"not used: {reason}"))
    return contents


def read_coco_folder(
    root: Path, contents: list[CocoFile], name: str, findings: list[Finding]
) -> tuple[tuple[str, ...], list[SplitRecord]]:
    """Make the classes and records of COCO files.

    Args:
        root: folder of the data set.
        contents: its COCO files. The name of the file or its folder tells the split.
        name: name of the data set, the first part of ids.
        findings: list to which defects are added.
    """
    names = {key: category for content in contents for key, category in content.categories.items()}
    order = sorted(names, key=order_of_id)
    targets = {key: target for target, key in enumerate(order)}
    finder = FileFinder(root)
    records: dict[str, SplitRecord] = {}
    for content in contents:
        findings += content.findings
        path = content.path
        split = split_of(path.stem) or split_of(path.parent.relative_to(root).as_posix())
        for record in _records(root, content, targets, name, finder, findings):
            if record.id in records:
                findings.append(Finding("duplicate row", path.name, f"{record.id} is listed twice: the first is used"))
            records.setdefault(record.id, SplitRecord(record, split))
    return tuple(names[key] for key in order), list(records.values())


def evidence_of(
    image: CocoImage,
    objects: list[CocoObject],
    targets: dict[str, int | None],
    source: Path,
    in_shares: bool,
    findings: list[Finding],
) -> ObjectEvidence:
    """Return the evidence of the objects of an image.

    Args:
        image: the image.
        objects: its objects.
        targets: class by category.
        source: the annotation file.
        in_shares: whether boxes are in shares of the image.
        findings: list to which defects are added.
    """
    boxes: list[Box] = []
    masks: list[ShapeMask] = []
    size = SHARES if in_shares else image.size
    where = image.file_name[:200]
    for entry in objects:
        target = targets.get(entry.category_id)
        shape = _shape(entry, source, target, image.size, where, findings)
        if shape is not None:
            masks.append(shape)
        elif entry.corners is not None and not entry.is_crowd:
            box = repair_box(entry.corners, where, findings, target, size)
            boxes += [] if box is None else [box]
    return ObjectEvidence(tuple(boxes), tuple(masks), size)


def objects_by_image(content: CocoFile) -> dict[str, list[CocoObject]]:
    """Return the objects of each listed image, by its id."""
    objects: dict[str, list[CocoObject]] = {image.id: [] for image in content.images}
    for entry in content.objects:
        if entry.image_id in objects:
            objects[entry.image_id].append(entry)
    return objects


def has_shares(content: CocoFile) -> bool:
    """Return whether the boxes of a file are in shares of the image."""
    return are_shares(entry.corners for entry in content.objects if entry.corners is not None)


def _records(
    root: Path, content: CocoFile, targets: dict[str, int], name: str, finder: FileFinder, findings: list[Finding]
) -> list[Record]:
    source = content.path
    objects = objects_by_image(content)
    for entry in content.objects:
        if entry.image_id not in objects or entry.category_id not in targets:
            what = f"image {entry.image_id}, category {entry.category_id}: one of them is not listed, left out"
            findings.append(Finding("label without image", source.name, what))
    folder = source.parent.relative_to(root).as_posix()
    image_folders = [folder, ".", "images", source.stem.removeprefix("instances_"), f"{folder}/images"]
    in_shares = has_shares(content)
    records = []
    for image in content.images:
        path = finder.find(image.file_name, image_folders)
        labelled = [entry for entry in objects[image.id] if entry.category_id in targets]
        if path is None:
            what = f"{image.file_name[:200]!r} is not there{finder.reason(image.file_name)}"
            findings.append(Finding("label without image", source.name, what))
        elif not labelled:
            findings.append(Finding("image without label", image.file_name[:200], "no object in it: left out"))
        else:
            evidence = evidence_of(image, labelled, {**targets}, source, in_shares, findings)
            image_targets = tuple(sorted({targets[entry.category_id] for entry in labelled}))
            record_id = f"{name}/{relative_id(path, root)}"
            records.append(Record(record_id, path, image_targets, evidence.boxes, evidence.masks, size=evidence.size))
    return records


def _shape(
    entry: CocoObject,
    source: Path,
    target: int | None,
    size: tuple[int, int] | None,
    where: str,
    findings: list[Finding],
) -> ShapeMask | None:
    """Return the polygons or run lengths of an object, or None for none, with a finding if they cannot be read."""
    if entry.segmentation is None:
        return None
    try:
        return shape_of(entry.segmentation, source, target, size)
    except ValueError as error:
        findings.append(Finding("bad segmentation", where, f"{error}: its box is used, if it has one"))
        return None
