"""Train LAP with regions from landmarks, from CelebA's own files to LAP's maps.

Command: `interp-bench study faces --root CELEBA`. Five landmarks per face say where each attribute is visible
(`interp_core.datasets.celeba.face_regions`). These boxes become one region per attribute, and one term per attribute
keeps its map in that region. Two networks are trained alike, with and without these terms. The study measures the share
of each map inside the attribute's region, on training faces and on others.

It writes faces.csv, faces.md, faces_maps.png and faces.json into results/method. A stopped study continues from hidden
checkpoints there, which are deleted at the end.

Known limit: on the 32 faces it was run on, it shows that the parts work together and nothing about faces. The figure
shows maps and boxes without the faces, which we may not publish.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.report.figures.style import render, use_style
from benchmarks.store.atomic import write_atomically
from benchmarks.store.markdown import markdown_table
from benchmarks.store.provenance import digest, write_provenance
from benchmarks.studies.xray.study import NET
from interp_core.backbone.timm_models import create_backbone
from interp_core.datasets import DatasetConfig, datasets
from interp_core.datasets.records import SplitName
from interp_core.knowledge import Region, Term
from interp_core.lap.attach import LapModel, attach
from interp_core.training import DEFAULT_TERMS, Bar, Recipe, fit
from interp_core.training.data import Regions

# Map (H, W) and region (H, W) by arm and attribute.
Examples = dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]

COMMAND = "interp-bench study faces"
OUTPUT = Path("results/method")
ATTRIBUTES = ("Arched_Eyebrows", "Pointy_Nose", "Smiling", "Wearing_Lipstick")
RECIPE = Recipe(epochs=60, batch_size=8, learning_rate=3e-3, shift=3)
ARMS = {"labels": False, "labels and landmarks": True}


@dataclass(frozen=True)
class Faces:
    """Images of one split.

    Attributes:
        images: (N, 3, H, W), normalised by the training images.
        targets: (N, K).
        regions: for each attribute its images (n,) and masks (n, 1, H, W).
    """

    images: Tensor
    targets: Tensor
    regions: Regions


def regions_of(dataset: DatasetConfig, split: SplitName) -> dict[str, tuple[Tensor, Tensor]]:
    """Return for each class the images (n,) of a split that show it and masks (n, 1, H, W) bool, as `fit` takes them.

    Args:
        dataset: a multi-label data set; classes without a mask in any image are left out.
        split: whose images.
    """
    images, pairs = dataset.load(split), dataset.load_explained(split)
    index = {name: row for row, name in enumerate(images.ids)}
    explained = pairs.take(np.arange(len(pairs)))
    regions: dict[str, tuple[Tensor, Tensor]] = {}
    for k, name in enumerate(dataset.classes):
        rows = np.flatnonzero((explained.targets == k) & explained.masks.any((1, 2, 3)))
        if len(rows):
            indices = [index[explained.ids[row].rpartition("/")[0]] for row in rows]
            regions[name] = torch.tensor(indices), torch.from_numpy(explained.masks[rows])
    return regions


def terms_of(regions: Regions, weight: float = 1.0) -> tuple[Term, ...]:
    """Build one term per class, which keeps its map in the region of the same name."""
    return tuple(Region(of=name, region=name, weight=weight, evidence="map") for name in regions)


def load_faces(dataset: DatasetConfig) -> dict[str, Faces]:
    """Load the training and test images of a data set."""
    splits: tuple[SplitName, ...] = ("train", "test")
    raw = {split: _images_of(dataset, split) for split in splits}
    train = raw["train"][0]
    mean, std = train.mean((0, 2, 3), keepdim=True), train.std((0, 2, 3), keepdim=True)
    return {
        split: Faces((images - mean) / std, targets, regions_of(dataset, split))
        for split, (images, targets) in raw.items()
    }


def train(
    faces: Faces, names: Sequence[str], recipe: Recipe, *, use_regions: bool, checkpoint: Path | None = None
) -> LapModel:
    """Train a LAP network.

    Args:
        faces: training images.
        names: of the classes.
        recipe: how to train.
        use_regions: whether the terms of the regions are added.
        checkpoint: file that a stopped training continues from.
    """
    torch.manual_seed(recipe.seed)
    backbone = create_backbone("test_resnet", **NET | {"num_classes": len(names)})
    lap = attach(backbone, image_size=faces.images.shape[-1])
    regions = faces.regions if use_regions else None
    terms = (*DEFAULT_TERMS, *terms_of(regions or {}))
    fit(
        lap,
        faces.images,
        faces.targets,
        recipe=recipe,
        terms=terms,
        regions=regions,
        names=names,
        progress=Bar(),
        checkpoint=checkpoint,
    )
    return lap


def measure_shares(lap: LapModel, faces: Faces, names: Sequence[str]) -> pd.DataFrame:
    """Compute the share of each map's positive part inside the region of its class, 0 where it has none.

    Returns:
        One row per pair of image and class.
    """
    rows = []
    for name, (indices, masks) in faces.regions.items():
        maps = lap.explain(faces.images[indices], list(names).index(name)).map.clamp(min=0)
        total, area = maps.sum((1, 2, 3)), masks.float().mean((1, 2, 3))
        inside = (maps * masks).sum((1, 2, 3)) / total.clamp(min=torch.finfo(total.dtype).tiny)
        values = zip(indices.tolist(), inside.tolist(), area.tolist(), (total == 0).tolist(), strict=True)
        rows += [(name, *columns) for columns in values]
    return pd.DataFrame(rows, columns=["attribute", "image", "inside", "area", "empty"])


def compare_arms(
    root: Path, size: int, recipe: Recipe, attributes: Sequence[str], checkpoints: Mapping[str, Path] | None = None
) -> tuple[pd.DataFrame, Examples]:
    """Train both arms and measure them.

    Args:
        root: CelebA's folder.
        size: side of the images in pixels.
        recipe: how to train.
        attributes: the classes.
        checkpoints: file that the stopped training of an arm continues from, by arm.

    Returns:
        Shares inside by arm, part and attribute, and maps of the first test face that shows each attribute.
    """
    dataset = datasets["celeba"](root=root, image_size=size, attributes=tuple(attributes), resize="pad", workers=0)  # type: ignore[call-arg]
    names, faces = list(dataset.classes), load_faces(dataset)
    tables = []
    examples: Examples = {}
    for arm, use_regions in ARMS.items():
        print(f"training with {arm}", flush=True)
        checkpoint = (checkpoints or {}).get(arm)
        lap = train(faces["train"], names, recipe, use_regions=use_regions, checkpoint=checkpoint)
        for split in faces:
            tables.append(measure_shares(lap, faces[split], names).assign(arm=arm, part=split))
        for name, (indices, masks) in faces["test"].regions.items():
            maps = lap.explain(faces["test"].images[indices[:1]], names.index(name)).map.clamp(min=0)
            examples[arm, name] = maps[0, 0].numpy(), masks[0, 0].numpy()
    return pd.concat(tables, ignore_index=True), examples


def _images_of(dataset: DatasetConfig, split: SplitName) -> tuple[Tensor, Tensor]:
    """Return all images (N, 3, H, W) in [0, 1] and targets (N, K) of a split."""
    images = dataset.load(split)
    batch = images.take(np.arange(len(images)))
    return torch.from_numpy(batch.images).float() / 255, torch.from_numpy(batch.targets)


@use_style
def draw_examples(examples: Examples) -> Figure:
    """Draw maps with the landmarks' boxes, one row per arm, one column per attribute."""
    arms, names = (list(dict.fromkeys(key[i] for key in examples)) for i in (0, 1))
    figure = Figure(figsize=(1.5 * len(names), 1.55 * len(arms) + 0.3), layout="constrained")
    grid = figure.subplots(len(arms), len(names), squeeze=False)
    for row, arm in zip(grid, arms, strict=True):
        for axes, name in zip(row, names, strict=True):
            values, mask = examples[arm, name]
            axes.imshow(values, cmap="viridis", vmin=0, vmax=max(float(np.quantile(values, 0.99)), 1e-12))
            axes.contour(mask, levels=[0.5], colors="white", linewidths=1.0)
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(arm, fontsize=7)
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(name.replace("_", " "), fontsize=7)
    return figure


def to_markdown(table: pd.DataFrame) -> str:
    """Format the mean shares with an introduction."""
    shares = table.pivot_table("inside", ["arm", "part"], "attribute", sort=False)
    areas = table.drop_duplicates(["part", "attribute", "image"]).groupby("attribute")["area"].mean()
    faces = table[table["arm"] == table["arm"].iloc[0]].groupby("part")["image"].nunique()
    empty = int(table["empty"].sum())
    cells = shares.map("{:.3f}".format).reset_index()
    cells.loc[len(cells)] = ["area of the region", "", *(f"{areas[str(name)]:.3f}" for name in shares)]
    text = (
        "# Region by landmarks\n\nShare of LAP's map inside the place where five landmarks say the attribute is seen. "
        f"{faces.get('train', 0)} training faces and {faces.get('test', 0)} others show one of the attributes: this "
        "proves that landmarks, regions, terms and maps fit each other, from CelebA's own files to the picture, and "
        f"nothing about faces. {empty} of {len(table)} maps are empty and count as 0; a black panel is one.\n\n"
    )
    return (
        text
        + markdown_table(cells.rename(columns={"arm": "trained with", "part": "faces"}))
        + "\n\nThe faces with their maps are drawn in faces_maps.png; they are CelebA's and are not published.\n"
    )


def run(
    root: Path, attributes: Sequence[str] = ATTRIBUTES, size: int = 64, epochs: int | None = None, output: Path = OUTPUT
) -> list[Path]:
    """Train, measure and write table, page, figure and provenance.

    Args:
        root: CelebA's folder.
        attributes: the classes.
        size: side of the images in pixels.
        epochs: of each training.
        output: folder for the files.
    """
    recipe = RECIPE if epochs is None else RECIPE.model_copy(update={"epochs": epochs})
    settings = {"recipe": recipe.model_dump(), "size": size, "attributes": list(attributes)}
    key = digest(settings, str(root.resolve()))
    checkpoints = {arm: output / f".faces-{key}-{number}.training" for number, arm in enumerate(ARMS)}
    table, examples = compare_arms(root, size, recipe, attributes, checkpoints)
    text = to_markdown(table)
    print(text)
    paths = [
        write_atomically(output / "faces.csv", table.to_csv(index=False, float_format="%.4g")),
        write_provenance(output / "faces.json", settings, command=COMMAND),
        write_atomically(output / "faces.md", text),
        write_atomically(output / "faces_maps.png", render(draw_examples(examples), "png")),
    ]
    for path in checkpoints.values():
        path.unlink(missing_ok=True)
    return paths
