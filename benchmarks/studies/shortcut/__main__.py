"""`python -m benchmarks.studies.shortcut`: can the designer tell a network what not to look at?

A tag in a corner gives the class away in training and says nothing in test. Networks are trained on such images: plain,
with LAP, with LAP told where the tag or the object is, and with rival methods told the same. Asked: does the network
follow the tag, does its map admit that, does telling it bring back the accuracy of a network trained without tags, and
what does that cost?

One line an arm and seed in results/method/control_<data>.csv, at once, so that a stopped run goes on; costs in
control_<data>_cost.csv, a table in .md and a figure in .png.

Limits: weights of the terms were chosen on one seed of `digits`, by validation images that carry the tag like those of
training do (see results/method/log.md). Intervals are of the mean over training seeds alone.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import torch

from benchmarks.run.malloc import keep_freed_memory
from benchmarks.store.atomic import write_atomically
from benchmarks.store.provenance import git_state, system, versions
from benchmarks.studies.shortcut.arms import Arm, arms, widened
from benchmarks.studies.shortcut.cost import cost
from benchmarks.studies.shortcut.data import Images, Material, digits, tiny
from benchmarks.studies.shortcut.detector import detect, judge_masks, marked
from benchmarks.studies.shortcut.measure import judge
from benchmarks.studies.shortcut.report import write
from interp_core.errors import InterpError, UnknownNameError
from interp_core.lap.model import LapModel
from interp_core.training import DEFAULT_TERMS, MAP_TERMS, Recipe, fit
from interp_core.training.data import Regions

OUTPUT = Path("results/method")
COMMAND = "python -m benchmarks.studies.shortcut"
RECIPES = {
    "digits": Recipe(epochs=14, batch_size=32, learning_rate=0.003),
    "tinyimagenet20": Recipe(epochs=10, batch_size=32, learning_rate=0.003),
}
REFINING = Recipe(mode="frozen", epochs=2, batch_size=32, learning_rate=0.003, weight_decay=0.001)
PAIRS = 10

Forms = tuple[Material, Material]


def run(
    recipe: Recipe, data: str, forms: Forms, chosen: Sequence[Arm], seeds: Sequence[int], path: Path
) -> pd.DataFrame:
    """Train and judge what is not in the file yet, adding a line at a time.

    Args:
        recipe: how to train.
        data: "digits" or "tinyimagenet20".
        forms: tagged and clean.
        chosen: arms.
        seeds: of weights, of the order of images and of which images an arm is told about.
        path: of the table.
    """
    lines = _stored(path)
    commit = (git_state(Path(__file__)) or {}).get("commit", "")[:7]
    for seed in seeds:
        for arm in chosen:
            if any(line["arm"] == arm.name and line["seed"] == seed for line in lines):
                continue
            found = trained(arm, forms[arm.clean], recipe, seed)
            lines.append({"data": data, "arm": arm.name, "seed": seed, **found, "commit": commit})
            _save(lines, path)
            print(f"{arm.name}, seed {seed}: accuracy {found['accuracy']:.3f}, on the tag {found['tag_map']:.3f}")
    return pd.DataFrame(lines)


def trained(arm: Arm, material: Material, recipe: Recipe, seed: int) -> dict[str, float]:
    """Train an arm and say what came of it; see `judge`."""
    network = arm.network(material.classes, seed, material.parts["train"].images.shape[-1])
    train, regions = arm.material(material.parts["train"], seed)
    recipe = recipe.model_copy(update={"seed": seed})
    begin, facts = time.perf_counter(), {"told": float(len(arm.known(material.parts["train"], seed)))}
    if arm.finds:
        train, regions, how_well = found_regions(arm, material, recipe, seed)
        facts |= how_well
    fit(network, train.images, train.targets, recipe=recipe, terms=arm.terms, regions=regions)
    if arm.refined:
        fit(network, train.images, train.targets, recipe=REFINING.model_copy(update={"seed": seed}), terms=MAP_TERMS)
    seconds = time.perf_counter() - begin
    return {**facts, **judge(network, material.parts), "seconds": round(seconds, 1)}


def found_regions(arm: Arm, material: Material, recipe: Recipe, seed: int) -> tuple[Images, Regions, dict[str, float]]:
    """All training images with the masks that a detector, taught by the few that are known, gives them.

    Args:
        arm: which few.
        material: of the training images.
        recipe: of the network whose concept is the detector.
        seed: of its weights and of which few.

    Returns:
        Images, regions, and how well the masks meet the tags.
    """
    train = material.parts["train"]
    network = arm.network(material.classes, seed, train.images.shape[-1], detector=True)
    assert isinstance(network, LapModel)
    taught, regions = arm.material(train, seed)
    terms = (*DEFAULT_TERMS, marked(network))
    fit(network, taught.images, taught.targets, recipe=recipe, terms=terms, regions=regions)
    found = detect(network, train.images)
    every = torch.arange(len(train))
    return train, {"irrelevant": (every, widened(found, arm.margin))}, judge_masks(found, train)


def costs(recipe: Recipe, data: str, forms: Forms, chosen: Sequence[Arm], path: Path) -> pd.DataFrame:
    """Time a step of each arm that is not in the file yet against a plain one."""
    lines = _stored(path)
    plain = next(arm for arm in arms() if arm.name == "plain")
    commit = (git_state(Path(__file__)) or {}).get("commit", "")[:7]
    for arm in chosen:
        if arm.of != "plain" and all(line["arm"] != arm.name for line in lines):
            found = cost(arm, plain, forms[arm.clean], recipe, PAIRS)
            lines.append({"data": data, "arm": arm.name, **asdict(found), "pairs": PAIRS, "commit": commit})
            _save(lines, path)
    return pd.DataFrame(lines)


def _stored(path: Path) -> list[dict[str, Any]]:
    found: list[dict[Any, Any]] = pd.read_csv(path, dtype={"commit": str}).to_dict("records") if path.is_file() else []
    return found


def _save(lines: Sequence[dict[str, Any]], path: Path) -> None:
    write_atomically(path, pd.DataFrame(lines).to_csv(index=False, float_format="%.4g"))


def _forms(given: argparse.Namespace) -> Forms:
    if given.data == "digits":
        return digits(given.train or 2500, 500, 1000)
    return tiny(given.root, given.train or 4000, 500, 1000)


def _recipe(given: argparse.Namespace) -> Recipe:
    recipe = RECIPES[given.data]
    return recipe if given.epochs is None else recipe.model_copy(update={"epochs": given.epochs})


def _chosen(names: str | None) -> list[Arm]:
    known = {arm.name: arm for arm in arms()}
    wanted = list(known) if names is None else names.split(",")
    for name in wanted:
        if name not in known:
            raise UnknownNameError("arm", name, known)
    return [known[name] for name in wanted]


def _provenance(given: argparse.Namespace) -> str:
    facts = {
        "command": " ".join([COMMAND, "--data", given.data]),
        "arms": [arm.facts() for arm in arms()],
        "recipe": _recipe(given).model_dump(),
        "threads": torch.get_num_threads(),
        "git": git_state(Path(__file__)),
        **versions(),
        **system(),
    }
    return json.dumps(facts, indent=2) + "\n"


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 on an error the user can mend."""
    given = _parser().parse_args(arguments)
    keep_freed_memory()
    path: Path = given.output / f"control_{given.data}.csv"
    try:
        chosen = _chosen(given.arms)
        if not given.report:
            forms, recipe = _forms(given), _recipe(given)
            run(recipe, given.data, forms, chosen, [int(seed) for seed in given.seeds.split(",")], path)
            costs(recipe, given.data, forms, chosen, path.with_name(f"{path.stem}_cost.csv"))
            write_atomically(path.with_suffix(".json"), _provenance(given))
        for written in write(path, COMMAND):
            print(written)
    except InterpError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description="Train networks on images with a shortcut.")
    parser.add_argument("--data", choices=sorted(RECIPES), default="digits")
    parser.add_argument("--root", type=Path, default=Path("tinyimagenet20.tar"), help="of tinyimagenet20, or archive")
    parser.add_argument("--seeds", default="0,1,2", help="commas between them")
    parser.add_argument("--arms", help="commas between them; all by default")
    parser.add_argument("--train", type=int, help="number of training images")
    parser.add_argument("--epochs", type=int, help="of a training")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--report", action="store_true", help="do not train: table and figure from what is there")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
