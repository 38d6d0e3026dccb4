"""CelebA as its owners ship it: aligned or in-the-wild faces with 40 attributes; also faces and masks of CelebAMask-HQ.

Source: Liu et al. 2015, mmlab.ie.cuhk.edu.hk/projects/CelebA.html. The CSV files of the copies at Kaggle work too.
An image may have any number of attributes. The evidence for an attribute is its place on the face (`face_regions.py`):
boxes computed from landmarks, or for CelebAMask-HQ the masks of the parts that show it. docs/data.md lists both.
Known limits: CelebAMask-HQ has no landmarks of its crops, so an attribute without an exact part has no evidence there;
bounding boxes (`list_bbox_celeba.txt`) only replace missing landmarks of in-the-wild faces.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np
import pandas as pd

from interp_core.datasets.celeba.face_regions import FACE_PARTS, face_boxes, has_exact_parts
from interp_core.datasets.contract import datasets
from interp_core.datasets.files.dataset import FileDataset
from interp_core.datasets.files.paths import first_existing, require_folder, require_path, walk_files, walk_images
from interp_core.datasets.files.splits import SplitRecord, complete_splits
from interp_core.datasets.files.tables import TableError, read_celeba_table, read_table, to_numbers
from interp_core.datasets.records import SPLITS, Box, Finding, Index, MaskFile, Record, SplitName
from interp_core.errors import UnknownNameError

HOMES = ("", "Anno/", "Eval/", "Img/", "celeba/", "CelebA/", "CelebAMask-HQ/")
PAGE = "on CelebA's page"
FOLDERS = {
    "aligned": (
        ("img_align_celeba/img_align_celeba", "img_align_celeba"),
        "'Align&Cropped Images' (img_align_celeba.zip)",
    ),
    "wild": (("img_celeba", "img_celeba/img_celeba"), "'In-The-Wild Images' (img_celeba.7z)"),
    "hq": (("CelebA-HQ-img",), "CelebA-HQ-img of CelebAMask-HQ.zip"),
}
ATTRIBUTES = {
    "hq": (
        ["CelebAMask-HQ-attribute-anno.txt"],
        "the attributes, CelebAMask-HQ-attribute-anno.txt of CelebAMask-HQ.zip",
    ),
    "": (["list_attr_celeba.txt", "list_attr_celeba.csv"], f"the attributes, Anno/list_attr_celeba.txt {PAGE}"),
}
LANDMARKS = {"aligned": "list_landmarks_align_celeba", "wild": "list_landmarks_celeba"}
LANDMARK_COLUMNS = tuple(
    f"{point}_{axis}" for point in ("lefteye", "righteye", "nose", "leftmouth", "rightmouth") for axis in "xy"
)
# Mean positions of the landmarks in the bounding box of a face, as shares of its sides.
LANDMARKS_IN_BOX = np.array([(0.31, 0.45), (0.69, 0.45), (0.5, 0.62), (0.35, 0.78), (0.65, 0.78)])
ALIGNED_SIZE = (178, 218)


class Face(NamedTuple):
    """Attributes, split, person and landmarks (5, 2) of an image, from the tables."""

    attributes: tuple[int, ...]
    split: SplitName | None
    group: str
    landmarks: np.ndarray | None


@datasets.register("celeba")
class CelebA(FileDataset):
    """CelebA, or CelebAMask-HQ.

    Attributes:
        images: "aligned" (178 x 218), "wild", or "hq" for CelebAMask-HQ.
        attributes: names of the attributes that are classes, in this order; None for all 40.
    """

    title: ClassVar[str] = "CelebA"

    images: Literal["aligned", "wild", "hq"] = "aligned"
    attributes: tuple[str, ...] | None = None

    def index(self) -> Index:
        """List all images with a row in the table of attributes.

        Raises:
            InterpError: a file is missing or is not a table, or an attribute is not one of its columns.
        """
        findings: list[Finding] = []
        root = require_folder(self.root, "CelebA's files")
        names, description = FOLDERS[self.images]
        folder = require_path(root, [f"{home}{name}" for name in names for home in HOMES], f"{description} {PAGE}")
        table = _read_attributes(root, self.images, findings)
        classes = self._select_classes([name for name in table.columns if name != "file"])
        faces = _read_faces(root, self.images, table, classes, findings)
        records = list(self._records(folder, classes, faces, findings))
        return Index(classes, complete_splits(records, self.seed), multi_label=True, findings=tuple(findings))

    def describe_layout(self) -> str:
        """Return a few words on the layout of the folder."""
        return {"aligned": "aligned faces", "wild": "faces in the wild", "hq": "CelebAMask-HQ"}[self.images]

    def _select_classes(self, columns: list[str]) -> tuple[str, ...]:
        spellings = {name.lower(): name for name in FACE_PARTS}
        names = {name.lower(): spellings.get(name.lower(), name) for name in columns}
        for name in self.attributes or ():
            if name.lower() not in names:
                raise UnknownNameError("attribute", name, names.values())
        return self.attributes or tuple(names.values())

    def _records(
        self, folder: Path, classes: tuple[str, ...], faces: dict[str, Face], findings: list[Finding]
    ) -> Iterator[SplitRecord]:
        part_masks = _PartMasks(self.root) if self.images == "hq" else None
        size = ALIGNED_SIZE if self.images == "aligned" else None
        faces_left = dict(faces)
        for path in walk_images(folder, findings):
            face = faces_left.pop(path.stem, None)
            if face is None:
                what = "no row in the table of attributes: left out"
                findings.append(Finding("image without label", path.name, what))
                continue
            masks = () if part_masks is None else part_masks.of(path.stem, classes, face.attributes)
            boxes = _boxes(face, classes, size)
            record = Record(f"{self.name}/{path.stem}", path, face.attributes, boxes, masks, face.group)
            yield SplitRecord(record, face.split)
        for stem in faces_left:
            findings.append(Finding("label without image", stem, f"no such file in {folder.name}/"))


def _read_attributes(root: Path, kind: str, findings: list[Finding]) -> pd.DataFrame:
    """Read the table of file names and attributes."""
    names, description = ATTRIBUTES["hq" if kind == "hq" else ""]
    path = require_path(root, [home + name for name in names for home in HOMES], description)
    return _read_any_table(path, (), description, findings)


def _read_any_table(path: Path, columns: tuple[str, ...], description: str, findings: list[Finding]) -> pd.DataFrame:
    """Read a table in the format of CelebA, or a CSV file of its copies; the first column becomes "file"."""
    if path.suffix == ".csv":
        table = read_table(path, (), description, findings)
    else:
        table = read_celeba_table(path, columns, description, findings)
    if len(table.columns) < 2:
        raise TableError(f"{path} ({description}) has no columns beside {', '.join(table.columns)}")
    return table.rename(columns={table.columns[0]: "file"})


def _read_optional(root: Path, stem: str, columns: tuple[str, ...], findings: list[Finding]) -> dict[str, list[str]]:
    """Read the values of a table by the stems of the images; a missing table gives a finding and no values."""
    path = first_existing(root, [f"{home}{stem}{suffix}" for suffix in (".txt", ".csv") for home in HOMES])
    if path is None:
        findings.append(Finding("missing file", f"{stem}.txt", f"offered {PAGE}; used without it"))
        return {}
    table = _read_any_table(path, columns, f"{stem}.txt {PAGE}", findings)
    if len(table.columns) - 1 < len(columns):
        raise TableError(f"{path} has {len(table.columns)} columns but needs {len(columns) + 1}: {', '.join(columns)}")
    rows = table.iloc[:, : len(columns) + 1].to_numpy().tolist()
    return {_stem(name): values for name, *values in rows}


def _read_faces(
    root: Path, kind: str, table: pd.DataFrame, classes: tuple[str, ...], findings: list[Finding]
) -> dict[str, Face]:
    """Combine the tables, by the stems of the images."""
    columns = {name.lower(): name for name in table.columns}
    values = to_numbers(table, [columns[name.lower()] for name in classes])
    has_bad_value: list[bool] = np.any(~np.isin(values, (-1, 0, 1)), axis=1).tolist()
    stems = [_stem(name) for name in table["file"]]
    sources = _read_sources(root, findings) if kind == "hq" else {}
    partition = _read_optional(root, "list_eval_partition", ("partition",), findings)
    people = _read_optional(root, "identity_CelebA", ("identity",), []) if not partition else {}
    landmarks = _read_landmarks(root, kind, findings)
    faces: dict[str, Face] = {}
    for row, stem, has_attribute, is_bad in zip(table.index, stems, values > 0, has_bad_value, strict=True):
        if is_bad or stem in faces:
            what = "a value is neither 1 nor -1" if is_bad else "a second row of its image"
            findings.append(Finding("bad label", f"attributes, row {row}", f"{what}: row left out"))
            continue
        source = sources.get(stem, stem)
        split = _split(partition, source, findings)
        attributes = tuple(np.flatnonzero(has_attribute).tolist())
        faces[stem] = Face(attributes, split, people.get(source, [""])[0], landmarks.get(stem))
    return faces


def _split(partition: dict[str, list[str]], stem: str, findings: list[Finding]) -> SplitName | None:
    number = partition.get(stem, [""])[0]
    if number in ("0", "1", "2"):
        return SPLITS[int(number)]
    if partition:
        findings.append(Finding("bad split", stem, f"list_eval_partition says {number[:20]!r}: goes to train"))
        return "train"
    return None


def _read_landmarks(root: Path, kind: str, findings: list[Finding]) -> dict[str, np.ndarray]:
    """Read landmarks (5, 2) by image, or estimate them from bounding boxes if there are none."""
    if kind == "hq":
        return {}
    rows = _read_optional(root, LANDMARKS[kind], LANDMARK_COLUMNS, findings)
    landmarks = dict(zip(rows, _to_array(rows, 10).reshape(-1, 5, 2), strict=True))
    if kind == "wild" and not landmarks:
        boxes = _read_optional(root, "list_bbox_celeba", ("x_1", "y_1", "width", "height"), findings)
        corner, side = np.split(_to_array(boxes, 4)[:, None], 2, axis=-1)
        return dict(zip(boxes, corner + side * LANDMARKS_IN_BOX, strict=True))
    for stem in [stem for stem, points in landmarks.items() if not np.isfinite(points).all()]:
        findings.append(Finding("landmarks", stem, "not all are numbers: no regions"))
    return landmarks


def _to_array(rows: dict[str, list[str]], columns: int) -> np.ndarray:
    if not rows:
        return np.empty((0, columns))
    return to_numbers(pd.DataFrame(list(rows.values())), list(range(columns)))  # type: ignore[arg-type]


def _read_sources(root: Path, findings: list[Finding]) -> dict[str, str]:
    """Read the stem of the CelebA image that each image of CelebAMask-HQ was made from."""
    path = first_existing(root, [f"{home}CelebA-HQ-to-CelebA-mapping.txt" for home in HOMES])
    if path is None:
        findings.append(Finding("missing file", "CelebA-HQ-to-CelebA-mapping.txt", "splits are made by the seed"))
        return {}
    # Its header has three names, without a row count above: idx orig_idx orig_file.
    table = read_celeba_table(path, ("orig_idx", "orig_file"), path.name, findings)
    return {_stem(name): _stem(source) for name, source in zip(table["file"], table["orig_file"], strict=True)}


def _boxes(face: Face, classes: tuple[str, ...], size: tuple[int, int] | None) -> tuple[Box, ...]:
    """Return the boxes of the places of all attributes of an image."""
    boxes = {} if face.landmarks is None else face_boxes(face.landmarks.ravel().tolist(), size)
    places = [(target, place) for target in face.attributes for place in _places(classes[target])]
    return tuple(Box(*corners, target=target) for target, place in places for corners in boxes.get(place, ()))


def _places(attribute: str) -> tuple[str, ...]:
    return FACE_PARTS[attribute].places if attribute in FACE_PARTS else ()


class _PartMasks:
    """Masks of CelebAMask-HQ by image and part."""

    def __init__(self, root: Path) -> None:
        folder = first_existing(root, [f"{home}CelebAMask-HQ-mask-anno" for home in HOMES])
        self._paths = {path.stem: path for path in walk_files(folder, frozenset({".png"}))} if folder else {}

    def of(self, stem: str, classes: tuple[str, ...], attributes: tuple[int, ...]) -> tuple[MaskFile, ...]:
        """Return the masks of the attributes of an image, for attributes with exact parts."""
        masks = []
        for target in attributes:
            face_part = FACE_PARTS.get(classes[target])
            if face_part is not None and has_exact_parts(face_part):
                paths = [self._paths.get(f"{stem.zfill(5)}_{part}") for part in face_part.parts]
                masks += [MaskFile(path, None, target) for path in paths if path is not None]
        return tuple(masks)


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name
