"""COCO's JSON: images, categories and boxes of several objects an image, one file a split.

Source: cocodataset.org, "Data format", object detection. Boxes are x, y, width, height in pixels from 0.
Known limits: polygons and run-length masks are not read, their boxes are; crowds count as labels and mark nothing.
"""

from __future__ import annotations

from pathlib import Path

from pydantic import BaseModel, ValidationError

from interp_core.datasets.files.boxes import repair_box
from interp_core.datasets.files.paths import find_file, relative_id, walk_files
from interp_core.datasets.files.splits import SplitRecord
from interp_core.datasets.formats.voc import AnnotationError
from interp_core.datasets.records import Box, Finding, Record, SplitName
from interp_core.errors import one_line


class Category(BaseModel):
    """A class."""

    id: int
    name: str


class Picture(BaseModel):
    """An image."""

    id: int | str
    file_name: str
    width: int | None = None
    height: int | None = None


class Marked(BaseModel):
    """An object."""

    image_id: int | str
    category_id: int
    bbox: tuple[float, float, float, float] | None = None
    iscrowd: int = 0


class CocoFile(BaseModel):
    """A file of annotations, as far as it is used."""

    images: list[Picture]
    categories: list[Category]
    annotations: list[Marked] = []


def read_coco(path: Path) -> CocoFile:
    """A file of annotations.

    Raises:
        AnnotationError: it cannot be read or is none.
    """
    try:
        return CocoFile.model_validate_json(path.read_bytes())
    except (OSError, ValueError, RecursionError) as error:
        raise AnnotationError(f"cannot read {path} as COCO JSON: {_reason(error)}") from error


def looks_like_coco(path: Path) -> bool:
    """Whether a JSON file begins as one of COCO's, judged by its first megabyte."""
    try:
        with path.open("rb") as file:
            begin = file.read(2**20)
    except OSError:
        return False
    return any(b'"' + key + b'"' in begin for key in (b"images", b"annotations", b"categories"))


def coco_files(root: Path) -> list[Path]:
    """Files of object annotations in a folder, in `annotations/` or one level down, as exporters lay them."""
    found = [path for path in walk_files(root, frozenset({".json"})) if len(path.relative_to(root).parts) <= 2]
    objects = [path for path in found if not path.stem.startswith(("captions_", "person_keypoints_", "image_info_"))]
    return [path for path in objects if looks_like_coco(path)]


def split_of(name: str) -> SplitName | None:
    """The split that words such as "instances_val2017", "valid" or "trainval" mean."""
    name = name.lower()
    for split, words in (("train", ("train",)), ("val", ("val", "dev")), ("test", ("test",))):
        if any(word in name for word in words):
            return split  # type: ignore[return-value]
    return None


def read_coco_folder(
    root: Path, sources: list[Path], name: str, findings: list[Finding]
) -> tuple[tuple[str, ...], list[SplitRecord]]:
    """Classes and images of some files of annotations.

    Args:
        root: of the data set.
        sources: its files, each a split of its own if its name or folder says so.
        name: of the data set, before ids.
        findings: is told what is wrong.

    Raises:
        AnnotationError: a file cannot be read.
    """
    contents = [read_coco(path) for path in sources]
    names = {category.id: category.name for content in contents for category in content.categories}
    targets = {number: index for index, number in enumerate(sorted(names))}
    labelled: dict[str, SplitRecord] = {}
    for path, content in zip(sources, contents, strict=True):
        split = split_of(path.stem) or split_of(path.parent.relative_to(root).as_posix())
        for record in _records(root, path, content, targets, name, findings):
            if record.id in labelled:
                findings.append(Finding("duplicate row", path.name, f"{record.id} is listed twice: the first is used"))
            labelled.setdefault(record.id, SplitRecord(record, split))
    return tuple(names[number] for number in sorted(names)), list(labelled.values())


def _records(
    root: Path, source: Path, content: CocoFile, targets: dict[int, int], name: str, findings: list[Finding]
) -> list[Record]:
    objects: dict[int | str, list[Marked]] = {picture.id: [] for picture in content.images}
    for entry in content.annotations:
        if entry.image_id not in objects or entry.category_id not in targets:
            what = f"image {entry.image_id}, category {entry.category_id}: one of them is not listed, left out"
            findings.append(Finding("label without image", source.name, what))
        else:
            objects[entry.image_id].append(entry)
    folder = source.parent.relative_to(root).as_posix()
    where = [folder, ".", "images", source.stem.removeprefix("instances_"), f"{folder}/images"]
    made = []
    for picture in content.images:
        path = find_file(root, picture.file_name, where)
        if path is None:
            findings.append(Finding("label without image", source.name, f"{picture.file_name[:200]!r} is not there"))
        elif not objects[picture.id]:
            findings.append(Finding("image without label", picture.file_name[:200], "no object in it: left out"))
        else:
            made.append(_record(root, path, picture, objects[picture.id], targets, name, findings))
    return made


def _record(
    root: Path,
    path: Path,
    picture: Picture,
    objects: list[Marked],
    targets: dict[int, int],
    name: str,
    findings: list[Finding],
) -> Record:
    size = (picture.width, picture.height) if (picture.width or 0) > 0 and (picture.height or 0) > 0 else None
    boxes: list[Box | None] = []
    for entry in objects:
        if entry.bbox is not None and not entry.iscrowd:
            x, y, width, height = entry.bbox
            corners = (x, y, x + width, y + height)
            boxes.append(repair_box(corners, picture.file_name[:200], findings, targets[entry.category_id], size))  # type: ignore[arg-type]
    shown = tuple(sorted({targets[entry.category_id] for entry in objects}))
    found = tuple(box for box in boxes if box is not None)
    return Record(f"{name}/{relative_id(path, root)}", path, shown, found, size=size)  # type: ignore[arg-type]


def _reason(error: Exception) -> str:
    if isinstance(error, ValidationError):
        detail = error.errors(include_url=False, include_input=False)[0]
        return f"{'.'.join(str(part) for part in detail['loc']) or 'file'}: {detail['msg']}"
    return one_line(error)
