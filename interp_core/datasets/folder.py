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
from typing import Any, ClassVar, Literal

from pydantic import Field

from interp_core.datasets.contract import datasets
from interp_core.datasets.files.dataset import FileDataset
from interp_core.datasets.files.images import SUFFIXES
from interp_core.datasets.files.paths import (
    MissingFile,
    list_folders,
    list_images,
    relative_id,
    require_folder,
    walk_files,
    walk_images,
)
from interp_core.datasets.files.splits import VAL_SHARE, SplitRecord, complete_splits
from interp_core.datasets.formats.annotations import FolderAnnotations, read_annotations
from interp_core.datasets.formats.class_folders import Layout as FolderLayout
from interp_core.datasets.formats.class_folders import find_class_folders
from interp_core.datasets.formats.coco import read_coco_files, read_coco_folder
from interp_core.datasets.formats.index_csv import describe_index, lack_of_index, lists_images, read_index_table
from interp_core.datasets.formats.mask_folders import masks_beside
from interp_core.datasets.formats.table_boxes import BoxFormat
from interp_core.datasets.formats.voc import is_devkit, read_devkit
from interp_core.datasets.records import Finding, Index, Record, SplitName

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
        box_format: meaning of the four numbers of a box in a table: "corners", "size" (corner, width, height), "centre"
            (centre, width, height); "auto" for that of their names.
        val_share: share of the training images that becomes "val" if the folder has no such split.
    """

    title: ClassVar[str] = "Folder"

    layout: Layout = "auto"
    table: str = "index.csv"
    masks: str | None = None
    mask_values: tuple[int, ...] | None = None
    boxes: str | None = None
    inclusive: bool = False
    box_format: BoxFormat = "auto"
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

    def identity(self) -> dict[str, Any]:
        """Return everything that decides the arrays; the form of boxes only where it is set, as in older runs."""
        fields = super().identity()
        if self.box_format == "auto":
            del fields["box_format"]
        return fields

    def detect_layout(self) -> Layout:
        """Return the layout of the folder: the configured one, or the first that fits.

        Raises:
            InterpError: the folder does not exist.
        """
        root = require_folder(self.root, "your images")
        if self.layout != "auto":
            return self.layout
        table = root / self.table
        if table.is_file() and lack_of_index(root, table) is None:
            return "index"
        if is_devkit(root):
            return "voc"
        if self._has_coco_labels():
            return "coco"
        # Columns told by their content do not outweigh folders of classes.
        has_classes = len({entry.name for entry in self._class_folders().classes}) > 1
        is_table = not has_classes and table.is_file() and lack_of_index(root, table, only_known=False) is None
        return "index" if is_table else "classes"

    def describe_layout(self) -> str:
        """Return a few words on the layout of the folder."""
        layout = self.detect_layout()
        columns = f": {describe_index(self.root, self.root / self.table)}" if layout == "index" else ""
        descriptions = {
            "index": f"listed by {self.table}{columns}",
            "voc": "Pascal VOC",
            "coco": "COCO JSON",
            "classes": "class folders",
        }
        return descriptions[layout]

    def _has_coco_labels(self) -> bool:
        """Return whether COCO JSON labels the images, and is not only evidence beside folders of the same classes."""
        categories = {name for content in read_coco_files(self.root, []) for name in content.categories.values()}
        return bool(categories) and not any(entry.name in categories for entry in self._class_folders().classes)

    def _read(self, layout: Layout, findings: list[Finding]) -> tuple[tuple[str, ...], list[SplitRecord], bool]:
        if layout == "index":
            annotations = self._annotations({}, findings, boxes=False)
            table = self.root / self.table
            return read_index_table(self.root, table, self.name, annotations, self.inclusive, findings, self.box_format)
        if layout == "voc":
            return *read_devkit(self.root, self.name, findings), True
        if layout == "coco":
            contents = read_coco_files(self.root, findings)
            classes, records = read_coco_folder(self.root, contents, self.name, findings)
            return classes, records, any(len(item.record.targets) > 1 for item in records)
        return *self._read_class_folders(findings), False

    def _annotations(
        self,
        targets: dict[str, int],
        findings: list[Finding],
        mask_folders: list[Path] | None = None,
        boxes: bool = True,
    ) -> FolderAnnotations:
        return read_annotations(
            self.root,
            self.masks,
            self.mask_values,
            self.boxes,
            self.inclusive,
            targets,
            findings,
            boxes,
            mask_folders,
            self.box_format,
        )

    def _class_folders(self) -> FolderLayout:
        return find_class_folders(self.root, self.masks, all_are_classes=self.layout == "classes")

    def _read_class_folders(self, findings: list[Finding]) -> tuple[tuple[str, ...], list[SplitRecord]]:
        layout = self._class_folders()
        self._report_tables(layout, findings)
        if not layout.classes:
            read_coco_files(self.root, findings)
            raise MissingFile(self._describe_lack(findings))
        classes = tuple(sorted({_printable(entry.name) for entry in layout.classes}))
        targets = {name: target for target, name in enumerate(classes)}
        findings += layout.findings
        for path in [path for base in sorted(layout.bases) for path in list_images(base)]:
            location = relative_id(path, self.root)
            findings.append(Finding("image without label", location, "in no class folder: left out"))
        annotations = self._annotations(targets, findings, layout.masks)
        images = [
            (path, targets[_printable(entry.name)], entry.split)
            for entry in layout.classes
            for path in walk_images(entry.path, findings)
        ]
        masks = masks_beside([path for path, _, _ in images])
        if masks:
            message = f"{len(masks)} masks lie beside their images and are read as such"
            findings.append(Finding("masks beside images", relative_id(next(iter(masks)), self.root), message))
            images = [entry for entry in images if entry[0] not in masks]
            annotations.add_masks({relative_id(image, self.root): mask for mask, image in masks.items()})
        records = list(self._records(images, annotations))
        annotations.report_unused(findings)
        self._report_left_out({*(path for path, _, _ in images), *annotations.masks.values()}, findings)
        return classes, records

    def _report_left_out(self, used: set[Path], findings: list[Finding]) -> None:
        """Add a finding for each image that is neither used nor in a folder or file reported before."""
        reported = {finding.where for finding in findings}
        for path in walk_files(self.root, SUFFIXES):
            if path not in used:
                location = relative_id(path, self.root)
                parts = location.split("/")
                if not any("/".join(parts[:stop]) in reported for stop in range(1, len(parts) + 1)):
                    findings.append(Finding("image without label", location, "in no class folder: left out"))

    def _report_tables(self, layout: FolderLayout, findings: list[Finding]) -> None:
        """Add findings on tables of images that are not read, with the way to read them."""
        if self.layout != "auto":
            return
        table = self.root / self.table
        if table.is_file():
            lack = lack_of_index(self.root, table, only_known=False)
            message = lack or "class folders are read; layout: index reads the table"
            findings.append(Finding("table not used", self.table, message))
        if len(layout.classes) < 2:
            for path in sorted(self.root.glob("*.csv")):
                if path != table and lists_images(self.root, path):
                    findings.append(
                        Finding("table not used", path.name, f"it lists images: table: {path.name} reads it")
                    )

    def _describe_lack(self, findings: list[Finding]) -> str:
        """Return why no layout fits, with the first file that nearly did."""
        hint = f"; {findings[0].where}: {findings[0].what}" if findings else ""
        flat = [folder.name for folder in list_folders(self.root) if list_images(folder)]
        if flat:
            hint += f"; {', '.join(flat[:3])} hold images without class folders (layout: classes makes them classes)"
        return (
            f"{self.root} has none of: {self.table}, JPEGImages with Annotations, COCO JSON, a folder of images "
            f"for each class{hint}"
        )

    def _records(
        self, images: list[tuple[Path, int, SplitName | None]], annotations: FolderAnnotations
    ) -> Iterator[SplitRecord]:
        stem_counts = Counter(path.stem for path, _, _ in images)
        for path, target, split in images:
            name = relative_id(path, self.root)
            evidence = annotations.of(name, stem_counts[path.stem] == 1)
            record = Record(f"{self.name}/{name}", path, (target,), evidence.boxes, evidence.masks, size=evidence.size)
            yield SplitRecord(record, split)


def _printable(name: str) -> str:
    return name.encode(errors="backslashreplace").decode()
