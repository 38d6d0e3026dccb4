"""Data sets of Hugging Face's `datasets`, as its `save_to_disk` leaves them: no download, and no code of theirs runs.

Images live inside Arrow files there; the bytes, as they are, are written once to `cache`, and read from it like any
other files. A split is the one of its name. Masks are a second image column, boxes a column `objects` with `bbox`
(x, y, width, height) and perhaps `category`.
Known limits: the cache takes as much room as the images; a run that is resumed with another cache begins anew; features
nested deeper than `objects` are not looked at.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, ClassVar, NamedTuple, Self

from pydantic import Field

from interp_core.datasets.contract import datasets
from interp_core.datasets.files.boxes import repair_box
from interp_core.datasets.files.dataset import FileDataset
from interp_core.datasets.files.paths import require_folder
from interp_core.datasets.files.splits import VAL_SHARE, SplitRecord, complete_splits
from interp_core.datasets.formats.coco import split_of
from interp_core.datasets.records import Box, Finding, Index, MaskFile, Record, SplitName
from interp_core.errors import InterpError, one_line

LABELS = ("label", "labels", "fine_label", "class", "target", "category")
MASKS = ("mask", "segmentation", "annotation", "label_mask", "segmentation_mask")


class HuggingFaceError(InterpError):
    """A saved data set that cannot be read, or lacks what is needed."""


class Columns(NamedTuple):
    """Names of the columns that matter."""

    image: str
    label: str
    mask: str | None
    objects: str | None


@datasets.register("huggingface")
class HuggingFace(FileDataset):
    """A data set that `datasets` has saved to disk; see the head of this file.

    Attributes:
        image: column of images; None for the first.
        label: column of classes; None for one of the usual names.
        cache: folder for the images' bytes; None for one in the user's cache, named by what is in the data set.
        val_share: of the training images that becomes "val" where there is no such split.
    """

    title: ClassVar[str] = "Hugging Face data set"

    image: str | None = None
    label: str | None = None
    cache: Path | None = None
    val_share: float = Field(VAL_SHARE, gt=0, lt=1)

    @classmethod
    def of(cls, dataset: Any, folder: Path, **fields: Any) -> Self:
        """The adapter of a data set in memory, or of a dict of splits, saved to `folder`."""
        dataset.save_to_disk(str(folder))
        return cls(root=folder, **fields)

    def index(self) -> Index:
        """All images with a label; their bytes are written to the cache where they are not there yet.

        Raises:
            InterpError: `datasets` is not installed, or the folder holds no data set with images and labels.
        """
        findings: list[Finding] = []
        parts = _loaded(require_folder(self.root, "the saved data set"))
        first = next(iter(parts.values()))
        columns = _columns(first, self.image, self.label)
        for part in parts.values():
            _columns(part, columns.image, columns.label)
        values = [
            _labels(row) for part in parts.values() for row in part.select_columns([columns.label])[columns.label]
        ]
        classes, targets = _classes(first.features[columns.label], values)
        cache = self.cache or _cache(self.root)
        labelled = [
            item
            for name, part in parts.items()
            for item in self._labelled(part, name, columns, targets, cache / _safe(name), findings)
        ]
        several = any(len(item.record.targets) != 1 for item in labelled)
        return Index(classes, complete_splits(labelled, self.seed, self.val_share), several, tuple(findings))

    def _labelled(
        self, part: Any, name: str, columns: Columns, targets: dict[Any, int], cache: Path, findings: list[Finding]
    ) -> Iterator[SplitRecord]:
        for number, row in enumerate(_undecoded(part, columns)):
            where = f"{name}, row {number}"
            shown = tuple(sorted({targets[value] for value in _labels(row[columns.label]) if value in targets}))
            path = _stored(row[columns.image], cache / f"{number:07d}.img")
            if path is None or not shown:
                what = "it has no image" if path is None else "it has no label"
                findings.append(Finding("image without label" if path else "unreadable", where, f"{what}: left out"))
                continue
            mask = None if columns.mask is None else _stored(row[columns.mask], cache / f"{number:07d}.mask")
            boxes = () if columns.objects is None else _boxes(row[columns.objects], where, targets, findings)
            marked = () if mask is None else (MaskFile(mask),)
            record = Record(f"{self.name}/{_safe(name)}/{number:07d}", path, shown, () if marked else boxes, marked)
            yield SplitRecord(record, _split(name))


def _loaded(root: Path) -> Mapping[str, Any]:
    """Splits of a saved data set."""
    try:
        import datasets as library
    except ImportError as error:
        raise HuggingFaceError("this needs the package datasets: pip install 'interp-bench[huggingface]'") from error
    try:
        found = library.load_from_disk(str(root))
    except Exception as error:  # whatever the library and Arrow raise for damaged files
        raise HuggingFaceError(f"{root} is no data set saved by save_to_disk: {one_line(error, limit=200)}") from error
    parts = found if isinstance(found, library.DatasetDict) else {"": found}
    if not parts or not any(len(part) for part in parts.values()):
        raise HuggingFaceError(f"{root} holds no rows")
    return parts


def _columns(part: Any, image: str | None, label: str | None) -> Columns:
    import datasets as library

    pictures = [name for name, feature in part.features.items() if isinstance(feature, library.Image)]
    masks = [name for name in pictures if name.lower() in MASKS]
    plain = [name for name in pictures if name not in masks]
    image = image or next(iter(plain), None)
    label = label or next((name for name in LABELS if name in part.features), None)
    for kind, name in (("image", image), ("label", label)):
        if name is None or name not in part.features:
            raise HuggingFaceError(f"no column of {kind}s; give dataset.{kind}; there are {', '.join(part.features)}")
    if image not in pictures:
        raise HuggingFaceError(f"column {image} holds no images; those that do: {', '.join(pictures) or 'none'}")
    objects = "objects" if "objects" in part.features else None
    return Columns(str(image), str(label), next(iter(masks), None), objects)


def _undecoded(part: Any, columns: Columns) -> Iterator[dict[str, Any]]:
    """Rows with images as bytes."""
    import datasets as library

    wanted = [name for name in columns if name is not None]
    for name in (columns.image, columns.mask):
        if name is not None:
            part = part.cast_column(name, library.Image(decode=False))
    yield from part.select_columns(wanted)


def _classes(feature: Any, values: list[tuple[Any, ...]]) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Names of classes, and the target of each value."""
    inner = getattr(feature, "feature", feature)
    names = getattr(inner, "names", None)
    if names is not None:
        return tuple(names), {number: number for number in range(len(names))} | {n: i for i, n in enumerate(names)}
    known = sorted({value for row in values for value in row}, key=lambda value: (isinstance(value, str), value))
    return tuple(str(value) for value in known), {value: index for index, value in enumerate(known)}


def _labels(value: Any) -> tuple[Any, ...]:
    """Labels of a row: one, several, or none."""
    found = value if isinstance(value, list) else [value]
    return tuple(one for one in found if isinstance(one, int | str) and one != -1)


def _stored(value: Any, path: Path) -> Path | None:
    """Where an image lies; its bytes are written if it lies nowhere. None where there is no image."""
    if not isinstance(value, dict) or (value.get("bytes") is None and not value.get("path")):
        return None
    content = value.get("bytes")
    if content is None:
        return Path(value["path"])
    if not path.is_file() or path.stat().st_size != len(content):
        path.parent.mkdir(parents=True, exist_ok=True)
        part = path.with_name(f"{path.name}.{os.getpid()}.part")
        part.write_bytes(content)
        part.replace(path)
    return path


def _boxes(objects: Any, where: str, targets: dict[Any, int], findings: list[Finding]) -> tuple[Box, ...]:
    """Boxes of a row, whose objects are a list of dicts or a dict of lists."""
    rows = objects if isinstance(objects, list) else _transposed(objects)
    made = []
    for entry in rows:
        corners = entry.get("bbox")
        if corners is not None and len(corners) == 4:
            x, y, width, height = (float(value) for value in corners)
            made.append(repair_box((x, y, x + width, y + height), where, findings, targets.get(entry.get("category"))))
    return tuple(box for box in made if box is not None)


def _transposed(objects: Any) -> list[dict[str, Any]]:
    columns = objects if isinstance(objects, dict) else {}
    return [dict(zip(columns, values, strict=True)) for values in zip(*columns.values(), strict=True)]


def _split(name: str) -> SplitName | None:
    return split_of(name) if name else None


def _cache(root: Path) -> Path:
    """A folder in the user's cache, named by the Arrow files' names, sizes and times."""
    state = hashlib.blake2b(str(root.resolve()).encode(), digest_size=12)
    for path in sorted(root.rglob("*.arrow")):
        found = path.stat()
        state.update(repr((path.relative_to(root).as_posix(), found.st_size, found.st_mtime_ns)).encode())
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    return home / "interp-bench" / "huggingface" / state.hexdigest()


def _safe(name: str) -> str:
    return "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name) or "all"
