"""Read COCO JSON: images, categories and the boxes of objects, one file per split.

Source: cocodataset.org, "Data format", object detection. Boxes are x, y, width, height in pixels from 0.
Known limits: polygons and run-length masks are not read, only their boxes; crowds count as labels but mark nothing.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ValidationError

from interp_core.datasets.files.boxes import repair_box
from interp_core.datasets.files.paths import find_file, relative_id, walk_files
from interp_core.datasets.files.splits import SplitRecord
from interp_core.datasets.formats.voc import AnnotationError
from interp_core.datasets.records import Finding, Record, SplitName
from interp_core.errors import one_line

SPLIT_WORDS: dict[SplitName, tuple[str, ...]] = {"train": ("train",), "val": ("val", "dev"), "test": ("test",)}


class CocoCategory(BaseModel):
    """A class."""

    id: int
    name: str


class CocoImage(BaseModel):
    """An image."""

    id: int | str
    file_name: str
    width: int | None = None
    height: int | None = None

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) if both are known and positive, else None."""
        size = (self.width or 0, self.height or 0)
        return size if min(size) > 0 else None


class CocoObject(BaseModel):
    """An object in an image."""

    image_id: int | str
    category_id: int
    bbox: tuple[float, float, float, float] | None = None
    iscrowd: int = 0


class CocoFile(BaseModel):
    """The fields of a COCO file that are used."""

    images: list[CocoImage]
    categories: list[CocoCategory]
    annotations: list[CocoObject] = []


def read_coco(path: Path) -> CocoFile:
    """Read a COCO file.

    Raises:
        AnnotationError: the file cannot be read or is not COCO JSON.
    """
    try:
        return CocoFile.model_validate_json(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise AnnotationError(f"cannot read {path} as COCO JSON: {_reason(error)}") from error


def looks_like_coco(path: Path) -> bool:
    """Return whether the first megabyte of a JSON file has a key of COCO's."""
    try:
        with path.open("rb") as file:
            beginning = file.read(2**20)
    except OSError:
        return False
    return any(b'"' + key + b'"' in beginning for key in (b"images", b"annotations", b"categories"))


def coco_files(root: Path) -> list[Path]:
    """List the files of object annotations in a folder and one level down, where exporters put them."""
    paths = [path for path in walk_files(root, frozenset({".json"})) if len(path.relative_to(root).parts) <= 2]
    no_objects = ("captions_", "person_keypoints_", "image_info_")
    return [path for path in paths if not path.stem.startswith(no_objects) and looks_like_coco(path)]


def split_of(name: str) -> SplitName | None:
    """Return the split that a name such as "instances_val2017", "valid" or "trainval" stands for, or None."""
    name = name.lower()
    return next((split for split, words in SPLIT_WORDS.items() if any(word in name for word in words)), None)


def read_coco_folder(
    root: Path, sources: list[Path], name: str, findings: list[Finding]
) -> tuple[tuple[str, ...], list[SplitRecord]]:
    """Read the classes and images of COCO files.

    Args:
        root: folder of the data set.
        sources: its COCO files. The name of the file or its folder tells the split.
        name: name of the data set, the first part of ids.
        findings: list to which defects are added.

    Raises:
        AnnotationError: a file cannot be read.
    """
    contents = [read_coco(path) for path in sources]
    names = {category.id: category.name for content in contents for category in content.categories}
    targets = {category_id: target for target, category_id in enumerate(sorted(names))}
    records: dict[str, SplitRecord] = {}
    for path, content in zip(sources, contents, strict=True):
        split = split_of(path.stem) or split_of(path.parent.relative_to(root).as_posix())
        for record in _records(root, path, content, targets, name, findings):
            if record.id in records:
                findings.append(Finding("duplicate row", path.name, f"{record.id} is listed twice: the first is used"))
            records.setdefault(record.id, SplitRecord(record, split))
    return tuple(names[category_id] for category_id in sorted(names)), list(records.values())


def _records(
    root: Path, source: Path, content: CocoFile, targets: dict[int, int], name: str, findings: list[Finding]
) -> list[Record]:
    objects: dict[int | str, list[CocoObject]] = {image.id: [] for image in content.images}
    for entry in content.annotations:
        if entry.image_id not in objects or entry.category_id not in targets:
            what = f"image {entry.image_id}, category {entry.category_id}: one of them is not listed, left out"
            findings.append(Finding("label without image", source.name, what))
        else:
            objects[entry.image_id].append(entry)
    folder = source.parent.relative_to(root).as_posix()
    image_folders = [folder, ".", "images", source.stem.removeprefix("instances_"), f"{folder}/images"]
    records = []
    for image in content.images:
        path = find_file(root, image.file_name, image_folders)
        if path is None:
            findings.append(Finding("label without image", source.name, f"{image.file_name[:200]!r} is not there"))
        elif not objects[image.id]:
            findings.append(Finding("image without label", image.file_name[:200], "no object in it: left out"))
        else:
            record_id = f"{name}/{relative_id(path, root)}"
            records.append(_record(record_id, path, image, objects[image.id], targets, findings))
    return records


def _record(
    record_id: str,
    path: Path,
    image: CocoImage,
    objects: list[CocoObject],
    targets: dict[int, int],
    findings: list[Finding],
) -> Record:
    boxes = []
    for entry in objects:
        if entry.bbox is not None and not entry.iscrowd:
            x, y, width, height = entry.bbox
            corners, target = (x, y, x + width, y + height), targets[entry.category_id]
            boxes.append(repair_box(corners, image.file_name[:200], findings, target, image.size))
    image_targets = tuple(sorted({targets[entry.category_id] for entry in objects}))
    return Record(record_id, path, image_targets, tuple(box for box in boxes if box is not None), size=image.size)


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        problem = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(str(part) for part in problem['loc']) or 'file'}: {problem['msg']}"
    return one_line(error)
