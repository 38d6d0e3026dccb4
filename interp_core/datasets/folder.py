"""Any folder of images of the user's own, with whatever evidence lies beside it.

Layouts, the first that fits: a table `index.csv` (`indexed.py`); Pascal VOC (`voc.py`); COCO JSON (`coco.py`); a
folder for each class, perhaps inside folders `train`, `val`, `test`, perhaps inside `images`. The last may have masks
and boxes beside it (`evidence.py`). Splits the folder does not tell are made by the seed, every class in proportion.
Known limits: an image that lies in two class folders counts as two images.
"""

from __future__ import annotations

from collections import Counter
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
    """A folder of the user's own; see the head of this file.

    Attributes:
        layout: which of the layouts; "auto" for the first that fits.
        table: name of the table that lists images.
        masks: folder of masks, each with the path or name of its image; None for one called masks or trimaps.
        mask_values: grey values that mean evidence; None for all above 0.
        boxes: table of boxes, with the columns file, x0, y0, x1, y1; None for boxes.csv, XML or JSON, if there is one.
        inclusive: whether x1 and y1 of a table are the last pixel inside rather than the first outside.
        val_share: of the training images that becomes "val" where the folder has none.
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
        """All images with a label.

        Raises:
            InterpError: no layout fits, or a table cannot be read.
        """
        findings: list[Finding] = []
        classes, labelled, multi_label = self._read(self.detect_layout(), findings)
        if not labelled:
            more = f"; first of {len(findings)} findings: {findings[0].where}: {findings[0].what}" if findings else ""
            raise MissingFile(f"{self.root} holds no image with a label{more}")
        return Index(classes, complete_splits(labelled, self.seed, self.val_share), multi_label, tuple(findings))

    def detect_layout(self) -> Layout:
        """The layout that is read.

        Raises:
            InterpError: there is no such folder.
        """
        root = require_folder(self.root, "your images")
        if self.layout != "auto":
            return self.layout
        if looks_like_index(root / self.table):
            return "index"
        if is_devkit(root):
            return "voc"
        return "coco" if self._labelled_by_coco() else "classes"

    def describe_layout(self) -> str:
        """Which layout the folder has, in words."""
        told = {
            "index": f"listed by {self.table}",
            "voc": "Pascal VOC",
            "coco": "COCO JSON",
            "classes": "class folders",
        }
        return told[self.detect_layout()]

    def _labelled_by_coco(self) -> bool:
        """Whether COCO JSON says what images show, and is not only evidence for folders of the same classes."""
        categories = {entry.name for path in coco_files(self.root) for entry in read_coco(path).categories}
        return bool(categories) and not any(folder.name in categories for folder, _ in self._class_folders())

    def _read(self, layout: Layout, findings: list[Finding]) -> tuple[tuple[str, ...], list[SplitRecord], bool]:
        if layout == "index":
            beside = self._evidence({}, findings, boxes=False)
            return read_index_table(self.root, self.root / self.table, self.name, beside, self.inclusive, findings)
        if layout == "voc":
            return *read_devkit(self.root, self.name, findings), True
        if layout == "coco":
            classes, labelled = read_coco_folder(self.root, coco_files(self.root), self.name, findings)
            return classes, labelled, any(len(item.record.targets) > 1 for item in labelled)
        return *self._by_class(findings), False

    def _evidence(self, targets: dict[str, int], findings: list[Finding], boxes: bool = True) -> FolderAnnotations:
        return read_annotations(
            self.root, self.masks, self.mask_values, self.boxes, self.inclusive, targets, findings, boxes
        )

    def _class_folders(self) -> list[tuple[Path, SplitName | None]]:
        """Folders of classes that hold images, and their splits."""
        home = first_existing(self.root, ("images", ".")) or self.root
        base = home if list_folders(home) else self.root
        splits = [folder for folder in list_folders(base) if folder.name.lower() in SPLIT_FOLDERS]
        if any(list_folders(split) for split in splits):
            return [(folder, SPLIT_FOLDERS[split.name.lower()]) for split in splits for folder in _classes_in(split)]
        named_masks = {Path(self.masks).parts[0]} if self.masks else set()
        return [(folder, None) for folder in _classes_in(base) if folder.name not in named_masks]

    def _by_class(self, findings: list[Finding]) -> tuple[tuple[str, ...], list[SplitRecord]]:
        found = self._class_folders()
        if not found:
            raise MissingFile(
                f"{self.root} has none of: {self.table}, JPEGImages with Annotations, COCO JSON, a folder of images "
                "for each class"
            )
        classes = tuple(sorted({_text(folder.name) for folder, _ in found}))
        targets = {name: index for index, name in enumerate(classes)}
        for path in _loose({folder.parent for folder, _ in found}):
            findings.append(
                Finding("image without label", relative_id(path, self.root), "in no class folder: left out")
            )
        beside = self._evidence(targets, findings)
        paths = [(path, folder, split) for folder, split in found for path in walk_images(folder, findings)]
        counts = Counter(path.stem for path, _, _ in paths)
        labelled = []
        for path, folder, split in paths:
            name = relative_id(path, self.root)
            marked = beside.of(name, counts[path.stem] == 1)
            record = Record(
                f"{self.name}/{name}",
                path,
                (targets[_text(folder.name)],),
                marked.boxes,
                marked.masks,
                size=marked.size,
            )
            labelled.append(SplitRecord(record, split))
        beside.unused(findings)
        return classes, labelled


def _classes_in(base: Path) -> list[Path]:
    """Folders that may be classes: those that hold an image somewhere."""
    found = [folder for folder in list_folders(base) if folder.name.lower() not in NOT_CLASSES | SPLIT_FOLDERS.keys()]
    return [folder for folder in found if next(walk_images(folder, []), None) is not None]


def _loose(bases: set[Path]) -> list[Path]:
    """Images that lie beside class folders rather than in one; those in split folders without any class too."""
    near = {base.parent for base in bases if base.name.lower() in SPLIT_FOLDERS}
    splits = {folder for base in near for folder in list_folders(base) if folder.name.lower() in SPLIT_FOLDERS}
    return [path for base in sorted(bases | splits) for path in list_images(base)]


def _text(name: str) -> str:
    return name.encode(errors="backslashreplace").decode()
