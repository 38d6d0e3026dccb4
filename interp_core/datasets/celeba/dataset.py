"""CelebA as its owners ship it: aligned or in-the-wild faces, 40 attributes; also CelebAMask-HQ's faces and masks.

Source: Liu et al. 2015, mmlab.ie.cuhk.edu.hk/projects/CelebA.html; the CSV files of its copies at Kaggle serve as well.
An image may have any number of attributes. The evidence for one is where on a face it is seen (`faces.py`): boxes from
landmarks, or for CelebAMask-HQ the masks of the parts that show it. `data check` and docs/data.md say which is which.
Known limits: landmarks of CelebAMask-HQ's own crops do not exist, so there an attribute without an exact part has no
region; bounding boxes (`list_bbox_celeba.txt`) only stand in for landmarks of in-the-wild faces that have none.
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
# Where landmarks lie in a face's bounding box, as shares of its sides: the mean of CelebA's own.
IN_BOX = np.array([(0.31, 0.45), (0.69, 0.45), (0.5, 0.62), (0.35, 0.78), (0.65, 0.78)])
ALIGNED = (178, 218)


class Face(NamedTuple):
    """What tables say of one image."""

    attributes: tuple[int, ...]
    split: SplitName | None
    group: str
    points: np.ndarray | None


@datasets.register("celeba")
class CelebA(FileDataset):
    """Faces and their attributes; see the head of this file.

    Attributes:
        images: "aligned" (178 x 218), "wild", or "hq" for CelebAMask-HQ.
        attributes: names of those that are classes, in this order; None for all 40.
    """

    title: ClassVar[str] = "CelebA"

    images: Literal["aligned", "wild", "hq"] = "aligned"
    attributes: tuple[str, ...] | None = None

    def index(self) -> Index:
        """All images with a row in the table of attributes.

        Raises:
            InterpError: a file is missing, is no table, or an attribute is none of its columns.
        """
        findings: list[Finding] = []
        root = require_folder(self.root, "CelebA's files")
        names, called = FOLDERS[self.images]
        folder = require_path(root, [f"{home}{name}" for name in names for home in HOMES], f"{called} {PAGE}")
        table = _attributes(root, self.images, findings)
        classes = self._chosen([name for name in table.columns if name != "file"])
        labelled = list(self._labelled(folder, classes, _faces(root, self.images, table, classes, findings), findings))
        return Index(classes, complete_splits(labelled, self.seed), multi_label=True, findings=tuple(findings))

    def describe_layout(self) -> str:
        """Which of CelebA's sets is read, in words."""
        return {"aligned": "aligned faces", "wild": "faces in the wild", "hq": "CelebAMask-HQ"}[self.images]

    def _chosen(self, known: list[str]) -> tuple[str, ...]:
        own = {name.lower(): name for name in FACE_PARTS}
        names = {name.lower(): own.get(name.lower(), name) for name in known}
        for name in self.attributes or ():
            if name.lower() not in names:
                raise UnknownNameError("attribute", name, names.values())
        return self.attributes or tuple(names.values())

    def _labelled(
        self, folder: Path, classes: tuple[str, ...], faces: dict[str, Face], findings: list[Finding]
    ) -> Iterator[SplitRecord]:
        masks = _Masks(self.root) if self.images == "hq" else None
        size = ALIGNED if self.images == "aligned" else None
        left = dict(faces)
        for path in walk_images(folder, findings):
            face = left.pop(path.stem, None)
            if face is None:
                findings.append(
                    Finding("image without label", path.name, "no row in the table of attributes: left out")
                )
                continue
            marked = () if masks is None else masks.of(path.stem, classes, face.attributes)
            record = Record(
                f"{self.name}/{path.stem}", path, face.attributes, _boxes(face, classes, size), marked, face.group
            )
            yield SplitRecord(record, face.split)
        for stem in left:
            findings.append(Finding("label without image", stem, f"no such file in {folder.name}/"))


def _attributes(root: Path, kind: str, findings: list[Finding]) -> pd.DataFrame:
    """File names and attributes."""
    names, called = ATTRIBUTES["hq" if kind == "hq" else ""]
    path = require_path(root, [home + name for name in names for home in HOMES], called)
    return _listed(path, (), called, findings)


def _listed(path: Path, columns: tuple[str, ...], called: str, findings: list[Finding]) -> pd.DataFrame:
    """CelebA's own form, or the CSV of its copies; the first column becomes "file"."""
    own = path.suffix != ".csv"
    table = read_celeba_table(path, columns, called, findings) if own else read_table(path, (), called, findings)
    if len(table.columns) < 2:
        raise TableError(f"{path} ({called}) has no columns beside {', '.join(table.columns)}")
    return table.rename(columns={table.columns[0]: "file"})


def _optional(root: Path, stem: str, columns: tuple[str, ...], findings: list[Finding]) -> dict[str, list[str]]:
    """Values of a table by the images' stems; nothing, and said, where it is not there."""
    path = first_existing(root, [f"{home}{stem}{ending}" for ending in (".txt", ".csv") for home in HOMES])
    if path is None:
        findings.append(Finding("missing file", f"{stem}.txt", f"offered {PAGE}; done without"))
        return {}
    table = _listed(path, columns, f"{stem}.txt {PAGE}", findings)
    if len(table.columns) - 1 < len(columns):
        raise TableError(
            f"{path} has {len(table.columns)} columns, {len(columns) + 1} are wanted: {', '.join(columns)}"
        )
    rows = table.iloc[:, : len(columns) + 1].to_numpy().tolist()
    return {_stem(name): values for name, *values in rows}


def _faces(
    root: Path, kind: str, table: pd.DataFrame, classes: tuple[str, ...], findings: list[Finding]
) -> dict[str, Face]:
    """All that tables say, by the images' stems."""
    columns = {name.lower(): name for name in table.columns}
    values = to_numbers(table, [columns[name.lower()] for name in classes])
    bad: list[bool] = np.any(~np.isin(values, (-1, 0, 1)), axis=1).tolist()
    stems = [_stem(name) for name in table["file"]]
    source = _sources(root, findings) if kind == "hq" else {}
    partition = _optional(root, "list_eval_partition", ("partition",), findings)
    people = _optional(root, "identity_CelebA", ("identity",), []) if not partition else {}
    points = _points(root, kind, findings)
    found: dict[str, Face] = {}
    for row, stem, shown, wrong in zip(table.index, stems, values > 0, bad, strict=True):
        if wrong or stem in found:
            what = "a value is neither 1 nor -1" if wrong else "a second row of its image"
            findings.append(Finding("bad label", f"attributes, row {row}", f"{what}: row left out"))
            continue
        origin = source.get(stem, stem)
        split = _split(partition, origin, findings)
        attributes = tuple(np.flatnonzero(shown).tolist())
        found[stem] = Face(attributes, split, people.get(origin, [""])[0], points.get(stem))
    return found


def _split(partition: dict[str, list[str]], stem: str, findings: list[Finding]) -> SplitName | None:
    number = partition.get(stem, [""])[0]
    if number in ("0", "1", "2"):
        return SPLITS[int(number)]
    if partition:
        findings.append(Finding("bad split", stem, f"list_eval_partition says {number[:20]!r}: goes to train"))
        return "train"
    return None


def _points(root: Path, kind: str, findings: list[Finding]) -> dict[str, np.ndarray]:
    """Landmarks (5, 2) by image; from bounding boxes where there are none."""
    if kind == "hq":
        return {}
    rows = _optional(root, LANDMARKS[kind], LANDMARK_COLUMNS, findings)
    found = dict(zip(rows, _numbers(rows, 10).reshape(-1, 5, 2), strict=True))
    if kind == "wild" and not found:
        boxes = _optional(root, "list_bbox_celeba", ("x_1", "y_1", "width", "height"), findings)
        corner, side = np.split(_numbers(boxes, 4)[:, None], 2, axis=-1)
        return dict(zip(boxes, corner + side * IN_BOX, strict=True))
    for stem in [stem for stem, points in found.items() if not np.isfinite(points).all()]:
        findings.append(Finding("landmarks", stem, "not all are numbers: no regions"))
    return found


def _numbers(rows: dict[str, list[str]], columns: int) -> np.ndarray:
    if not rows:
        return np.empty((0, columns))
    return to_numbers(pd.DataFrame(list(rows.values())), list(range(columns)))  # type: ignore[arg-type]


def _sources(root: Path, findings: list[Finding]) -> dict[str, str]:
    """Stem of the CelebA image that each of CelebAMask-HQ comes from."""
    path = first_existing(root, [f"{home}CelebA-HQ-to-CelebA-mapping.txt" for home in HOMES])
    if path is None:
        findings.append(Finding("missing file", "CelebA-HQ-to-CelebA-mapping.txt", "splits are made by the seed"))
        return {}
    # A header of three words without a count above it: idx orig_idx orig_file.
    table = read_celeba_table(path, ("orig_idx", "orig_file"), path.name, findings)
    return {_stem(name): _stem(origin) for name, origin in zip(table["file"], table["orig_file"], strict=True)}


def _boxes(face: Face, classes: tuple[str, ...], size: tuple[int, int] | None) -> tuple[Box, ...]:
    """Regions of the attributes an image has."""
    known = {} if face.points is None else face_boxes(face.points.ravel().tolist(), size)
    wanted = [(target, place) for target in face.attributes for place in _region_places(classes[target])]
    return tuple(Box(*corners, target=target) for target, place in wanted for corners in known.get(place, ()))


def _region_places(attribute: str) -> tuple[str, ...]:
    return FACE_PARTS[attribute].places if attribute in FACE_PARTS else ()


class _Masks:
    """Part masks of CelebAMask-HQ, found by image and part."""

    def __init__(self, root: Path) -> None:
        folder = first_existing(root, [f"{home}CelebAMask-HQ-mask-anno" for home in HOMES])
        self._paths = {path.stem: path for path in walk_files(folder, frozenset({".png"}))} if folder else {}

    def of(self, stem: str, classes: tuple[str, ...], attributes: tuple[int, ...]) -> tuple[MaskFile, ...]:
        """Masks of the parts that show an image's attributes, of those that have parts of their own."""
        found = []
        for target in attributes:
            region = FACE_PARTS.get(classes[target])
            if region is not None and has_exact_parts(region):
                paths = [self._paths.get(f"{stem.zfill(5)}_{part}") for part in region.parts]
                found += [MaskFile(path, None, target) for path in paths if path is not None]
        return tuple(found)


def _stem(name: str) -> str:
    return name.rpartition(".")[0] or name
