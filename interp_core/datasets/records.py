"""What is known of a data set of files before any image is read: which images, their classes and their evidence."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

SplitName = Literal["train", "val", "test"]
SPLITS: tuple[SplitName, ...] = ("train", "val", "test")


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle of evidence in pixels of the file, half-open: columns x0 <= x < x1, rows y0 <= y < y1.

    Attributes:
        target: class it is evidence for; None for whatever the image is said to show.
    """

    x0: float
    y0: float
    x1: float
    y1: float
    target: int | None = None


@dataclass(frozen=True, slots=True)
class MaskFile:
    """A picture that marks evidence pixel by pixel.

    Attributes:
        path: of a picture as large as the image or in its proportions.
        values: grey values that mean evidence; None for every value above 0.
        target: class it is evidence for; None for whatever the image is said to show.
    """

    path: Path
    values: tuple[int, ...] | None = None
    target: int | None = None


@dataclass(frozen=True, slots=True)
class Record:
    """One image of a data set, not yet read.

    Attributes:
        id: stable name, unique in the data set, without anything that tells who a patient is.
        path: of the picture.
        targets: classes it shows: exactly one where classes exclude each other, any number else.
        boxes: evidence as rectangles.
        masks: evidence as pictures.
        group: what must not be torn apart between splits, such as a patient; "" where images are independent.
        size: (width, height) that boxes refer to, where it is not the file's own.
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
    """Something wrong with a data set's files that does not stop it from being used.

    Attributes:
        kind: one word or two for a table, such as "unreadable", "box outside", "label without image".
        where: file, and line of it where that helps.
        what: what is wrong and what was done about it, one line.
    """

    kind: str
    where: str
    what: str


@dataclass(frozen=True)
class Index:
    """All images of a data set, split by split, in a fixed order.

    Attributes:
        classes: names, in the order of target indices.
        records: images of each split.
        multi_label: whether an image may show any number of classes.
        findings: what is wrong with the files.
    """

    classes: tuple[str, ...]
    records: dict[SplitName, tuple[Record, ...]]
    multi_label: bool = False
    findings: tuple[Finding, ...] = field(default=())
