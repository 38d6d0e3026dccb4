"""`python -m benchmarks.studies.xray`: what LAP learns to say of a few hundred chest X-rays from labels of images.

Each arm trains one small network a fold and a repetition, so that every image is judged once a repetition by a network
that has seen neither it nor another image of the same person. Arms: a plain network; LAP, told by labels alone that
opacity is nowhere in healthy lungs and somewhere, of a stated area, in ill ones; LAP with the boxes of a few training
images as well; and a plain network on folds that part files and not persons, to show what that would have claimed.

Folds already in the files are not done again. Tables, a page of results and a figure come from the stored scores:
`benchmarks.studies.xray.page`.

Limit: what so few images can show is little; the page says how little.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from torch import Tensor, nn

from baselines import Explainer, explainers
from benchmarks.metrics import Batch, metrics
from benchmarks.run.malloc import keep_freed_memory
from benchmarks.store import provenance
from benchmarks.store.atomic import write_atomically
from benchmarks.store.provenance import git_state, system, versions
from benchmarks.studies.xray import page
from benchmarks.studies.xray.data import Fold, Xrays, folds, load, with_boxes
from benchmarks.studies.xray.names import CONTROLS, METRICS, OUTPUT, SHOWN
from interp_core.backbone.timm_models import create_backbone
from interp_core.knowledge import Absence, Area, Presence, Region, Term
from interp_core.lap.attach import attach
from interp_core.training import MAP_TERMS, Recipe, fit, predict

OPACITY, BOXES, FOLDS, SIDE = 1, 10, 5, 64
NET: dict[str, Any] = {"layers": [2, 2, 0, 0], "channels": [32, 96, 96, 96], "avg_down": False, "num_classes": 2}
RECIPE = Recipe(epochs=24, batch_size=32, learning_rate=3e-3, shift=6, flip=True, patience=10)
SECOND = Recipe(mode="frozen", epochs=12, batch_size=32, shift=6, flip=True)
LABELS: tuple[Term, ...] = (Presence(of=OPACITY), Absence(of=OPACITY), Area(of=OPACITY))
WITH_BOXES: tuple[Term, ...] = (*LABELS, Region(of=OPACITY, region="object", evidence="map"))
REFINED: tuple[Term, ...] = tuple(term.model_copy(update={"of": OPACITY}) for term in MAP_TERMS)

# LIME's budget is stated for 224 pixels and shrinks with the side; this one is 1000 samples at 64.
EXTERNAL: dict[str, dict[str, Any]] = {
    "grad_cam": {},
    "integrated_gradients": {"steps": 50},
    "lime": {"samples_at_224": 3500},
    "shap": {"evaluations": 500},
    "occlusion": {},
}


@dataclass(frozen=True)
class Arm:
    """One way to train.

    Attributes:
        lap: whether LAP is attached.
        terms: knowledge, of LAP networks.
        boxes: how many training images give their boxes away.
        explained_by: explainers and their options; controls are judged where all explainers are.
        persons: whether folds part persons, and not files.
        refined: whether a second stage, on the frozen network, teaches a decoder to refine the maps.
    """

    lap: bool = False
    terms: tuple[Term, ...] = ()
    boxes: int = 0
    explained_by: tuple[str, ...] = ()
    persons: bool = True
    refined: bool = False


ARMS: dict[str, Arm] = {
    "plain": Arm(explained_by=("grad_cam", "integrated_gradients")),
    "lap": Arm(lap=True, terms=LABELS, explained_by=("lap", *EXTERNAL, *CONTROLS)),
    "lap_boxes": Arm(lap=True, terms=WITH_BOXES, boxes=BOXES, explained_by=("lap", "grad_cam")),
    "plain_by_file": Arm(persons=False),
    "lap_refined": Arm(lap=True, terms=LABELS, explained_by=("lap",), refined=True),
}
DEFAULT_ARMS = ("plain", "lap", "lap_boxes", "plain_by_file")


def train(arm: Arm, images: Tensor, xrays: Xrays, fold: Fold, seed: int, recipe: Recipe) -> tuple[nn.Module, int]:
    """The network of an arm, in evaluation mode, and the epochs it took.

    Args:
        arm: how.
        images: (N, 3, H, W) of all X-rays, normalised; those of the fold's training and validation part are looked at.
        xrays: targets and boxes.
        fold: which images may be looked at.
        seed: of weights, of the order of images and of which boxes are given away.
        recipe: how long and how fast.
    """
    torch.manual_seed(seed)
    network: nn.Module = create_backbone("test_resnet", **NET)
    if arm.lap:
        network = attach(network, image_size=images.shape[-1], refine=arm.refined)
    given = with_boxes(xrays, fold.train, arm.boxes, seed)
    regions = {"object": (torch.from_numpy(given), xrays.masks[fold.train[given]])} if arm.boxes else None
    part, held = ((images[rows], xrays.targets[rows]) for rows in (fold.train, fold.val))
    recipe = recipe.model_copy(update={"seed": seed})
    history = fit(network, *part, recipe=recipe, terms=arm.terms, regions=regions, validation=held)
    if arm.refined:
        fit(network, *part, recipe=SECOND.model_copy(update={"seed": seed}), terms=REFINED)
    return network.eval(), len(history)


def explained(name: str, network: nn.Module, images: Tensor, masks: Tensor, prior: Tensor, seed: int) -> Tensor:
    """Maps (n, 1, H, W) of Lung Opacity.

    Args:
        name: of an explainer, or "box_prior": where boxes of training images lie on average, the same for all.
        network: in evaluation mode.
        images: (n, 3, H, W), normalised.
        masks: (n, 1, H, W) bool, for the control that is the mask.
        prior: (1, H, W) mean of the boxes of training images.
        seed: of explainers that draw.
    """
    if name == "box_prior":
        return prior.expand(len(images), 1, *prior.shape[-2:]).clone()
    explainer: Explainer = explainers[name](**EXTERNAL.get(name, {}))
    targets = torch.full((len(images),), OPACITY)
    return explainer(network, images, targets, masks=masks, seed=seed)


def scored(maps: Tensor, images: Tensor, masks: Tensor, seed: int) -> dict[str, np.ndarray]:
    """Localisation scores (n,) of maps (n, 1, H, W), by name of the metric."""
    targets = np.full(len(maps), OPACITY)
    batch = Batch(None, images.numpy(), targets, maps.numpy(), masks.numpy(), seed=seed)
    return {name: metrics[name]()(batch)[name] for name in METRICS}


def one(
    name: str, xrays: Xrays, fold: Fold, number: int, seed: int, part: str, recipe: Recipe
) -> tuple[dict[str, Any], pd.DataFrame, pd.DataFrame, dict[str, np.ndarray]]:
    """Train and judge one arm on one fold.

    Returns:
        The training in a line, answers to the judged images, scores of maps of the positive ones, and the maps of the
        first `SHOWN` of these.
    """
    arm, judged = ARMS[name], getattr(fold, part)
    own = xrays.images[fold.train]
    images = (xrays.images - own.mean()) / own.std()
    begin = time.perf_counter()
    network, epochs = train(arm, images, xrays, fold, seed, recipe)
    seconds = round(time.perf_counter() - begin, 2)
    keys = {"arm": name, "seed": seed, "fold": number}
    counts = {"train": len(fold.train), "val": len(fold.val), "judged": len(judged)}
    line: dict[str, Any] = {**keys, **counts, "epochs": epochs, "train_seconds": seconds}
    begin = time.perf_counter()
    logits = predict(network, images[judged])
    answers = pd.DataFrame({**keys, "image": [xrays.ids[i] for i in judged], "person": xrays.persons[judged],
                            "target": xrays.targets[judged], "score": logits[:, OPACITY] - logits[:, 0]})  # fmt: skip
    positive = judged[xrays.masks[judged].flatten(1).any(1).numpy()]
    boxes = xrays.masks[fold.train][xrays.targets[fold.train] == OPACITY]
    rows, kept = [], {}
    for explainer in arm.explained_by if len(positive) else ():
        maps = explained(explainer, network, images[positive], xrays.masks[positive], boxes.float().mean(0), seed)
        scores = scored(maps, images[positive], xrays.masks[positive], seed)
        known = {"image": [xrays.ids[i] for i in positive], "person": xrays.persons[positive],
                 "area": xrays.masks[positive].flatten(1).float().mean(1)}  # fmt: skip
        rows.append(pd.DataFrame({**keys, "explainer": explainer, **known, **scores}))
        kept[explainer] = maps[:SHOWN].numpy()
    kept["masks"], kept["rows"] = xrays.masks[positive[:SHOWN]].numpy(), positive[:SHOWN]
    line["judge_seconds"] = round(time.perf_counter() - begin, 2)
    return line, answers, pd.concat(rows) if rows else pd.DataFrame(), kept


class Kept:
    """The files of a study: trainings, answers, scores of maps; and the maps that the figure shows.

    A training enters its table last, so that one without it is done again.

    Args:
        folder: where they lie.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.tables = {name: self._read(name) for name in ("trainings", "answers", "maps")}
        done = self.tables["trainings"]
        self.done = {(r["arm"], r["seed"], r["fold"]) for r in done.to_dict("records")}
        for name in ("answers", "maps"):
            table = self.tables[name]
            whole = [(a, s, f) in self.done for a, s, f in table.reindex(columns=["arm", "seed", "fold"]).to_numpy()]
            self.tables[name] = table[np.array(whole, bool)]

    def add(self, line: dict[str, Any], answers: pd.DataFrame, maps: pd.DataFrame) -> None:
        """Enter one training and write the files."""
        for name, rows in (("answers", answers), ("maps", maps), ("trainings", pd.DataFrame([line]))):
            if len(rows):
                there = self.tables[name]
                self.tables[name] = pd.concat([there, rows], ignore_index=True) if len(there) else rows
                write_atomically(self.path(name), self.tables[name].to_csv(index=False, float_format="%.6g"))
        self.done.add((line["arm"], line["seed"], line["fold"]))

    def path(self, name: str) -> Path:
        """Of a table."""
        return self.folder / f"medical_{name}.csv"

    def _read(self, name: str) -> pd.DataFrame:
        return pd.read_csv(self.path(name), dtype={"commit": str}) if self.path(name).is_file() else pd.DataFrame()


def units(xrays: Xrays, arms: Sequence[str], seeds: Sequence[int], count: int) -> Iterator[tuple[str, int, int, Fold]]:
    """Arm, seed, number of the fold and fold, of all trainings; every seed parts the images anew."""
    targets = xrays.targets.numpy()
    for seed in seeds:
        for name in arms:
            groups = xrays.persons if ARMS[name].persons else np.arange(len(xrays))
            for number, fold in enumerate(folds(targets, groups, count, seed)):
                yield name, seed, number, fold


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status 0."""
    given = _given(arguments)
    keep_freed_memory()
    xrays, kept = load(given.root, SIDE), Kept(given.output)
    recipe = RECIPE.model_copy(update={} if given.epochs is None else {"epochs": given.epochs})
    state = git_state(Path(provenance.__file__)) or {"commit": "", "dirty": False}
    commit = state["commit"][:7] + "+" * state["dirty"]
    for name, seed, number, fold in units(xrays, given.arms, given.seeds, given.folds):
        if (name, seed, number) in kept.done:
            continue
        line, answers, maps, shown = one(name, xrays, fold, number, seed, given.on, recipe)
        if name in page.DRAWN and seed == given.seeds[0]:
            page.keep_shown(given.output, number, name, shown)
        kept.add({**line, "on": given.on, "commit": commit}, answers, maps)
        print(f"{name}, seed {seed}, fold {number}: {line['train_seconds']} s, {line['judge_seconds']} s", flush=True)
    write_atomically(given.output / "medical.json", json.dumps(facts(given, recipe), indent=1, default=str) + "\n")
    page.write(given.output)
    if given.pictures is not None:
        page.figure_with_images(given.output, given.pictures, xrays.images)
    return 0


def facts(given: argparse.Namespace, recipe: Recipe) -> dict[str, Any]:
    """What made the files, without anything that names the machine."""
    said = {name: [{"name": term.name, **term.model_dump()} for term in ARMS[name].terms] for name in given.arms}
    return {
        "command": "python -m benchmarks.studies.xray",
        "on": given.on,
        "seeds": given.seeds,
        "folds": given.folds,
        "recipe": recipe.model_dump(),
        "net": NET,
        "terms": said,
        "explainers": EXTERNAL,
        "boxes": BOXES,
        "git": git_state(Path(provenance.__file__)),
        **versions(),
        **system(),
    }


def _given(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.xray", description=__doc__.splitlines()[0])
    parser.add_argument("--root", type=Path, required=True, help="folder in RSNA's layout")
    parser.add_argument("--seeds", type=lambda text: [int(n) for n in text.split(",")], default=[0, 1, 2])
    parser.add_argument("--folds", type=int, default=FOLDS)
    parser.add_argument("--arms", type=lambda text: text.split(","), default=list(DEFAULT_ARMS))
    parser.add_argument("--on", choices=("test", "val"), default="test", help="which images are judged")
    parser.add_argument("--epochs", type=int, help="most epochs of a training")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--pictures", type=Path, help="file for a figure with X-rays in it, not to be published")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    raise SystemExit(main())
