"""ImageNet as shipped: ILSVRC 2012 in both layouts; ImageNet-V2, ImageNet-S, Imagenette, tiny-imagenet.

Sources: image-net.org (ILSVRC 2012), kaggle.com/c/imagenet-object-localization-challenge, Recht et al. 2019 (V2), Gao
et al. 2022 (ImageNet-S), fastai's Imagenette, Stanford CS231n (tiny-imagenet). The public validation images are "test"
here, since nobody has labels of the real test images; a part of train, fixed by the seed, is "val".

A class is its index in ImageNet-1k even where only some classes are on disk, so that networks trained on all of it are
judged as they are; `labels: own` counts the classes on disk instead. An image's evidence is its mask where there is
one, else its boxes, else none. Boxes of other objects than the image's class are left out.
Known limits: EXIF is not applied, since boxes refer to the pixels as stored; what boxes mean by their last pixel is
nowhere said (see `voc.py`).
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

from pydantic import Field

from interp_core.datasets.contract import datasets
from interp_core.datasets.files.dataset import FileDataset
from interp_core.datasets.files.paths import by_stem, first_existing, list_folders, relative_id, walk_files
from interp_core.datasets.files.splits import VAL_SHARE, SplitRecord, complete_splits
from interp_core.datasets.formats.voc import VocFile, boxes_of
from interp_core.datasets.imagenet.layouts import (
    LAYOUTS,
    PARTS,
    SOLUTIONS,
    Picture,
    find_part,
    find_variant,
    imagenet1k_wnids,
    read_solution,
    xml_finder,
)
from interp_core.datasets.records import Box, Finding, Index, MaskFile, Record, SplitName

MASKS: dict[SplitName, tuple[str, ...]] = {"train": ("train-semi-segmentation",), "test": ("validation-segmentation",)}
MASK_HOMES = (".", "ImageNetS919", "ImageNetS300", "ImageNetS50", "ImageNetS/ImageNetS919")


class SplitAnnotations(NamedTuple):
    """Where a part's boxes and masks are."""

    table: dict[str, list[tuple[str, tuple[float, ...]]]]
    xml: Callable[[Picture], VocFile | None]
    masks: dict[str, tuple[Path, int]]


@datasets.register("imagenet")
class ImageNet(FileDataset):
    """ImageNet and its heirs, as downloaded; see the head of this file.

    Attributes:
        labels: "imagenet1k" for all 1000 classes, "own" for those on disk.
        boxes: which of the two sources of boxes; "auto" for XML of the validation images and Kaggle's table, which is
            read at once, of the training images, or what there is of them.
        val_share: of the training images that becomes "val".
    """

    title: ClassVar[str] = "ImageNet"

    labels: Literal["imagenet1k", "own"] = "imagenet1k"
    boxes: Literal["auto", "xml", "csv", "none"] = "auto"
    upright: bool = False
    val_share: float = Field(VAL_SHARE, gt=0, lt=1)

    def index(self) -> Index:
        """All images, from the folder as it is.

        Raises:
            InterpError: no known layout is found, or a table cannot be read.
        """
        findings: list[Finding] = []
        parts = {split: list(find_part(self.root, split, findings)) for split in PARTS}
        if not any(parts.values()):
            parts["test"] = list(find_variant(self.root, findings))
        wnids = self._wnids(parts, findings)
        labelled = [
            SplitRecord(record, split)
            for split, pictures in parts.items()
            for record in self._records(split, pictures, wnids, findings)
        ]
        records = complete_splits(labelled, self.seed, self.val_share)
        return Index(class_names(tuple(wnids)), records, findings=tuple(findings))

    def describe_layout(self) -> str:
        """Which layout the folder has, in words."""
        for folder, told in LAYOUTS:
            if (self.root / folder).exists():
                return told
        return "ImageNet-V2 or class folders alone"

    def _wnids(self, parts: dict[SplitName, list[Picture]], findings: list[Finding]) -> dict[str, int]:
        """Target of each class, after what the layout knows nothing of is told."""
        present = {picture.wnid for pictures in parts.values() for picture in pictures}
        wnids = imagenet1k_wnids() if self.labels == "imagenet1k" else tuple(sorted(present))
        for wnid in sorted(present - set(wnids)):
            count = sum(picture.wnid == wnid for pictures in parts.values() for picture in pictures)
            findings.append(Finding("unknown class", wnid, f"not in ImageNet-1k: its {count} images are left out"))
        return {wnid: index for index, wnid in enumerate(wnids)}

    def _records(
        self, split: SplitName, pictures: list[Picture], wnids: dict[str, int], findings: list[Finding]
    ) -> Iterator[Record]:
        evidence = self._evidence(split, findings)
        ids: set[str] = set()
        for picture in pictures:
            if picture.wnid not in wnids:
                continue
            own = f"{self.name}/{picture.path.stem}"
            id_ = own if own not in ids else f"{self.name}/{relative_id(picture.path, self.root)}"
            ids.add(id_)
            target = wnids[picture.wnid]
            mask = evidence.masks.get(picture.path.stem)
            if mask is not None:
                yield Record(id_, picture.path, (target,), masks=(MaskFile(mask[0], (mask[1],)),))
            else:
                boxes, size = _boxes(picture, evidence, findings)
                yield Record(id_, picture.path, (target,), boxes, size=size)

    def _evidence(self, split: SplitName, findings: list[Finding]) -> SplitAnnotations:
        table_path = first_existing(self.root, [SOLUTIONS[split]])
        order = {"xml": ("xml",), "csv": ("csv",), "none": (), "auto": ("xml", "csv")}[self.boxes]
        if self.boxes == "auto" and split == "train" and table_path is not None:
            order = ("csv",)
        table = read_solution(table_path, findings) if "csv" in order and table_path is not None else {}
        xml = xml_finder(self.root, split, findings) if "xml" in order else _nothing
        return SplitAnnotations(table, xml, _masks(self.root, split))


def _nothing(_picture: Picture) -> None:
    return None


def class_names(wnids: tuple[str, ...]) -> tuple[str, ...]:
    """A name for each class, all different: its first word, all its words, or its id with them."""
    from timm.data import ImageNetInfo

    known, info = set(imagenet1k_wnids()), ImageNetInfo("imagenet-22k")
    known |= set(info.label_names()) if set(wnids) - known else set()
    words = [str(info.label_name_to_description(wnid, detailed=False)) if wnid in known else wnid for wnid in wnids]
    first = [text.split(",")[0] for text in words]
    once = Counter(first)
    names = [name if once[name] == 1 else text for name, text in zip(first, words, strict=True)]
    again = Counter(names)
    return tuple(name if again[name] == 1 else f"{name} ({wnid})" for name, wnid in zip(names, wnids, strict=True))


def _boxes(
    picture: Picture, evidence: SplitAnnotations, findings: list[Finding]
) -> tuple[tuple[Box, ...], tuple[int, int] | None]:
    """The boxes of an image's own class, and the size they refer to."""
    content = evidence.xml(picture) or VocFile(None, tuple(evidence.table.get(picture.path.stem, picture.boxes)))
    own = VocFile(content.size, tuple(entry for entry in content.objects if entry[0] == picture.wnid))
    if len(own.objects) < len(content.objects):
        findings.append(Finding("box", picture.path.name, "of another class than the image's: left out"))
    return boxes_of(own, picture.path.name, findings, None, first_pixel=0), own.size


def _masks(root: Path, split: SplitName) -> dict[str, tuple[Path, int]]:
    """ImageNet-S: mask and value of each image's class. Values count the classes on disk from 1."""
    folder = first_existing(root, [f"{home}/{name}" for home in MASK_HOMES for name in MASKS[split]])
    if folder is None:
        return {}
    values = {part.name: place for place, part in enumerate(list_folders(folder), 1)}
    found = by_stem(walk_files(folder, frozenset({".png"})))
    return {stem: (path, values[path.parent.name]) for stem, path in found.items() if path.parent.name in values}
