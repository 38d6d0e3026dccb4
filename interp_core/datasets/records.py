"""Describe a data set of files before any image is read: images, classes and evidence.

`sampling.digest` hashes the text of these classes, so renaming a class or field changes the key of every stored run.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Literal

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Box:
    """Rectangle of evidence in pixels of the file, half-open: columns x0 <= x < x1, rows y0 <= y < y1.

    Attributes:
        target: class that the box is evidence for; None for every class the image shows.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    target: int | None = None


@dataclass(frozen=True, slots=True)
class MaskFile:
    """Image file that marks evidence pixel by pixel.

    Attributes:
        path: image of the same size or proportions as the image it belongs to.
        values: grey values that mean evidence; None for every value above 0.
        target: class that the mask is evidence for; None for every class the image shows.
    """

    path: Path
    values: tuple[int, ...] | None = None
    target: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a data set, not yet read.

    Attributes:
        id: stable name, unique in the data set; it must not identify a patient.
        path: image file.
        targets: indices of the classes it shows; exactly one unless the data set is multi-label.
        boxes: evidence as rectangles.
        masks: evidence as image files.
        group: images of a group stay in one split, such as those of a patient; "" for an independent image.
        size: (width, height) that boxes refer to, if it is not the size of the file.
    """

    id: str
    path: Path
    targets: tuple[int, ...]
    boxes: tuple[Box, ...] = ()
    masks: tuple[MaskFile, ...] = ()
    group: str = ""
    size: tuple[int, int] | None = None


@dataclass(frozen=True, slots=True)
class Finding:
    """Defect in the files of a data set that does not prevent their use.

    Attributes:
        kind: one or two words for a table, such as "unreadable", "box outside", "label without image".
        where: file, and its line if that helps.
        what: the defect and how it was handled, in one line.
    """

    kind: str
    where: str
    what: str


@dataclass(frozen=True)
class Index:
    """All images of a data set by split, in a fixed order.

    Attributes:
        classes: class names, in the order of the target indices.
        records: images of each split.
        multi_label: whether an image may show any number of classes.
        findings: defects of the files.
    """

    classes: tuple[str, ...]
    records: dict[SplitName, tuple[Record, ...]]
    multi_label: bool = False
    findings: tuple[Finding, ...] = ()
