"""Data sets saved by `save_to_disk` of Hugging Face's `datasets`. Nothing is downloaded, and none of their code runs.

The images are inside Arrow files. Their bytes are written to `cache` once, unchanged, and read from there like other
files. Splits keep their names. Masks are a second image column. Boxes are a column `objects` with `bbox` (x, y, width,
height) and optionally `category`.
Known limits: the cache takes as much space as the images; a run resumed with another cache starts again; features
nested deeper than `objects` are not read.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from itertools import zip_longest
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from pydantic import Field

from interp_core.datasets.contract import datasets
from interp_core.datasets.files.box_forms import SHARES, Corners, are_shares, parse_boxes
from interp_core.datasets.files.boxes import repair_box
from interp_core.datasets.files.dataset import FileDataset
from interp_core.datasets.files.paths import require_folder
from interp_core.datasets.files.split_words import split_of
from interp_core.datasets.files.splits import VAL_SHARE, SplitRecord, complete_splits
from interp_core.datasets.formats.label_values import label_target, read_labels
from interp_core.datasets.records import Box, Finding, Index, MaskFile, Record
from interp_core.errors import InterpError, one_line

LABELS = ("label", "labels", "fine_label", "class", "target", "category")
CATEGORIES = ("category", "categories", "label", "labels", "class", "category_id")
MASKS = ("mask", "segmentation", "annotation", "label_mask", "segmentation_mask")


class HuggingFaceError(InterpError):
    """A saved data set that cannot be read, or that lacks a column."""


class Columns(NamedTuple):
    """Names of the columns that are used."""

    image: str
    label: str
    mask: str | None
    objects: str | None


@datasets.register("huggingface")
class HuggingFace(FileDataset):
    """A data set that `datasets` has saved to disk.

    Attributes:
        image: column of images; None for the first.
        label: column of classes; None for one of the usual names.
        cache: folder for the bytes of the images; None for a folder in the user's cache, named by the data set.
        val_share: share of the training images that becomes "val" if there is no such split.
    """

    title: ClassVar[str] = "Hugging Face data set"

    image: str | None = None
    label: str | None = None
    cache: Path | None = None
    val_share: float = Field(VAL_SHARE, gt=0, lt=1)

    @classmethod
    def of(cls, dataset: Any, folder: Path, **fields: Any) -> Self:
        """Save a data set in memory, or a dict of splits, to `folder` and return its configuration."""
        dataset.save_to_disk(str(folder))
        return cls(root=folder, **fields)

    def index(self) -> Index:
        """List all images with a label, and write their bytes to the cache if they are not there yet.

        Raises:
            InterpError: `datasets` is not installed, or the folder holds no data set with images and labels.
        """
        findings: list[Finding] = []
        splits = _load_splits(require_folder(self.root, "the saved data set"))
        first = next(iter(splits.values()))
        columns = _columns(first, self.image, self.label)
        for split in splits.values():
            _columns(split, columns.image, columns.label)
        values = [row for split in splits.values() for row in split.select_columns([columns.label])[columns.label]]
        classes, targets_by_row, targets = read_labels(
            values, _class_names(first.features[columns.label]), columns.label, findings
        )
        rows = iter(targets_by_row)
        cache = self.cache or _default_cache(self.root)
        records = [
            item
            for name, split in splits.items()
            for item in self._records(split, name, columns, rows, targets, cache / _safe(name), findings)
        ]
        if not records:
            hint = f"; {findings[0].where}: {findings[0].what}" if findings else ""
            raise HuggingFaceError(f"{self.root} holds no image with a label in column {columns.label}{hint}")
        multi_label = any(len(item.record.targets) != 1 for item in records)
        return Index(classes, complete_splits(records, self.seed, self.val_share), multi_label, tuple(findings))

    def _records(
        self,
        split: Any,
        name: str,
        columns: Columns,
        targets_by_row: Iterator[tuple[int, ...]],
        targets: dict[Any, int],
        cache: Path,
        findings: list[Finding],
    ) -> Iterator[SplitRecord]:
        split_name = split_of(name)
        for number, row in enumerate(_iterate_undecoded(split, columns)):
            where = f"{name}, row {number}"
            image_targets = next(targets_by_row)
            path = _store_image(row[columns.image], cache / f"{number:07d}.img")
            if path is None or not image_targets:
                what = "it has no image" if path is None else "it has no label"
                findings.append(Finding("image without label" if path else "unreadable", where, f"{what}: left out"))
                continue
            mask = None if columns.mask is None else _store_image(row[columns.mask], cache / f"{number:07d}.mask")
            boxes, size = (
                ((), None) if columns.objects is None else _boxes(row[columns.objects], where, targets, findings)
            )
            masks = () if mask is None else (MaskFile(mask),)
            record_id = f"{self.name}/{_safe(name)}/{number:07d}"
            record = Record(record_id, path, image_targets, () if masks else boxes, masks, size=None if masks else size)
            yield SplitRecord(record, split_name)


def _load_splits(root: Path) -> Mapping[str, Any]:
    """Load the splits of a saved data set."""
    try:
        import datasets as library
    except ImportError as error:
        raise HuggingFaceError("this needs the package datasets: pip install 'interp-bench[huggingface]'") from error
    try:
        content = library.load_from_disk(str(root))
    except Exception as error:  # the library and Arrow may raise anything on damaged files
        reason = one_line(error, limit=200)
        raise HuggingFaceError(f"{root} is not a data set saved by save_to_disk: {reason}") from error
    splits = content if isinstance(content, library.DatasetDict) else {"": content}
    if not splits or not any(len(split) for split in splits.values()):
        raise HuggingFaceError(f"{root} holds no rows")
    return splits


def _columns(split: Any, image: str | None, label: str | None) -> Columns:
    import datasets as library

    image_columns = [name for name, feature in split.features.items() if isinstance(feature, library.Image)]
    masks = [name for name in image_columns if name.lower() in MASKS]
    image = image or next((name for name in image_columns if name not in masks), None)
    label = label or next((name for name in LABELS if name in split.features), None) or _only_class_column(split)
    for kind, name in (("image", image), ("label", label)):
        if name is None or name not in split.features:
            raise HuggingFaceError(f"no column of {kind}s; give dataset.{kind}; there are {', '.join(split.features)}")
    if image not in image_columns:
        raise HuggingFaceError(f"column {image} holds no images; those that do: {', '.join(image_columns) or 'none'}")
    objects = "objects" if "objects" in split.features else None
    return Columns(str(image), str(label), next(iter(masks), None), objects)


def _iterate_undecoded(split: Any, columns: Columns) -> Iterator[dict[str, Any]]:
    """Yield the rows with images as bytes."""
    import datasets as library

    for name in (columns.image, columns.mask):
        if name is not None:
            split = split.cast_column(name, library.Image(decode=False))
    yield from split.select_columns([name for name in columns if name is not None])


def _only_class_column(split: Any) -> str | None:
    """Return the only column whose type is a class, or None."""
    names = [name for name, feature in split.features.items() if _class_names(feature) is not None]
    return names[0] if len(names) == 1 else None


def _class_names(feature: Any) -> tuple[str, ...] | None:
    """Return the class names that a label column declares, or None."""
    names = getattr(getattr(feature, "feature", feature), "names", None)
    return None if names is None else tuple(names)


def _store_image(value: Any, path: Path) -> Path | None:
    """Return the file of an image, written to `path` if there is none yet; None if the row has no image."""
    if not isinstance(value, dict) or (value.get("bytes") is None and not value.get("path")):
        return None
    content = value.get("bytes")
    if content is None:
        return Path(value["path"])
    if not path.is_file() or path.stat().st_size != len(content):
        path.parent.mkdir(parents=True, exist_ok=True)
        temporary = path.with_name(f"{path.name}.{os.getpid()}.part")
        temporary.write_bytes(content)
        temporary.replace(path)
    return path


def _boxes(
    objects: Any, where: str, targets: dict[Any, int], findings: list[Finding]
) -> tuple[tuple[Box, ...], tuple[int, int] | None]:
    """Return the boxes of a row and the size they refer to; its objects are a list of dicts or a dict of lists."""
    rows = [entry for entry in objects if isinstance(entry, dict)] if isinstance(objects, list) else _transpose(objects)
    corners: list[tuple[Corners, int | None]] = []
    for entry in rows:
        label = next((entry[name] for name in CATEGORIES if name in entry), None)
        try:
            corners += [(box, label_target(label, targets)) for box in parse_boxes(entry.get("bbox"))]
        except ValueError as error:
            findings.append(Finding("box", where, f"its bbox {error}, left out: {str(entry.get('bbox'))[:60]}"))
    size = SHARES if are_shares(box for box, _ in corners) else None
    boxes = (repair_box(box, where, findings, target, size) for box, target in corners)
    return tuple(box for box in boxes if box is not None), size


def _transpose(objects: Any) -> list[dict[str, Any]]:
    columns = objects if isinstance(objects, dict) else {}
    lists = {name: values for name, values in columns.items() if isinstance(values, list)}
    return [dict(zip(lists, values, strict=True)) for values in zip_longest(*lists.values())]


def _default_cache(root: Path) -> Path:
    """Return a folder in the user's cache, named by a hash of the names, sizes and times of the Arrow files."""
    state = hashlib.blake2b(str(root.resolve()).encode(), digest_size=12)
    for path in sorted(root.rglob("*.arrow")):
        facts = path.stat()
        state.update(repr((path.relative_to(root).as_posix(), facts.st_size, facts.st_mtime_ns)).encode())
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "interp-bench" / "huggingface" / state.hexdigest()


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name) or "all"
