"""Train networks on images with a shortcut, with and without being told where it is.

Command: `interp-bench study shortcut`. A tag in a corner gives the class away in training and is random in test.
Networks are trained on such images: plain, with LAP, with LAP told where the tag or the object is, and with rival
methods told the same. The study measures whether a network follows the tag, whether its map shows that, whether telling
it restores the accuracy of a network trained without tags, and what that costs.

It writes one row per arm and seed into results/method/control_<data>.csv, so that a stopped study continues, costs into
control_<data>_cost.csv, a table in .md, a figure in .png and the provenance in .json.

Known limits: weights of the terms were chosen on one seed of `digits`, by validation images whose tags agree with the
class as in training (see results/method/log.md). Intervals are of the mean over training seeds alone.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import NamedTuple

import pandas as pd
import torch

from benchmarks.store.provenance import short_commit, write_provenance
from benchmarks.studies.progress import track
from benchmarks.studies.resumable_table import ResumableTable
from benchmarks.studies.shortcut.arms import ARMS, LABEL_TERMS, ShortcutArm, widen
from benchmarks.studies.shortcut.cost import measure_cost
from benchmarks.studies.shortcut.data import TaggedData, TaggedImages, load_digits, load_tiny
from benchmarks.studies.shortcut.detector import detect, marking_term, score_masks
from benchmarks.studies.shortcut.measure import evaluate
from benchmarks.studies.shortcut.report import write_report
from interp_core.errors import UnknownNameError
from interp_core.lap.model import LapModel
from interp_core.training import MAP_TERMS, Recipe, fit
from interp_core.training.data import Regions

OUTPUT = Path("results/method")
COMMAND = "interp-bench study shortcut"
RECIPES = {
    "digits": Recipe(epochs=14, batch_size=32, learning_rate=0.003),
    "tinyimagenet20": Recipe(epochs=10, batch_size=32, learning_rate=0.003),
}
REFINING = Recipe(mode="frozen", epochs=2, batch_size=32, learning_rate=0.003, weight_decay=0.001)
PAIRS = 10


class Forms(NamedTuple):
    """The same data with tags and without."""

    tagged: TaggedData
    clean: TaggedData

    def of(self, arm: ShortcutArm) -> TaggedData:
        """Return the form that the arm is trained on."""
        return self.clean if arm.clean else self.tagged


def train_arms(
    recipe: Recipe, data: str, forms: Forms, selection: Sequence[ShortcutArm], seeds: Sequence[int], path: Path
) -> pd.DataFrame:
    """Train and evaluate what is not in the file, adding one row at a time.

    Args:
        recipe: how to train.
        data: "digits" or "tinyimagenet20".
        forms: tagged and clean images.
        selection: arms.
        seeds: of weights, of the order of images and of the images whose regions an arm knows.
        path: of the table.
    """
    table = ResumableTable(path, ("arm", "seed"))
    commit, by_name = short_commit(), {arm.name: arm for arm in selection}
    units = [(arm.name, seed) for seed in seeds for arm in selection]
    for name, seed in track(table.missing(units), "Training"):
        scores = train_and_evaluate(by_name[name], forms.of(by_name[name]), recipe, seed)
        table.add({"data": data, "arm": name, "seed": seed, **scores, "commit": commit})
        print(f"{name}, seed {seed}: accuracy {scores['accuracy']:.3f}, on the tag {scores['tag_map']:.3f}", flush=True)
    return table.frame


def train_and_evaluate(arm: ShortcutArm, data: TaggedData, recipe: Recipe, seed: int) -> dict[str, float]:
    """Train an arm and return its columns of the table; see `evaluate`."""
    images = data.splits["train"]
    network = arm.network(data.classes, seed, images.images.shape[-1])
    train, regions = arm.training_data(images, seed)
    recipe = recipe.model_copy(update={"seed": seed, "attention_gradient": arm.attention_gradient})
    begin, scores = time.perf_counter(), {"told": float(len(arm.known_rows(images, seed)))}
    if arm.uses_detector:
        train, regions, mask_scores = detect_regions(arm, data, recipe, seed)
        scores |= mask_scores
    fit(network, train.images, train.targets, recipe=recipe, terms=arm.terms, regions=regions, progress=None)
    if arm.refined:
        fit(
            network,
            train.images,
            train.targets,
            recipe=REFINING.model_copy(update={"seed": seed}),
            terms=MAP_TERMS,
            progress=None,
        )
    seconds = time.perf_counter() - begin
    return {**scores, **evaluate(network, data.splits), "seconds": round(seconds, 1)}


def detect_regions(
    arm: ShortcutArm, data: TaggedData, recipe: Recipe, seed: int
) -> tuple[TaggedImages, Regions, dict[str, float]]:
    """Train a detector on the few known masks and apply it to all training images.

    Args:
        arm: decides which masks are known.
        data: of the training images.
        recipe: of the network whose concept is the detector.
        seed: of its weights and of the known masks.

    Returns:
        All training images, their detected regions, and scores of these masks.
    """
    train = data.splits["train"]
    network = arm.network(data.classes, seed, train.images.shape[-1], detector=True)
    assert isinstance(network, LapModel)
    examples, regions = arm.training_data(train, seed)
    terms = (*LABEL_TERMS, marking_term(network))
    fit(network, examples.images, examples.targets, recipe=recipe, terms=terms, regions=regions, progress=None)
    masks = detect(network, train.images)
    rows = torch.arange(len(train))
    return train, {"irrelevant": (rows, widen(masks, arm.margin))}, score_masks(masks, train)


def time_arms(recipe: Recipe, data: str, forms: Forms, selection: Sequence[ShortcutArm], path: Path) -> pd.DataFrame:
    """Time a training step of each arm that is not in the file against a plain one."""
    table = ResumableTable(path, ("arm",))
    plain = next(arm for arm in ARMS if arm.name == "plain")
    commit = short_commit()
    missing = [arm for arm in selection if arm.method != "plain" and (arm.name,) not in table]
    for arm in track(missing, "Timing"):
        step = measure_cost(arm, plain, forms.of(arm), recipe, PAIRS)
        table.add({"data": data, "arm": arm.name, **asdict(step), "pairs": PAIRS, "commit": commit})
    return table.frame


def select_arms(names: Sequence[str], arms: Sequence[ShortcutArm] = ARMS) -> list[ShortcutArm]:
    """Return the arms of these names, all without any.

    Raises:
        UnknownNameError: no such arm.
    """
    known = {arm.name: arm for arm in arms}
    for name in names:
        if name not in known:
            raise UnknownNameError("arm", name, known)
    return [known[name] for name in names or known]


def load_forms(data: str, root: Path, count: int | None) -> Forms:
    """Load the tagged and the clean form of a data set.

    Args:
        data: "digits" or "tinyimagenet20".
        root: folder of tinyimagenet20, or its archive.
        count: number of training images; None for 2500 digits or 4000 photographs.

    Raises:
        UnknownNameError: no such data set.
    """
    if data not in RECIPES:
        raise UnknownNameError("data set", data, RECIPES)
    if data == "digits":
        return Forms(*load_digits(count or 2500, 500, 1000))
    return Forms(*load_tiny(root, count or 4000, 500, 1000))


def run(
    data: str = "digits",
    root: Path = Path("tinyimagenet20.tar"),
    seeds: Sequence[int] = (0, 1, 2),
    names: Sequence[str] = (),
    count: int | None = None,
    epochs: int | None = None,
    output: Path = OUTPUT,
    report_only: bool = False,
) -> list[Path]:
    """Train, time and report; see `load_forms` for the data.

    Args:
        data: "digits" or "tinyimagenet20".
        root: folder of tinyimagenet20, or its archive.
        seeds: of the trainings.
        names: arms; empty for all.
        count: number of training images.
        epochs: of each training.
        output: folder for the files.
        report_only: make table and figure from the stored rows, without training.
    """
    path, selection = output / f"control_{data}.csv", select_arms(names)
    if report_only:
        return write_report(path, COMMAND)
    forms, recipe = load_forms(data, root, count), RECIPES[data]
    recipe = recipe if epochs is None else recipe.model_copy(update={"epochs": epochs})
    costs = path.with_name(f"{path.stem}_cost.csv")
    train_arms(recipe, data, forms, selection, seeds, path)
    time_arms(recipe, data, forms, selection, costs)
    facts = {
        "arms": [arm.describe() for arm in ARMS],
        "recipe": recipe.model_dump(),
        "threads": torch.get_num_threads(),
    }
    provenance = write_provenance(path.with_suffix(".json"), facts, command=f"{COMMAND} --data {data}")
    return [path, costs, provenance, *write_report(path, COMMAND)]
