"""Read the evidence beside a folder of images: a tree of masks, or boxes in a table, XML or COCO JSON.

A mask or box belongs to the image with the same path, or with the same name if only one image has that name. Masks come
before boxes, and of the boxes a table before XML before JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

import pandas as pd

from interp_core.datasets.files.boxes import repair_box
from interp_core.datasets.files.images import SUFFIXES
from interp_core.datasets.files.paths import MissingFile, first_existing, walk_files
from interp_core.datasets.files.tables import TableError, first_column, read_table, to_numbers
from interp_core.datasets.formats.coco import coco_files, read_coco
from interp_core.datasets.formats.voc import boxes_of, read_voc_folder
from interp_core.datasets.records import Box, Finding, MaskFile

FILE = ("file", "image", "path", "filename", "file_name", "image_path", "image_id", "imageid")
LABEL = ("label", "class", "target", "category", "class_id")
CORNERS = (("x0", "y0", "x1", "y1"), ("xmin", "ymin", "xmax", "ymax"), ("x_min", "y_min", "x_max", "y_max"))
MASK_FOLDERS = ("masks", "mask", "segmentations", "trimaps")
BOX_TABLES = ("boxes.csv", "bboxes.csv", "annotations.csv")

Corners = tuple[float, float, float, float]


@dataclass(frozen=True)
class ImageAnnotations:
    """Evidence of one image.

    Attributes:
        boxes: evidence as rectangles. Their target is None if their name is not a class.
        masks: evidence as image files.
        size: (width, height) that boxes refer to, if it is known.
    """

    boxes: tuple[Box, ...] = ()
    masks: tuple[MaskFile, ...] = ()
    size: tuple[int, int] | None = None


@dataclass
class FolderAnnotations:
    """Masks and boxes by the image they belong to.

    Attributes:
        masks: masks by path without suffix.
        mask_values: grey values that mean evidence; None for all above 0.
        boxes: boxes by path without suffix.
        used: keys of the masks and boxes that `of` has returned.
    """

    masks: dict[str, Path] = field(default_factory=dict)
    mask_values: tuple[int, ...] | None = None
    boxes: dict[str, ImageAnnotations] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._by_name = {"masks": _keys_by_name(self.masks), "boxes": _keys_by_name(self.boxes)}

    def of(self, name: str, has_unique_name: bool) -> ImageAnnotations:
        """Return the evidence of an image.

        Args:
            name: path of the image below the root.
            has_unique_name: whether no other image has its file name, so that the file name suffices.
        """
        mask_key = self._find_key("masks", name, has_unique_name)
        box_key = self._find_key("boxes", name, has_unique_name)
        if mask_key is not None:
            return ImageAnnotations(masks=(MaskFile(self.masks[mask_key], self.mask_values),))
        return ImageAnnotations() if box_key is None else self.boxes[box_key]

    def report_unused(self, findings: list[Finding]) -> None:
        """Add a finding for each mask or box that belongs to no image."""
        for name in sorted({*self.masks, *self.boxes} - self.used):
            findings.append(Finding("label without image", name, "a mask or box, but no image of this name"))

    def _find_key(self, kind: str, name: str, has_unique_name: bool) -> str | None:
        keys = self.masks.keys() if kind == "masks" else self.boxes.keys()
        parts = PurePosixPath(_without_suffix(name)).parts
        tails = ["/".join(parts[start:]) for start in range(len(parts))]
        key = next((tail for tail in tails[: None if has_unique_name else -1] if tail in keys), None)
        if key is None and has_unique_name:
            key = self._by_name[kind].get(parts[-1])
        if key is not None:
            self.used.add(key)
        return key


def read_annotations(
    root: Path,
    masks: str | None,
    mask_values: tuple[int, ...] | None,
    boxes: str | None,
    inclusive: bool,
    targets: dict[str, int],
    findings: list[Finding],
    with_boxes: bool = True,
) -> FolderAnnotations:
    """Read all evidence below a root.

    Args:
        root: folder of the data set.
        masks: folder of masks; None for the usual names.
        mask_values: grey values that mean evidence; None for all above 0.
        boxes: table of boxes; None for the usual names, then XML, then JSON.
        inclusive: whether x1 and y1 of a table are the last pixel inside the box.
        targets: target by class name.
        findings: list to which defects are added.
        with_boxes: whether to read boxes.

    Raises:
        InterpError: a folder or table that is named does not exist or cannot be read.
    """
    folder = _resolve(root, masks, MASK_FOLDERS)
    table = _resolve(root, boxes, BOX_TABLES) if with_boxes else None
    mask_paths = [] if folder is None else [path for path in walk_files(folder) if path.suffix.lower() in SUFFIXES]
    masks_by_key = {_key(path, folder or root): path for path in mask_paths}
    boxes_by_key: dict[str, ImageAnnotations] = {}
    if table is not None:
        boxes_by_key = read_box_table(table, inclusive, targets, findings)
    elif with_boxes:
        boxes_by_key = _read_xml_boxes(root, targets, findings) or _read_coco_boxes(root, targets, findings)
    return FolderAnnotations(masks_by_key, mask_values, boxes_by_key)


def read_box_table(
    path: Path, inclusive: bool, targets: dict[str, int], findings: list[Finding]
) -> dict[str, ImageAnnotations]:
    """Read a table with one box per row: columns file, x0, y0, x1, y1 and optionally label.

    Returns:
        Boxes by path without suffix.

    Raises:
        TableError: the table lacks a column.
    """
    table = read_table(path, findings=findings)
    file_column, corners = first_column(table, FILE), corner_columns(table)
    if file_column is None or corners is None:
        raise TableError(f"{path} lacks a column of: file, x0, y0, x1, y1; it has {', '.join(table.columns)}")
    label_column = first_column(table, LABEL)
    labels: Sequence[str] = [""] * len(table) if label_column is None else table[label_column].tolist()
    boxes: dict[str, list[Box]] = {}
    for row, name, values, label in zip(
        table.index, table[file_column], to_numbers(table, corners), labels, strict=True
    ):
        x0, y0, x1, y1 = values.tolist()
        where = f"{path.name}, row {row}"
        box = repair_box((x0, y0, x1 + inclusive, y1 + inclusive), where, findings, targets.get(label))
        if box is not None:
            boxes.setdefault(_without_suffix(name), []).append(box)
    return {name: ImageAnnotations(tuple(members)) for name, members in boxes.items()}


def corner_columns(table: pd.DataFrame) -> tuple[str, ...] | None:
    """Return the names of the columns of corners, in the order x0, y0, x1, y1, or None."""
    return next((names for names in CORNERS if set(names) <= set(table.columns)), None)


def _read_xml_boxes(root: Path, targets: dict[str, int], findings: list[Finding]) -> dict[str, ImageAnnotations]:
    folder = first_existing(root, ("Annotations", "annotations"))
    if folder is None:
        return {}
    annotations = {}
    for path, content in list(read_voc_folder(folder, findings)):
        has_classes = any(label in targets for label, _ in content.objects)
        boxes = boxes_of(content, path.name, findings, targets if has_classes else None, first_pixel=1)
        annotations[_key(path, folder)] = ImageAnnotations(boxes, size=content.size)
    return annotations


def _read_coco_boxes(root: Path, targets: dict[str, int], findings: list[Finding]) -> dict[str, ImageAnnotations]:
    annotations: dict[str, ImageAnnotations] = {}
    for path in coco_files(root):
        content = read_coco(path)
        names = {category.id: category.name for category in content.categories}
        boxes: dict[int | str, list[Box]] = {}
        for entry in content.annotations:
            if entry.bbox is not None and not entry.iscrowd:
                x, y, width, height = entry.bbox
                target = targets.get(names.get(entry.category_id, ""))
                box = repair_box((x, y, x + width, y + height), path.name, findings, target)
                if box is not None:
                    boxes.setdefault(entry.image_id, []).append(box)
        for image in content.images:
            image_boxes = tuple(boxes.get(image.id, ()))
            annotations[_without_suffix(image.file_name)] = ImageAnnotations(image_boxes, size=image.size)
    return annotations


def _resolve(root: Path, name: str | None, usual_names: tuple[str, ...]) -> Path | None:
    if name is None:
        return first_existing(root, usual_names)
    if not (root / name).exists():
        raise MissingFile(f"{root} lacks {name}, which the configuration names")
    return root / name


def _key(path: Path, folder: Path) -> str:
    return _without_suffix(path.relative_to(folder).as_posix())


def _without_suffix(name: str) -> str:
    """Return a path with slashes and without the suffix of an image or XML file."""
    name = name.replace("\\", "/").removeprefix("./")
    suffix = PurePosixPath(name).suffix
    return name[: -len(suffix)] if suffix.lower() in SUFFIXES | {".xml"} else name


def _keys_by_name(annotations: dict[str, Path] | dict[str, ImageAnnotations]) -> dict[str, str]:
    """Map the last part of each key to the key, if no other key ends in it."""
    counts = Counter(key.rpartition("/")[2] for key in annotations)
    return {name: key for key in annotations if counts[name := key.rpartition("/")[2]] == 1}
