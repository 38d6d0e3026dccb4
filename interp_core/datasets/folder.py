"""Data set of a user's folder of images, with the evidence beside them.

The first layout that fits is used: a table `index.csv` (`formats/index_csv.py`), Pascal VOC (`formats/voc.py`), COCO
JSON (`formats/coco.py`), or a folder for each class, optionally inside folders `train`, `val`, `test` and inside
`images`. Class folders may have masks and boxes beside them (`formats/annotations.py`). Splits that the folder does not
have are made by the seed, with every class in proportion.
Known limits: an image in two class folders counts as two images.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal

from pydantic import Field

from interp_core.datasets.contract import datasets
from interp_core.datasets.files.dataset import FileDataset
from interp_core.datasets.files.paths import (
    MissingFile,
    first_existing,
    list_folders,
    list_images,
    relative_id,
    require_folder,
    walk_images,
)
from interp_core.datasets.files.splits import VAL_SHARE, SplitRecord, complete_splits
from interp_core.datasets.formats.annotations import MASK_FOLDERS, FolderAnnotations, read_annotations
from interp_core.datasets.formats.coco import coco_files, read_coco, read_coco_folder
from interp_core.datasets.formats.index_csv import looks_like_index, read_index_table
from interp_core.datasets.formats.voc import is_devkit, read_devkit
from interp_core.datasets.records import Finding, Index, Record, SplitName

SPLIT_FOLDERS: dict[str, SplitName] = {
    "train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "dev": "val",
    "test": "test", "testing": "test",
}  # fmt: skip
NOT_CLASSES = frozenset({*MASK_FOLDERS, "annotations", "labels", "boxes"})

Layout = Literal["auto", "index", "voc", "coco", "classes"]


@datasets.register("folder")
class Folder(FileDataset):
    """A user's folder of images.

    Attributes:
        layout: layout of the folder; "auto" for the first that fits.
        table: name of the table that lists images.
        masks: folder of masks, each with the path or name of its image; None for a folder called masks or trimaps.
        mask_values: grey values that mean evidence; None for all above 0.
        boxes: table of boxes, with columns file, x0, y0, x1, y1; None for boxes.csv, XML or JSON, if there is one.
        inclusive: whether x1 and y1 of a table are the last pixel inside the box, not the first outside.
        val_share: share of the training images that becomes "val" if the folder has no such split.
    """

    title: ClassVar[str] = "Folder"

    layout: Layout = "auto"
    table: str = "index.csv"
    masks: str | None = None
    mask_values: tuple[int, ...] | None = None
    boxes: str | None = None
    inclusive: bool = False
    val_share: float = Field(VAL_SHARE, gt=0, lt=1)

    def index(self) -> Index:
        """List all images with a label.

        Raises:
            InterpError: no layout fits, or a table cannot be read.
        """
        findings: list[Finding] = []
        classes, records, multi_label = self._read(self.detect_layout(), findings)
        if not records:
            hint = f"; first of {len(findings)} findings: {findings[0].where}: {findings[0].what}" if findings else ""
            raise MissingFile(f"{self.root} holds no image with a label{hint}")
        return Index(classes, complete_splits(records, self.seed, self.val_share), multi_label, tuple(findings))

    def detect_layout(self) -> Layout:
        """Return the layout of the folder: the configured one, or the first that fits.

        Raises:
            InterpError: the folder does not exist.
        """
        root = require_folder(self.root, "your images")
        if self.layout != "auto":
            return self.layout
        if looks_like_index(root / self.table):
            return "index"
        if is_devkit(root):
            return "voc"
        return "coco" if self._has_coco_labels() else "classes"

    def describe_layout(self) -> str:
        """Return a few words on the layout of the folder."""
        descriptions = {
            "index": f"listed by {self.table}",
            "voc": "Pascal VOC",
            "coco": "COCO JSON",
            "classes": "class folders",
        }
        return descriptions[self.detect_layout()]

    def _has_coco_labels(self) -> bool:
        """Return whether COCO JSON labels the images, and is not only evidence beside folders of the same classes."""
        categories = {entry.name for path in coco_files(self.root) for entry in read_coco(path).categories}
        return bool(categories) and not any(folder.name in categories for folder, _ in self._class_folders())

    def _read(self, layout: Layout, findings: list[Finding]) -> tuple[tuple[str, ...], list[SplitRecord], bool]:
        if layout == "index":
            annotations = self._annotations({}, findings, boxes=False)
            return read_index_table(self.root, self.root / self.table, self.name, annotations, self.inclusive, findings)
        if layout == "voc":
            return *read_devkit(self.root, self.name, findings), True
        if layout == "coco":
            classes, records = read_coco_folder(self.root, coco_files(self.root), self.name, findings)
            return classes, records, any(len(item.record.targets) > 1 for item in records)
        return *self._read_class_folders(findings), False

    def _annotations(self, targets: dict[str, int], findings: list[Finding], boxes: bool = True) -> FolderAnnotations:
        return read_annotations(
            self.root, self.masks, self.mask_values, self.boxes, self.inclusive, targets, findings, boxes
        )

    def _class_folders(self) -> list[tuple[Path, SplitName | None]]:
        """List the class folders that hold images, with their splits."""
        home = first_existing(self.root, ("images", ".")) or self.root
        base = home if list_folders(home) else self.root
        splits = [folder for folder in list_folders(base) if folder.name.lower() in SPLIT_FOLDERS]
        if any(list_folders(split) for split in splits):
            return [
                (folder, SPLIT_FOLDERS[split.name.lower()]) for split in splits for folder in _class_folders_in(split)
            ]
        mask_folders = {Path(self.masks).parts[0]} if self.masks else set()
        return [(folder, None) for folder in _class_folders_in(base) if folder.name not in mask_folders]

    def _read_class_folders(self, findings: list[Finding]) -> tuple[tuple[str, ...], list[SplitRecord]]:
        class_folders = self._class_folders()
        if not class_folders:
            raise MissingFile(
                f"{self.root} has none of: {self.table}, JPEGImages with Annotations, COCO JSON, a folder of images "
                "for each class"
            )
        classes = tuple(sorted({_printable(folder.name) for folder, _ in class_folders}))
        targets = {name: target for target, name in enumerate(classes)}
        for path in _images_outside_classes({folder.parent for folder, _ in class_folders}):
            where = relative_id(path, self.root)
            findings.append(Finding("image without label", where, "in no class folder: left out"))
        annotations = self._annotations(targets, findings)
        images = [
            (path, targets[_printable(folder.name)], split)
            for folder, split in class_folders
            for path in walk_images(folder, findings)
        ]
        records = list(self._records(images, annotations))
        annotations.report_unused(findings)
        return classes, records

    def _records(
        self, images: list[tuple[Path, int, SplitName | None]], annotations: FolderAnnotations
    ) -> Iterator[SplitRecord]:
        stem_counts = Counter(path.stem for path, _, _ in images)
        for path, target, split in images:
            name = relative_id(path, self.root)
            evidence = annotations.of(name, stem_counts[path.stem] == 1)
            record = Record(f"{self.name}/{name}", path, (target,), evidence.boxes, evidence.masks, size=evidence.size)
            yield SplitRecord(record, split)


def _class_folders_in(base: Path) -> list[Path]:
    """List the folders that may be classes: those that hold an image at some depth."""
    no_classes = NOT_CLASSES | SPLIT_FOLDERS.keys()
    candidates = [folder for folder in list_folders(base) if folder.name.lower() not in no_classes]
    return [folder for folder in candidates if next(walk_images(folder, []), None) is not None]


def _images_outside_classes(bases: set[Path]) -> list[Path]:
    """List the images beside class folders, including those in split folders without classes."""
    parents = {base.parent for base in bases if base.name.lower() in SPLIT_FOLDERS}
    splits = {folder for base in parents for folder in list_folders(base) if folder.name.lower() in SPLIT_FOLDERS}
    return [path for base in sorted(bases | splits) for path in list_images(base)]


def _printable(name: str) -> str:
    return name.encode(errors="backslashreplace").decode()
