"""Read the evidence beside a folder of images: a tree of masks, or boxes in a table, XML or COCO JSON.

A mask or box belongs to the image with the same path, or with the same name if only one image has that name. Masks come
before boxes, and of the boxes a table before XML before JSON.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath

from interp_core.datasets.files.images import SUFFIXES
from interp_core.datasets.files.paths import FileFinder, MissingFile, first_existing, walk_files
from interp_core.datasets.files.tables import TableError, first_column, read_table
from interp_core.datasets.formats.coco import evidence_of, has_shares, objects_by_image, read_coco_files
from interp_core.datasets.formats.mask_folders import MASK_FOLDERS, without_mask_ending
from interp_core.datasets.formats.table_boxes import BoxFormat, RowBoxes, read_boxes, repair_row_boxes
from interp_core.datasets.formats.voc import boxes_of, read_voc_folder
from interp_core.datasets.records import Box, Finding, MaskFile

FILE = ("file", "image", "path", "filename", "file_name", "image_path", "image_id", "imageid")
LABEL = ("label", "class", "target", "category", "class_id")
BOX_TABLES = ("boxes.csv", "bboxes.csv", "annotations.csv")


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
        self._by_plain_name = _keys_without_mask_ending(self.masks)

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

    def add_masks(self, masks: Mapping[str, Path]) -> None:
        """Add masks by the paths of their images below the root."""
        self.masks |= {_without_suffix(name): mask for name, mask in masks.items()}
        self.__post_init__()

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
        if key is None and kind == "masks":  # such as cat/1_mask for cat/1
            ends = tails if has_unique_name else tails[:-1]
            key = next((self._by_plain_name[tail] for tail in ends if tail in self._by_plain_name), None)
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
    mask_folders: Sequence[Path] | None = None,
    box_format: BoxFormat = "auto",
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
        mask_folders: folders of masks that were detected; None for the usual names.
        box_format: meaning of four numbers in a table of boxes.

    Raises:
        InterpError: a folder or table that is named does not exist or cannot be read.
    """
    table = _resolve(root, boxes, BOX_TABLES) if with_boxes else None
    if masks is not None or mask_folders is None:
        folder = _resolve(root, masks, MASK_FOLDERS)
        mask_folders = [] if folder is None else [folder]
    masks_by_key = {key: path for folder in mask_folders for key, path in _masks_in(root, folder, masks).items()}
    boxes_by_key: dict[str, ImageAnnotations] = {}
    if table is not None:
        try:
            boxes_by_key = read_box_table(table, inclusive, targets, findings, box_format, root)
        except TableError as error:
            if boxes is not None:
                raise
            findings.append(Finding("table not used", table.name, str(error).removeprefix(f"{table} ")))
    elif with_boxes:
        boxes_by_key = _read_xml_boxes(root, targets, findings) or _read_coco_boxes(root, targets, findings)
    return FolderAnnotations(masks_by_key, mask_values, boxes_by_key)


def read_box_table(
    path: Path,
    inclusive: bool,
    targets: dict[str, int],
    findings: list[Finding],
    box_format: BoxFormat = "auto",
    root: Path | None = None,
) -> dict[str, ImageAnnotations]:
    """Read a table with one box per row: columns file, x0, y0, x1, y1 and optionally label; see `read_boxes`.

    Returns:
        Boxes by path without suffix.

    Raises:
        TableError: the table lacks a column.
    """
    table = read_table(path, findings=findings)
    file_column = first_column(table, FILE)
    boxes_by_row = None
    if file_column is not None:
        finder, names = FileFinder(root or path.parent), table[file_column].tolist()
        boxes_by_row = read_boxes(
            table, path, inclusive, findings, box_format, lambda position: finder.find(names[position], (".", "images"))
        )
    if file_column is None or boxes_by_row is None:
        lack = "file" if file_column is None else "x0, y0, x1, y1 (or x, y, w, h, or bbox)"
        raise TableError(f"{path} lacks a column of: {lack}; it has {', '.join(table.columns)}")
    label_column = first_column(table, LABEL)
    labels: Sequence[str] = [""] * len(table) if label_column is None else table[label_column].tolist()
    boxes: dict[str, list[tuple[RowBoxes, str]]] = {}
    for name, entry, label in zip(table[file_column], boxes_by_row, labels, strict=True):
        boxes.setdefault(_without_suffix(name), []).append((entry, label))
    return {
        name: annotations
        for name, rows in boxes.items()
        if (annotations := _annotations_of(rows, targets, findings)).boxes
    }


def _annotations_of(
    rows: Sequence[tuple[RowBoxes, str]], targets: dict[str, int], findings: list[Finding]
) -> ImageAnnotations:
    """Return the boxes of the rows of one image; rows in pixels and in shares cannot be mixed."""
    entries = [(entry, targets.get(label)) for entry, label in rows]
    boxes, size = repair_row_boxes(entries, findings)
    return ImageAnnotations(boxes, size=size)


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
    for content in read_coco_files(root, findings):
        findings += content.findings
        targets_by_id = {key: targets.get(name) for key, name in content.categories.items()}
        objects = objects_by_image(content)
        in_shares = has_shares(content)
        for image in content.images:
            evidence = evidence_of(image, objects[image.id], targets_by_id, content.path, in_shares, findings)
            annotations[_without_suffix(image.file_name)] = ImageAnnotations(
                evidence.boxes, evidence.masks, evidence.size
            )
    return annotations


def _masks_in(root: Path, folder: Path, configured: str | None) -> dict[str, Path]:
    """Return the masks below a folder by the path of their image: in train/masks, that of an image in train."""
    paths = [path for path in walk_files(folder) if path.suffix.lower() in SUFFIXES]
    parent = "" if configured is not None else folder.parent.relative_to(root).as_posix()
    prefix = "" if parent in ("", ".") else f"{parent}/"
    return {f"{prefix}{_key(path, folder)}": path for path in paths}


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


def _keys_without_mask_ending(masks: dict[str, Path]) -> dict[str, str]:
    """Map keys and their last parts, without an ending such as "_mask", to the key, if it is the only one."""
    plain: dict[str, list[str]] = {}
    for key in masks:
        home, slash, name = key.rpartition("/")
        short = without_mask_ending(name)
        if short != name:
            for alias in {f"{home}{slash}{short}", short}:
                plain.setdefault(alias, []).append(key)
    return {alias: keys[0] for alias, keys in plain.items() if len(keys) == 1 and alias not in masks}
