"""ImageNet as shipped: ILSVRC 2012 in both layouts, ImageNet-V2, ImageNet-S, Imagenette and tiny-imagenet.

Sources: image-net.org (ILSVRC 2012), kaggle.com/c/imagenet-object-localization-challenge, Recht et al. 2019 (V2), Gao
et al. 2022 (ImageNet-S), fastai's Imagenette, Stanford CS231n (tiny-imagenet). The labels of the test images are not
public, so the public validation images are "test" here and a part of train, fixed by the seed, is "val".

A class keeps its index in ImageNet-1k even if only some classes are on disk, so that networks trained on all classes
can be evaluated. `labels: own` counts the classes on disk instead. The evidence of an image is its mask if there is
one, else its boxes. Boxes of objects that are not of the image's class are left out.
Known limits: EXIF is not applied, since boxes refer to the pixels as stored; it is not documented whether boxes include
their last pixel (see `formats/voc.py`).
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
    ImageFile,
    find_part,
    find_variant,
    imagenet1k_wnids,
    imagenet_info,
    read_solution,
    xml_reader,
)
from interp_core.datasets.records import Box, Finding, Index, MaskFile, Record, SplitName

MASKS: dict[SplitName, tuple[str, ...]] = {"train": ("train-semi-segmentation",), "test": ("validation-segmentation",)}
MASK_HOMES = (".", "ImageNetS919", "ImageNetS300", "ImageNetS50", "ImageNetS/ImageNetS919")


class SplitAnnotations(NamedTuple):
    """Boxes and masks of a split.

    Attributes:
        table: boxes of Kaggle's table by stem of the image.
        read_xml: function that reads the XML file of an image.
        masks: mask and its value for the class, by stem of the image.
    """

    table: dict[str, list[tuple[str, tuple[float, ...]]]]
    read_xml: Callable[[ImageFile], VocFile | None]
    masks: dict[str, tuple[Path, int]]


@datasets.register("imagenet")
class ImageNet(FileDataset):
    """ImageNet and its variants, as downloaded.

    Attributes:
        labels: "imagenet1k" for all 1000 classes, "own" for those on disk.
        boxes: source of the boxes. "auto" reads XML for the validation images, and for the training images Kaggle's
            table, which is a single file; if one is missing it reads the other.
        val_share: share of the training images that becomes "val".
    """

    title: ClassVar[str] = "ImageNet"

    labels: Literal["imagenet1k", "own"] = "imagenet1k"
    boxes: Literal["auto", "xml", "csv", "none"] = "auto"
    upright: bool = False
    val_share: float = Field(VAL_SHARE, gt=0, lt=1)

    def index(self) -> Index:
        """List all images of the folder.

        Raises:
            InterpError: the layout is unknown, or a table cannot be read.
        """
        findings: list[Finding] = []
        images = {split: list(find_part(self.root, split, findings)) for split in PARTS}
        if not any(images.values()):
            images["test"] = list(find_variant(self.root, findings))
        targets = self._targets(images, findings)
        records = [
            SplitRecord(record, split)
            for split, members in images.items()
            for record in self._records(split, members, targets, findings)
        ]
        splits = complete_splits(records, self.seed, self.val_share)
        return Index(class_names(tuple(targets)), splits, findings=tuple(findings))

    def describe_layout(self) -> str:
        """Return a few words on the layout of the folder."""
        for folder, description in LAYOUTS:
            if (self.root / folder).exists():
                return description
        return "ImageNet-V2 or class folders alone"

    def _targets(self, images: dict[SplitName, list[ImageFile]], findings: list[Finding]) -> dict[str, int]:
        """Return the target of each WordNet id, and add a finding for each unknown one."""
        present = {image.wnid for members in images.values() for image in members}
        wnids = imagenet1k_wnids() if self.labels == "imagenet1k" else tuple(sorted(present))
        for wnid in sorted(present - set(wnids)):
            count = sum(image.wnid == wnid for members in images.values() for image in members)
            findings.append(Finding("unknown class", wnid, f"not in ImageNet-1k: its {count} images are left out"))
        return {wnid: target for target, wnid in enumerate(wnids)}

    def _records(
        self, split: SplitName, images: list[ImageFile], targets: dict[str, int], findings: list[Finding]
    ) -> Iterator[Record]:
        annotations = self._annotations(split, findings)
        ids: set[str] = set()
        for image in images:
            if image.wnid not in targets:
                continue
            short_id = f"{self.name}/{image.path.stem}"
            record_id = short_id if short_id not in ids else f"{self.name}/{relative_id(image.path, self.root)}"
            ids.add(record_id)
            target = targets[image.wnid]
            mask = annotations.masks.get(image.path.stem)
            if mask is not None:
                yield Record(record_id, image.path, (target,), masks=(MaskFile(mask[0], (mask[1],)),))
            else:
                boxes, size = _boxes(image, annotations, findings)
                yield Record(record_id, image.path, (target,), boxes, size=size)

    def _annotations(self, split: SplitName, findings: list[Finding]) -> SplitAnnotations:
        table_path = first_existing(self.root, [SOLUTIONS[split]])
        sources = {"xml": ("xml",), "csv": ("csv",), "none": (), "auto": ("xml", "csv")}[self.boxes]
        if self.boxes == "auto" and split == "train" and table_path is not None:
            sources = ("csv",)
        table = read_solution(table_path, findings) if "csv" in sources and table_path is not None else {}
        read_xml = xml_reader(self.root, split, findings) if "xml" in sources else _read_nothing
        return SplitAnnotations(table, read_xml, _find_masks(self.root, split))


def _read_nothing(_image: ImageFile) -> None:
    return None


def class_names(wnids: tuple[str, ...]) -> tuple[str, ...]:
    """Return a distinct name for each class: its first word, all its words, or these with its WordNet id."""
    info = imagenet_info("imagenet-22k")
    described = set(imagenet1k_wnids())
    described |= set(info.label_names()) if set(wnids) - described else set()
    words = [str(info.label_name_to_description(wnid, detailed=False)) if wnid in described else wnid for wnid in wnids]
    first_words = [text.split(",")[0] for text in words]
    counts = Counter(first_words)
    names = [name if counts[name] == 1 else text for name, text in zip(first_words, words, strict=True)]
    name_counts = Counter(names)
    return tuple(
        name if name_counts[name] == 1 else f"{name} ({wnid})" for name, wnid in zip(names, wnids, strict=True)
    )


def _boxes(
    image: ImageFile, annotations: SplitAnnotations, findings: list[Finding]
) -> tuple[tuple[Box, ...], tuple[int, int] | None]:
    """Return the boxes of the image's class, and the size they refer to."""
    content = annotations.read_xml(image) or VocFile(None, tuple(annotations.table.get(image.path.stem, image.boxes)))
    of_class = VocFile(content.size, tuple(entry for entry in content.objects if entry[0] == image.wnid))
    if len(of_class.objects) < len(content.objects):
        findings.append(Finding("box", image.path.name, "of another class than the image's: left out"))
    return boxes_of(of_class, image.path.name, findings, None, first_pixel=0), of_class.size


def _find_masks(root: Path, split: SplitName) -> dict[str, tuple[Path, int]]:
    """Return mask and value of each image's class in ImageNet-S; values count the classes on disk from 1."""
    folder = first_existing(root, [f"{home}/{name}" for home in MASK_HOMES for name in MASKS[split]])
    if folder is None:
        return {}
    values = {class_folder.name: value for value, class_folder in enumerate(list_folders(folder), 1)}
    paths = by_stem(walk_files(folder, frozenset({".png"})))
    return {stem: (path, values[path.parent.name]) for stem, path in paths.items() if path.parent.name in values}
