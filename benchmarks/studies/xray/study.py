"""Train small networks on a few hundred chest X-rays and measure where LAP's maps lie.

Command: `interp-bench study xray --root RSNA`. Each arm trains one small network per fold and repetition, so that in
every repetition each image is judged by a network that has seen neither it nor another image of the same person. Arms:

* plain: a plain network;
* lap: LAP with knowledge from labels alone, that opacity is nowhere in healthy lungs and somewhere, over a stated area,
  in ill ones;
* lap_boxes: LAP with the boxes of a few training images as well;
* plain_by_file: a plain network on folds that divide files and not persons, to show what these would have claimed.

It writes medical_*.csv, medical.md, medical_maps.png and medical.json into results/method. A stopped study continues
with the folds that are not in the files. Tables, page and figure come from the stored scores, see
`benchmarks.studies.xray.page`.

Known limit: so few images can show little. The page says how little.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, NamedTuple

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from baselines import Explainer, explainers
from benchmarks.metrics import Batch, metrics
from benchmarks.store.provenance import short_commit, write_provenance
from benchmarks.studies.progress import track
from benchmarks.studies.resumable_table import ResumableTable
from benchmarks.studies.xray import page
from benchmarks.studies.xray.data import Fold, Xrays, divide, load_xrays, sample_boxed
from benchmarks.studies.xray.page import CONTROLS, METRICS
from interp_core.backbone.timm_models import create_backbone
from interp_core.errors import UnknownNameError
from interp_core.knowledge import Absence, Area, Presence, Region, Term
from interp_core.lap.attach import attach
from interp_core.training import MAP_TERMS, Recipe, fit, predict

COMMAND = "interp-bench study xray"
OUTPUT = Path("results/method")
OPACITY, BOXES, FOLDS, SIDE = 1, 10, 5, 64
# Positive images of each fold whose maps are stored for the figure: the first ones, whatever their maps show.
EXAMPLES = 1
KEYS = ("arm", "seed", "fold")
NET: dict[str, Any] = {"layers": [2, 2, 0, 0], "channels": [32, 96, 96, 96], "avg_down": False, "num_classes": 2}
RECIPE = Recipe(epochs=24, batch_size=32, learning_rate=3e-3, shift=6, flip=True, patience=10)
REFINING = Recipe(mode="frozen", epochs=12, batch_size=32, shift=6, flip=True)
LABELS: tuple[Term, ...] = (Presence(of=OPACITY), Absence(of=OPACITY), Area(of=OPACITY))
WITH_BOXES: tuple[Term, ...] = (*LABELS, Region(of=OPACITY, region="object", evidence="map"))
REFINED: tuple[Term, ...] = tuple(term.model_copy(update={"of": OPACITY}) for term in MAP_TERMS)

# LIME's budget is stated for 224 pixels and shrinks with the side. This one is 1000 samples at 64 pixels.
EXTERNAL: dict[str, dict[str, Any]] = {
    "grad_cam": {},
    "integrated_gradients": {"steps": 50},
    "lime": {"samples_at_224": 3500},
    "shap": {"evaluations": 500},
    "occlusion": {},
}


@dataclass(frozen=True)
class XrayArm:
    """One way to train.

    Attributes:
        lap: whether LAP is attached.
        terms: knowledge of LAP networks.
        boxes: number of training images whose boxes are used.
        explained_by: explainers that are scored.
        persons: whether folds divide persons, and not files.
        refined: whether a second stage, on the frozen network, trains a decoder to refine the maps.
    """

    lap: bool = False
    terms: tuple[Term, ...] = ()
    boxes: int = 0
    explained_by: tuple[str, ...] = ()
    persons: bool = True
    refined: bool = False


ARMS: dict[str, XrayArm] = {
    "plain": XrayArm(explained_by=("grad_cam", "integrated_gradients")),
    "lap": XrayArm(lap=True, terms=LABELS, explained_by=("lap", *EXTERNAL, *CONTROLS)),
    "lap_boxes": XrayArm(lap=True, terms=WITH_BOXES, boxes=BOXES, explained_by=("lap", "grad_cam")),
    "plain_by_file": XrayArm(persons=False),
    "lap_refined": XrayArm(lap=True, terms=LABELS, explained_by=("lap_refined",), refined=True),
}
DEFAULT_ARMS = ("plain", "lap", "lap_boxes", "plain_by_file")


class Unit(NamedTuple):
    """One training of the study."""

    arm: str
    seed: int
    fold: int
    images: Fold

    @property
    def keys(self) -> tuple[str, int, int]:
        """Values of the columns `KEYS`."""
        return self.arm, self.seed, self.fold

    @property
    def columns(self) -> dict[str, Any]:
        """Columns `KEYS` with their values."""
        return dict(zip(KEYS, self.keys, strict=True))


class Outcome(NamedTuple):
    """Results of one training.

    Attributes:
        training: row of the training.
        answers: scores of the judged images.
        maps: scores of the maps of positive images.
        examples: maps of the first of these by explainer, with "masks" and "rows".
    """

    training: dict[str, Any]
    answers: pd.DataFrame
    maps: pd.DataFrame
    examples: dict[str, np.ndarray]


def train(arm: XrayArm, images: Tensor, xrays: Xrays, fold: Fold, seed: int, recipe: Recipe) -> tuple[nn.Module, int]:
    """Train the network of an arm; return it in evaluation mode with the number of epochs.

    Args:
        arm: the way to train.
        images: (N, 3, H, W) of all X-rays, normalised; only training and validation images of the fold are used.
        xrays: targets and boxes.
        fold: division of the images.
        seed: of weights, of the order of images and of the images whose boxes are used.
        recipe: epochs and rates.
    """
    torch.manual_seed(seed)
    network: nn.Module = create_backbone("test_resnet", **NET)
    if arm.lap:
        network = attach(network, image_size=images.shape[-1], refine=arm.refined)
    boxed = sample_boxed(xrays, fold.train, arm.boxes, seed)
    regions = {"object": (torch.from_numpy(boxed), xrays.masks[fold.train[boxed]])} if arm.boxes else None
    training, validation = ((images[rows], xrays.targets[rows]) for rows in (fold.train, fold.val))
    recipe = recipe.model_copy(update={"seed": seed})
    history = fit(
        network, *training, recipe=recipe, terms=arm.terms, regions=regions, validation=validation, progress=None
    )
    if arm.refined:
        fit(network, *training, recipe=REFINING.model_copy(update={"seed": seed}), terms=REFINED, progress=None)
    return network.eval(), len(history)


def explain(name: str, network: nn.Module, images: Tensor, masks: Tensor, prior: Tensor, seed: int) -> Tensor:
    """Compute maps (n, 1, H, W) of Lung Opacity.

    Args:
        name: of an explainer, or "box_prior" for the mean of the training boxes, the same for all images.
        network: in evaluation mode.
        images: (n, 3, H, W), normalised.
        masks: (n, 1, H, W) bool, for the control that is the mask.
        prior: (1, H, W) mean of the boxes of training images.
        seed: of random explainers.
    """
    if name == "box_prior":
        return prior.expand(len(images), 1, *prior.shape[-2:]).clone()
    explainer: Explainer = explainers[name](**EXTERNAL.get(name, {}))
    targets = torch.full((len(images),), OPACITY)
    return explainer(network, images, targets, masks=masks, seed=seed)


def score_maps(maps: Tensor, images: Tensor, masks: Tensor, seed: int) -> dict[str, np.ndarray]:
    """Compute localisation scores (n,) of maps (n, 1, H, W), by name of the metric."""
    targets = np.full(len(maps), OPACITY)
    batch = Batch(None, images.numpy(), targets, maps.numpy(), masks.numpy(), seed=seed)
    return {name: metrics[name]()(batch)[name] for name in METRICS}


def train_and_score(unit: Unit, xrays: Xrays, split: str, recipe: Recipe) -> Outcome:
    """Train one arm on one fold and score its answers and maps.

    Args:
        unit: arm, seed and fold.
        xrays: all images.
        split: "test" or "val", the images to judge.
        recipe: epochs and rates.
    """
    arm, fold, seed = ARMS[unit.arm], unit.images, unit.seed
    rows = getattr(fold, split)
    train_pixels = xrays.images[fold.train]
    images = (xrays.images - train_pixels.mean()) / train_pixels.std()
    begin = time.perf_counter()
    network, epochs = train(arm, images, xrays, fold, seed, recipe)
    seconds = round(time.perf_counter() - begin, 2)
    counts = {"train": len(fold.train), "val": len(fold.val), "judged": len(rows)}
    training: dict[str, Any] = {**unit.columns, **counts, "epochs": epochs, "train_seconds": seconds}
    begin = time.perf_counter()
    logits = predict(network, images[rows])
    columns = {"image": [xrays.ids[i] for i in rows], "person": xrays.persons[rows], "target": xrays.targets[rows]}
    answers = pd.DataFrame({**unit.columns, **columns, "score": logits[:, OPACITY] - logits[:, 0]})
    maps, examples = explain_and_score(unit, network, images, xrays, rows)
    training["judge_seconds"] = round(time.perf_counter() - begin, 2)
    return Outcome(training, answers, maps, examples)


def explain_and_score(
    unit: Unit, network: nn.Module, images: Tensor, xrays: Xrays, rows: np.ndarray
) -> tuple[pd.DataFrame, dict[str, np.ndarray]]:
    """Explain the positive images among `rows` by all explainers of an arm.

    Args:
        unit: arm, seed and fold.
        network: in evaluation mode.
        images: (N, 3, H, W) of all X-rays, normalised.
        xrays: targets and boxes.
        rows: indices of the judged images.

    Returns:
        Scores of the maps, and the maps of the first positive images with "masks" and "rows".
    """
    train, seed = unit.images.train, unit.seed
    positive = rows[xrays.masks[rows].flatten(1).any(1).numpy()]
    masks, pixels = xrays.masks[positive], images[positive]
    prior = xrays.masks[train][xrays.targets[train] == OPACITY].float().mean(0)
    columns = {"image": [xrays.ids[i] for i in positive], "person": xrays.persons[positive]}
    columns["area"] = masks.flatten(1).float().mean(1)
    tables, examples = [], {}
    for explainer in ARMS[unit.arm].explained_by if len(positive) else ():
        maps = explain(explainer, network, pixels, masks, prior, seed)
        scores = score_maps(maps, pixels, masks, seed)
        tables.append(pd.DataFrame({**unit.columns, "explainer": explainer, **columns, **scores}))
        examples[explainer] = maps[:EXAMPLES].numpy()
    examples["masks"], examples["rows"] = masks[:EXAMPLES].numpy(), positive[:EXAMPLES]
    return pd.concat(tables) if tables else pd.DataFrame(), examples


class XrayTables:
    """The tables of the study: trainings, answers, and scores of maps.

    A training is written last. Rows of the other tables without a training are left from a stopped study and are
    dropped.

    Args:
        folder: of the files.
    """

    def __init__(self, folder: Path) -> None:
        self.trainings, self.answers, self.maps = (
            ResumableTable(folder / f"medical_{name}.csv", KEYS, float_format="%.6g")
            for name in ("trainings", "answers", "maps")
        )
        for table in (self.answers, self.maps):
            table.drop_others(self.trainings.units)

    @property
    def paths(self) -> list[Path]:
        """Files of the tables."""
        return [self.trainings.path, self.answers.path, self.maps.path]

    def add(self, outcome: Outcome, **facts: Any) -> None:
        """Add one training, with further columns of its row, and write the files."""
        for table, rows in ((self.answers, outcome.answers), (self.maps, outcome.maps)):
            if len(rows):
                table.add(*rows.to_dict("records"))
        self.trainings.add({**outcome.training, **facts})


def iterate_units(xrays: Xrays, arms: Sequence[str], seeds: Sequence[int], count: int) -> Iterator[Unit]:
    """Yield all trainings; every seed divides the images anew.

    Raises:
        ContractError: too few persons for so many folds.
    """
    targets = xrays.targets.numpy()
    for seed in seeds:
        for name in arms:
            groups = xrays.persons if ARMS[name].persons else np.arange(len(xrays))
            for number, fold in enumerate(divide(targets, groups, count, seed)):
                yield Unit(name, seed, number, fold)


def run(
    root: Path,
    seeds: Sequence[int] = (0, 1, 2),
    folds: int = FOLDS,
    arms: Sequence[str] = DEFAULT_ARMS,
    split: Literal["test", "val"] = "test",
    epochs: int | None = None,
    output: Path = OUTPUT,
    pictures: Path | None = None,
) -> list[Path]:
    """Train what is missing and write tables, page and figure.

    Args:
        root: folder in RSNA's layout.
        seeds: repetitions.
        folds: in a repetition.
        arms: names of `ARMS`.
        split: images to judge.
        epochs: most epochs of a training.
        output: folder for the files.
        pictures: file for a figure that shows the X-rays too, not to be published.

    Raises:
        UnknownNameError: no such arm.
    """
    for name in arms:
        if name not in ARMS:
            raise UnknownNameError("arm", name, ARMS)
    xrays, tables, commit = load_xrays(root, SIDE), XrayTables(output), short_commit()
    recipe = RECIPE if epochs is None else RECIPE.model_copy(update={"epochs": epochs})
    units = [unit for unit in iterate_units(xrays, arms, seeds, folds) if unit.keys not in tables.trainings]
    for unit in track(units, "Training"):
        outcome = train_and_score(unit, xrays, split, recipe)
        if unit.arm in page.FIGURE_ARMS and unit.seed == seeds[0]:
            page.store_examples(output, unit.fold, unit.arm, outcome.examples)
        tables.add(outcome, on=split, commit=commit)
        seconds = f"{outcome.training['train_seconds']} s, {outcome.training['judge_seconds']} s"
        print(f"{unit.arm}, seed {unit.seed}, fold {unit.fold}: {seconds}", flush=True)
    facts = {"on": split, "seeds": seeds, "folds": folds, "recipe": recipe.model_dump(), **_describe_arms(arms)}
    paths = [*tables.paths, write_provenance(output / "medical.json", facts, command=COMMAND), *page.write_page(output)]
    return paths if pictures is None else [*paths, page.write_figure_with_images(output, pictures, xrays.images)]


def _describe_arms(names: Sequence[str]) -> dict[str, Any]:
    """Return network, terms, explainers and boxes of the arms, for the provenance."""
    return {
        "net": NET,
        "terms": {name: [{"name": term.name, **term.model_dump()} for term in ARMS[name].terms] for name in names},
        "explainers": EXTERNAL,
        "boxes": BOXES,
    }
