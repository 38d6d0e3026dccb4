"""Evidence that lies beside a folder of images: masks as a tree of pictures, boxes as a table, as XML or as COCO JSON.

A mask or box belongs to the image of the same path, or of the same name where only one image has it. Of what is there,
masks count before boxes, and a table before XML before JSON.
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
    """What marks one image.

    Attributes:
        boxes: as rectangles; targets are those of names that are classes, else None.
        masks: as pictures.
        size: (width, height) that boxes refer to, where it is said.
    """

    boxes: tuple[Box, ...] = ()
    masks: tuple[MaskFile, ...] = ()
    size: tuple[int, int] | None = None


@dataclass
class FolderAnnotations:
    """Masks and boxes by the image they belong to.

    Attributes:
        masks: by path without its ending.
        boxes: likewise.
        used: which of them were asked for.
    """

    masks: dict[str, Path] = field(default_factory=dict)
    mask_values: tuple[int, ...] | None = None
    boxes: dict[str, ImageAnnotations] = field(default_factory=dict)
    used: set[str] = field(default_factory=set)

    def __post_init__(self) -> None:
        self._short = {name: _by_name(known) for name, known in (("masks", self.masks), ("boxes", self.boxes))}

    def of(self, name: str, alone: bool) -> ImageAnnotations:
        """What marks an image.

        Args:
            name: its path beneath the root.
            alone: whether no other image has its file name, so that the name is enough.
        """
        mask, marked = self._found("masks", name, alone), self._found("boxes", name, alone)
        if mask is not None:
            return ImageAnnotations(masks=(MaskFile(self.masks[mask], self.mask_values),))
        return ImageAnnotations() if marked is None else self.boxes[marked]

    def unused(self, findings: list[Finding]) -> None:
        """Tell what belongs to no image."""
        for name in sorted({*self.masks, *self.boxes} - self.used):
            findings.append(Finding("label without image", name, "a mask or box, but no image of this name"))

    def _found(self, kind: str, name: str, alone: bool) -> str | None:
        known: dict[str, Path] | dict[str, ImageAnnotations] = self.masks if kind == "masks" else self.boxes
        parts = PurePosixPath(_plain(name)).parts
        tails = ["/".join(parts[start:]) for start in range(len(parts))]
        exact = next((tail for tail in tails[: None if alone else -1] if tail in known), None)
        found = exact if exact is not None or not alone else self._short[kind].get(parts[-1])
        if found is not None:
            self.used.add(found)
        return found


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
    """All evidence beneath a root.

    Args:
        root: of the data set.
        masks: folder of masks; None for the usual names.
        mask_values: grey values that mean evidence; None for all above 0.
        boxes: table of boxes; None for the usual names, then XML, then JSON.
        inclusive: whether x1 and y1 of a table are pixels inside the box.
        targets: class by name.
        findings: is told what is wrong.
        with_boxes: whether boxes are wanted.

    Raises:
        InterpError: what is named is not there or cannot be read.
    """
    folder = _asked(root, masks, MASK_FOLDERS)
    table = _asked(root, boxes, BOX_TABLES) if with_boxes else None
    found = {} if folder is None else {_key(path, folder): path for path in walk_files(folder) if _is_mask(path)}
    marked: dict[str, ImageAnnotations] = {}
    if table is not None:
        marked = box_table(table, inclusive, targets, findings)
    elif with_boxes:
        marked = _from_xml(root, targets, findings) or _from_coco(root, targets, findings)
    return FolderAnnotations(found, mask_values, marked)


def box_table(
    path: Path, inclusive: bool, targets: dict[str, int], findings: list[Finding]
) -> dict[str, ImageAnnotations]:
    """Boxes of a table with the columns file, x0, y0, x1, y1 and perhaps label, a row each, by path without ending.

    Raises:
        TableError: it lacks a column.
    """
    table = read_table(path, findings=findings)
    file, corners, label = first_column(table, FILE), corner_columns(table), first_column(table, LABEL)
    if file is None or corners is None:
        raise TableError(f"{path} lacks a column of: file, x0, y0, x1, y1; it has {', '.join(table.columns)}")
    labels: Sequence[str] = [""] * len(table) if label is None else table[label].tolist()
    found: dict[str, list[Box]] = {}
    for row, name, values, shown in zip(table.index, table[file], to_numbers(table, corners), labels, strict=True):
        x0, y0, x1, y1 = values.tolist()
        where = f"{path.name}, row {row}"
        box = repair_box((x0, y0, x1 + inclusive, y1 + inclusive), where, findings, targets.get(shown))
        if box is not None:
            found.setdefault(_plain(name), []).append(box)
    return {name: ImageAnnotations(tuple(boxes)) for name, boxes in found.items()}


def corner_columns(table: pd.DataFrame) -> tuple[str, ...] | None:
    """Names of the columns that hold corners, in the order x0, y0, x1, y1; None where there are none."""
    return next((names for names in CORNERS if set(names) <= set(table.columns)), None)


def _from_xml(root: Path, targets: dict[str, int], findings: list[Finding]) -> dict[str, ImageAnnotations]:
    folder = first_existing(root, ("Annotations", "annotations"))
    found = {} if folder is None else dict(read_voc_folder(folder, findings))
    made = {}
    for path, content in found.items():
        named = targets if any(label in targets for label, _ in content.objects) else None
        made[_key(path, folder or root)] = ImageAnnotations(
            boxes_of(content, path.name, findings, named, first_pixel=1), size=content.size
        )
    return made


def _from_coco(root: Path, targets: dict[str, int], findings: list[Finding]) -> dict[str, ImageAnnotations]:
    found: dict[str, ImageAnnotations] = {}
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
        for picture in content.images:
            size = (picture.width or 0, picture.height or 0)
            known = size if min(size) > 0 else None
            found[_plain(picture.file_name)] = ImageAnnotations(tuple(boxes.get(picture.id, ())), size=known)
    return found


def _asked(root: Path, name: str | None, usual: tuple[str, ...]) -> Path | None:
    if name is None:
        return first_existing(root, usual)
    if not (root / name).exists():
        raise MissingFile(f"{root} lacks {name}, which the configuration names")
    return root / name


def _is_mask(path: Path) -> bool:
    return path.suffix.lower() in SUFFIXES


def _key(path: Path, folder: Path) -> str:
    return _plain(path.relative_to(folder).as_posix())


def _plain(name: str) -> str:
    """A path without its ending, with slashes."""
    name = name.replace("\\", "/").removeprefix("./")
    suffix = PurePosixPath(name).suffix
    return name[: -len(suffix)] if suffix.lower() in SUFFIXES | {".xml"} else name


def _by_name(known: dict[str, Path] | dict[str, ImageAnnotations]) -> dict[str, str]:
    """Full keys by their last part, where only one has it."""
    counts = Counter(name.rpartition("/")[2] for name in known)
    return {last: name for name in known if counts[last := name.rpartition("/")[2]] == 1}
