r"""A network that is already trained gets explanations of its own: LAP fitted on a frozen backbone, without one label.

    python -m benchmarks.studies.retrofit --backbone mobilenetv2_100 --kwargs '{"pad_type": "same"}' --weights w.pt \
        --normalise '{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}' \
        --data '{"name": "folder", "root": "photographs", "image_size": 224}:train:500' --out lap.safetensors

What the network itself answers is the target, so any photographs will do. First the regions learn, then the effects,
which need more epochs: by default from `Order`, on whole photographs; crops (`--effects '{"crop": 0.5, "shift": 0,
"answers": true}'`) are for going on from there (`--begin`), see results/method/log.md, 24 to 26. `--teach
'[{"name": "removal"}]'` needs no backward pass through the network, but far more photographs. `--begin FILE` starts the
decoders where another fit on the same backbone ended: nothing in them belongs to a class. The file written is what
`checkpoint` of a model of a run takes where its `lap` is true; beside it a JSON file says how it was made.
Known limit: all images are held in memory, four bytes a value.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file, save_model
from torch import Tensor

from benchmarks.config.choice import DatasetChoice, TermChoice
from benchmarks.config.load import parse
from benchmarks.config.models import ModelConfig
from benchmarks.run.images import RunImages
from benchmarks.run.malloc import keep_freed_memory
from benchmarks.run.networks import build_network, statistics_for
from benchmarks.store.provenance import git_state, system, versions
from interp_core.datasets import DatasetConfig
from interp_core.errors import ContractError, one_line
from interp_core.knowledge import Area, Necessity, Order, Sufficiency, Term
from interp_core.lap.model import LapModel
from interp_core.training import Bar, Recipe, fit, predict

PREFIX = "refiner."


def photographs(sources: Sequence[str], model: ModelConfig, network: LapModel) -> Tensor:
    """Images (N, C, H, W) of all sources, normalised as the network wants them.

    Args:
        sources: each "dataset:split:count", the data set as JSON.
        model: whose images they shall be.
        network: built from it.
    """
    found = []
    for source in sources:
        description, split, count = source.rsplit(":", 2)
        dataset: DatasetConfig = parse(DatasetChoice, json.loads(description), source).build()
        data = RunImages(dataset)
        images = data.split(split)  # type: ignore[arg-type]
        wanted = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[: int(count)]
        statistics = statistics_for(model, network, data)
        parts = data.parts(images, [part.numpy() for part in wanted.sort().values.split(64)])
        found += [data.tensors(part, statistics)[0] for _, part in parts]
    return torch.cat(found)


def retrofit(
    model: ModelConfig,
    classes: int,
    sources: Sequence[str],
    recipe: Recipe,
    effects: Recipe,
    area: float,
    teach: Sequence[Term] = (Order(),),
    begin: Path | None = None,
) -> dict[str, Any]:
    """Fit LAP on the frozen network; the network and what is to be told of it.

    Args:
        model: the trained network, with `lap` and `attach.refine`.
        classes: K.
        sources: see `photographs`.
        recipe: of the regions, mode "frozen".
        effects: the same of the effects.
        area: weight of the term that keeps maps small.
        teach: what the effects learn from.
        begin: file of an earlier fit, whose decoders these start from.

    Raises:
        ContractError: the earlier fit is of another backbone.
    """
    network = build_network(model, classes, recipe.seed)
    assert isinstance(network, LapModel)
    if begin is not None:
        decoders_from(begin, network)
    network.eval()
    images = photographs(sources, model, network)
    before = predict(network, images, 32)
    targets = before.argmax(1)
    small = Area(weight=area, low=0.01, high=0.01, form="linear", finest=True)
    started, history = time.perf_counter(), []
    for how, asked in (recipe, (Sufficiency(weight=1.0), Necessity(weight=1.0), small)), (effects, tuple(teach)):
        history += fit(network, images, targets, recipe=how, terms=asked, progress=Bar())
    seconds = time.perf_counter() - started
    kept = (predict(network, images, 32).argmax(1) == targets).float().mean().item()
    facts = {
        "images": len(images),
        "seconds": round(seconds, 1),
        "answers_kept": kept,
        "history": [epoch.terms for epoch in history],
    }
    return {"network": network, "facts": facts}


def decoders_from(path: Path, network: LapModel) -> None:
    """Give the network the decoders of an earlier fit.

    Args:
        path: safetensors file of `retrofit`.
        network: on the same backbone, of any number of classes.

    Raises:
        ContractError: the fit is of another backbone.
    """
    assert network.refiner is not None
    found = load_file(str(path))
    own = {key.removeprefix(PREFIX): value for key, value in found.items() if key.startswith(PREFIX)}
    try:
        network.refiner.load_state_dict(own)
    except RuntimeError as error:
        raise ContractError(f"{path} holds no decoders for this backbone: {one_line(error, limit=200)}") from error


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbone", required=True, help="timm name")
    parser.add_argument("--kwargs", type=json.loads, default={}, help="arguments of timm.create_model, as JSON")
    parser.add_argument(
        "--attach", type=json.loads, default={"refine": True}, help="arguments of interp_core.attach, as JSON"
    )
    parser.add_argument("--normalise", type=json.loads, help="mean and std of the weights' images, as JSON")
    parser.add_argument("--weights", type=Path, required=True, help="trained weights of the backbone")
    parser.add_argument("--classes", type=int, default=1000)
    parser.add_argument("--data", action="append", required=True, help="dataset as JSON:split:count; repeatable")
    parser.add_argument("--recipe", type=json.loads, default={}, help="fields of the regions' recipe, as JSON")
    parser.add_argument("--effects", type=json.loads, default={}, help="what the effects' recipe has instead, as JSON")
    parser.add_argument("--teach", type=json.loads, default=["order"], help="terms of the effects, as JSON")
    parser.add_argument("--begin", type=Path, help="file of an earlier fit on the same backbone")
    parser.add_argument("--area", type=float, default=4.0, help="weight of the term that keeps maps small")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    given = parser.parse_args(arguments)
    keep_freed_memory()
    model = ModelConfig(
        name="lap", backbone=given.backbone, kwargs=given.kwargs, checkpoint=given.weights, lap=True,
        attach=given.attach, normalise=given.normalise,
    )  # fmt: skip
    recipe = Recipe(mode="frozen", **given.recipe)
    effects = Recipe(mode="frozen", **{**given.recipe, **given.effects})
    teach = [parse(TermChoice, one, "--teach").build() for one in given.teach]
    made = retrofit(model, given.classes, given.data, recipe, effects, given.area, teach, given.begin)
    save_model(made["network"], str(given.out))
    about = {
        **made["facts"],
        **{name: getattr(given, name) for name in ("attach", "normalise", "area", "teach", "data")},
        "recipe": recipe.model_dump(),
        "effects": effects.model_dump(),
    }
    about["begin"] = None if given.begin is None else json.loads(given.begin.with_suffix(".json").read_text())
    about |= {"versions": versions(), "system": system(), "git": git_state(Path(__file__))}
    given.out.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
