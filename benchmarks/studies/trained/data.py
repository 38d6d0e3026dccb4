"""Images, labels and facts for the diagnoses of trained networks.

Radiographs are labelled normal or pneumonia whatever their source; the source, the view and the size of the original
file are metadata. Only radiographs from journals have boxes of the lungs, which stand for the object there. Faces are
labelled by one attribute, and others are metadata. Soft collar masks, cut at half, only judge.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd

from interp_core.datasets import FileImageSet
from interp_core.datasets.files.image_set import Item, Preprocessing, try_item
from interp_core.datasets.files.pixels import MOST_PIXELS
from interp_core.datasets.files.workers import Loader
from interp_core.datasets.records import Box, MaskFile, Record
from interp_core.errors import ContractError

SOURCES = {"kermany": "kermany", "nih_covid_muhammedtalo": "nih", "ieee8023_lungbox": "journals"}
NORMAL = ("NORMAL", "No finding")
PNEUMONIA = ("PNEUMONIA bacteria", "PNEUMONIA virus", "Pneumonia", "COVID-19")
WINDOW = 64
YES = 1
ATTRIBUTES = ("Blond_Hair", "Wearing_Necktie", "Heavy_Makeup", "Wearing_Lipstick", "Eyeglasses", "Bangs", "Wearing_Hat",
              "Mouth_Slightly_Open", "High_Cheekbones", "Young", "Male", "Smiling")  # fmt: skip


@dataclass(frozen=True)
class Labelled:
    """Images with what is known of them.

    Attributes:
        images: read when they are used.
        table: (N rows) columns file, label, group and facts, in the order of the images.
        facts: names of the columns that are given to the diagnosis as metadata.
    """

    images: FileImageSet
    table: pd.DataFrame
    facts: tuple[str, ...]

    @property
    def metadata(self) -> dict[str, np.ndarray]:
        """Facts by name, (N,)."""
        return {name: self.table[name].to_numpy() for name in self.facts}


def load_radiographs(root: Path, size: int, most: int, sources: tuple[str, ...] = ("kermany",)) -> Labelled:
    """Read at most `most` radiographs of each source and label, squashed to a square.

    Raises:
        ContractError: the folder has no index.csv, or no such images.
    """
    table = _read_index(root)
    table["source"] = table["source"].map(SOURCES)
    journal = (table["label"] == "COVID-19") & (table["source"] == "nih")  # collected from the same journals
    table.loc[journal, "source"] = "journals"
    is_pneumonia = table["label"].isin(PNEUMONIA)
    table = table[(is_pneumonia | table["label"].isin(NORMAL)) & table["source"].isin(sources)]
    table = table.assign(label=is_pneumonia[table.index].astype(int), view=table["view"].fillna("unknown"))
    table["group"] = table["source"] + ", " + table["label"].map({0: "normal", 1: "pneumonia"})
    table = _sample(table, "group", most)
    boxes = {str(file): _boxes(rows) for file, rows in pd.read_csv(root / "lung_boxes.csv").groupby("file")}
    facts = ("source", "view", "original_width", "original_height", "original_mode")
    return _collect(root, table, size, facts, boxes=boxes)


def load_faces(root: Path, size: int, attribute: str, most: int) -> Labelled:
    """Read at most `most` faces of the random sample, labelled by an attribute, squashed to a square.

    Raises:
        ContractError: the folder has no index.csv, or no such images.
    """
    table = _read_index(root)
    table = table[table["random_sample"] == YES]
    label = (table[attribute] == YES).astype(int)
    hair = (table["Blond_Hair"] == YES).map({True: "blond", False: "not blond"})
    sex = (table["Male"] == YES).map({True: "male", False: "not male"})
    table = table.assign(label=label, group=hair + ", " + sex)
    blond_men = table["group"] == "blond, male"  # all of them, as they are few
    table = pd.concat([table[blond_men], _sample(table[~blond_men], None, most - int(blond_men.sum()))]).sort_index()
    return _collect(root, table, size, tuple(name for name in ATTRIBUTES if name != attribute))


def load_collars(root: Path, size: int) -> tuple[FileImageSet, np.ndarray]:
    """Return the faces that have a collar mask, and the masks (N, 1, size, size) bool.

    Raises:
        ContractError: the folder has no index.csv, or no such images.
    """
    table = _read_index(root)
    table = table[table["collar_mask"].notna()].assign(label=0)
    pairs = zip(table["file"].astype(str), table["collar_mask"].astype(str), strict=True)
    masks = {file: MaskFile(root / mask, tuple(range(128, 256))) for file, mask in pairs}
    images = _collect(root, table, size, (), masks=masks).images
    return images, images.take(np.arange(len(images))).masks


def _read_index(root: Path) -> pd.DataFrame:
    path = root / "index.csv"
    if not path.is_file():
        raise ContractError(f"{path} does not exist: give the folder of the images and their index.csv")
    return pd.read_csv(path)


def _sample(table: pd.DataFrame, group: str | None, most: int) -> pd.DataFrame:
    """Return at most `most` rows, of each group where one is named, in the order of the table."""
    order = table.sample(frac=1, random_state=0)
    chosen = order.head(most) if group is None else order.groupby(group).head(most)
    return chosen.sort_index()


def _boxes(rows: pd.DataFrame) -> tuple[Box, ...]:
    corners: list[list[float]] = rows[["xmin", "ymin", "xmax", "ymax"]].to_numpy(np.float64).tolist()
    return tuple(Box(x0, y0, x1, y1) for x0, y0, x1, y1 in corners)


def _collect(
    root: Path,
    table: pd.DataFrame,
    size: int,
    facts: tuple[str, ...],
    boxes: Mapping[str, tuple[Box, ...]] | None = None,
    masks: Mapping[str, MaskFile] | None = None,
) -> Labelled:
    if table.empty:
        raise ContractError(f"{root} has none of the images that the study needs")
    items = []
    for file in table["file"]:
        mask = (masks or {}).get(file)
        record = Record(file, root / file, (0,), (boxes or {}).get(file, ()), () if mask is None else (mask,))
        items.append(Item(file, file, record, None))
    preprocessing = Preprocessing(size, "squash", 1.0, "bilinear", True, MOST_PIXELS)
    loader = Loader(partial(try_item, preprocessing=preprocessing), 0, "threads", WINDOW)
    images = FileImageSet(items, table["label"].to_numpy(np.int64), size, loader)
    return Labelled(images, table.reset_index(drop=True), facts)
