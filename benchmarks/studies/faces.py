"""`python -m benchmarks.studies.faces`: Region taught by landmarks, from CelebA's own files to LAP's maps.

Five landmarks a face say where each attribute is seen (`interp_core.datasets.celeba.face_regions`); these boxes
become one region an
attribute, and one term each asks that the attribute's evidence lie there. Two networks are trained alike, with and
without these terms, and the share of evidence in the attribute's region is measured on training and on other faces.

Limit: on the 32 faces it was run on, this shows that the parts fit each other and nothing about faces. The figure
shows maps and boxes without the faces, which are not ours to give away.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from matplotlib.figure import Figure
from torch import Tensor

from benchmarks.report.figures.style import render, styled
from benchmarks.run.malloc import keep_freed_memory
from benchmarks.store import provenance
from benchmarks.store.atomic import write_atomically
from benchmarks.store.provenance import git_state, system, versions
from benchmarks.studies.xray.__main__ import NET
from interp_core.backbone.timm_models import create_backbone
from interp_core.datasets import DatasetConfig, datasets
from interp_core.datasets.records import SplitName
from interp_core.knowledge import Region, Term
from interp_core.lap.attach import LapModel, attach
from interp_core.training import DEFAULT_TERMS, Recipe, fit
from interp_core.training.data import Regions

# Map (H, W) and region (H, W) by arm and attribute.
Shown = dict[tuple[str, str], tuple[np.ndarray, np.ndarray]]

OUTPUT = Path("results/method")
ATTRIBUTES = ("Arched_Eyebrows", "Pointy_Nose", "Smiling", "Wearing_Lipstick")
RECIPE = Recipe(epochs=60, batch_size=8, learning_rate=3e-3, shift=3)


def regions_of(dataset: DatasetConfig, split: SplitName) -> dict[str, tuple[Tensor, Tensor]]:
    """For each class the images (n,) of a split that show it and where, (n, 1, H, W) bool, as `fit` takes them.

    Args:
        dataset: whose images may show several classes; classes without evidence anywhere are left out.
        split: whose images.
    """
    whole, pairs = dataset.load(split), dataset.load_explained(split)
    place = {name: row for row, name in enumerate(whole.ids)}
    part = pairs.take(np.arange(len(pairs)))
    found: dict[str, tuple[Tensor, Tensor]] = {}
    for k, name in enumerate(dataset.classes):
        rows = np.flatnonzero((part.targets == k) & part.masks.any((1, 2, 3)))
        if len(rows):
            images = [place[part.ids[row].rpartition("/")[0]] for row in rows]
            found[name] = torch.tensor(images), torch.from_numpy(part.masks[rows])
    return found


def terms_of(regions: Regions, weight: float = 1.0) -> tuple[Term, ...]:
    """One term a class: its evidence, as the map shows it, lies in the region of its name."""
    return tuple(Region(of=name, region=name, weight=weight, evidence="map") for name in regions)


def trained(
    images: Tensor, targets: Tensor, names: Sequence[str], regions: Regions, recipe: Recipe, *, told: bool
) -> LapModel:
    """A LAP network of images (N, 3, H, W) and targets (N, K), told of the regions or not."""
    torch.manual_seed(recipe.seed)
    lap = attach(create_backbone("test_resnet", **NET | {"num_classes": len(names)}), image_size=images.shape[-1])
    terms = (*DEFAULT_TERMS, *(terms_of(regions) if told else ()))
    fit(lap, images, targets, recipe=recipe, terms=terms, regions=regions if told else None, names=names)
    return lap


def shares(lap: LapModel, images: Tensor, names: Sequence[str], regions: Regions) -> pd.DataFrame:
    """Share of each map inside the region of its class, a line a pair of image and class; 0 for an empty map."""
    rows = []
    for name, (indices, masks) in regions.items():
        maps = lap.explain(images[indices], list(names).index(name)).map
        total, area = maps.sum((1, 2, 3)), masks.float().mean((1, 2, 3))
        inside = (maps * masks).sum((1, 2, 3)) / total.clamp(min=torch.finfo(total.dtype).tiny)
        values = zip(indices.tolist(), inside.tolist(), area.tolist(), (total == 0).tolist(), strict=True)
        rows += [(name, *each) for each in values]
    return pd.DataFrame(rows, columns=["attribute", "image", "inside", "area", "empty"])


def study(root: Path, size: int, recipe: Recipe, attributes: Sequence[str]) -> tuple[pd.DataFrame, Shown]:
    """Shares inside by arm, part and attribute; and maps of the first other face that shows each attribute.

    Args:
        root: CelebA's folder.
        size: side of the images in pixels.
        recipe: how to train.
        attributes: the classes.
    """
    dataset = datasets["celeba"](root=root, image_size=size, attributes=tuple(attributes), resize="pad", workers=0)  # type: ignore[call-arg]
    names = list(dataset.classes)
    given = {part: _images(dataset, part) for part in ("train", "test")}
    mean, std = given["train"][0].mean((0, 2, 3), keepdim=True), given["train"][0].std((0, 2, 3), keepdim=True)
    scaled = {part: ((images - mean) / std, targets) for part, (images, targets) in given.items()}
    regions = {part: regions_of(dataset, part) for part in ("train", "test")}  # type: ignore[arg-type]
    tables = []
    shown: Shown = {}
    for arm, told in (("labels", False), ("labels and landmarks", True)):
        lap = trained(*scaled["train"], names, regions["train"], recipe, told=told)
        for part, (images, _) in scaled.items():
            tables.append(shares(lap, images, names, regions[part]).assign(arm=arm, part=part))
        for name, (indices, masks) in regions["test"].items():
            maps = lap.explain(scaled["test"][0][indices[:1]], names.index(name)).map
            shown[arm, name] = maps[0, 0].numpy(), masks[0, 0].numpy()
    return pd.concat(tables, ignore_index=True), shown


def _images(dataset: DatasetConfig, part: SplitName) -> tuple[Tensor, Tensor]:
    split = dataset.load(part)
    found = split.take(np.arange(len(split)))
    return torch.from_numpy(found.images).float() / 255, torch.from_numpy(found.targets)


@styled
def figure(shown: Shown) -> Figure:
    """Maps with the landmarks' boxes, a row an arm, a column an attribute."""
    arms, names = (list(dict.fromkeys(key[i] for key in shown)) for i in (0, 1))
    made = Figure(figsize=(1.5 * len(names), 1.55 * len(arms) + 0.3), layout="constrained")
    grid = made.subplots(len(arms), len(names), squeeze=False)
    for row, arm in zip(grid, arms, strict=True):
        for axes, name in zip(row, names, strict=True):
            values, mask = shown[arm, name]
            axes.imshow(values, cmap="viridis", vmin=0, vmax=max(float(np.quantile(values, 0.99)), 1e-12))
            axes.contour(mask, levels=[0.5], colors="white", linewidths=1.0)
            axes.set(xticks=[], yticks=[])
        row[0].set_ylabel(arm, fontsize=7)
    for axes, name in zip(grid[0], names, strict=True):
        axes.set_title(name.replace("_", " "), fontsize=7)
    return made


def page(table: pd.DataFrame) -> str:
    """Markdown of the mean shares."""
    wide = table.pivot_table("inside", ["arm", "part"], "attribute", sort=False)
    areas = table.drop_duplicates(["part", "attribute", "image"]).groupby("attribute")["area"].mean()
    counts = table[table["arm"] == table["arm"].iloc[0]].groupby("part")["image"].nunique()
    names = list(wide.columns)
    lines = [f"| trained with | faces | {' | '.join(names)} |", f"|---|---|{'---|' * len(names)}"]
    for where, row in zip(wide.index.to_list(), wide.to_numpy(), strict=True):
        lines.append(f"| {' | '.join(where)} | {' | '.join(f'{value:.3f}' for value in row)} |")
    lines.append(f"| area of the region | | {' | '.join(f'{areas[name]:.3f}' for name in names)} |")
    empty = int(table["empty"].sum())
    text = (
        "# Region by landmarks\n\nShare of LAP's map inside the place where five landmarks say the attribute is seen. "
        f"{counts.get('train', 0)} training faces and {counts.get('test', 0)} others show one of the attributes: this "
        "proves that landmarks, regions, terms and maps fit each other, from CelebA's own files to the picture, and "
        f"nothing about faces. {empty} of {len(table)} maps are empty and count as 0; a black panel is one.\n\n"
    )
    return (
        text
        + "\n".join(lines)
        + "\n\nThe faces with their maps are drawn in faces_maps.png; they are CelebA's and are not published.\n"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.faces", description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="folder as CelebA ships it")
    parser.add_argument("--attributes", type=lambda text: text.split(","), default=list(ATTRIBUTES))
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--epochs", type=int, default=RECIPE.epochs)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args(arguments)
    keep_freed_memory()
    recipe = RECIPE.model_copy(update={"epochs": given.epochs})
    table, shown = study(given.root, given.size, recipe, given.attributes)
    write_atomically(given.output / "faces.csv", table.to_csv(index=False, float_format="%.4g"))
    told = {"recipe": recipe.model_dump(), "size": given.size, "attributes": given.attributes}
    made = {"git": git_state(Path(provenance.__file__)), **versions(), **system()}
    facts = {"command": "python -m benchmarks.studies.faces", **told, **made}
    write_atomically(given.output / "faces.json", json.dumps(facts, indent=1) + "\n")
    write_atomically(given.output / "faces.md", page(table))
    write_atomically(given.output / "faces_maps.png", render(figure(shown), "png"))
    print(page(table))
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
