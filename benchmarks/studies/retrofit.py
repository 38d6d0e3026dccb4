r"""Fit LAP on a trained network whose weights stay frozen, without labels.

Command:

    interp-bench study retrofit --backbone mobilenetv2_100 --kwargs '{"pad_type": "same"}' --weights w.pt \
        --normalise '{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}' \
        --data '{"name": "folder", "root": "photographs", "image_size": 224}:train:500' --out lap.safetensors

The network's own answers are the targets, so any photographs will do. The redistribution of the contributions is
trained. With `--attach '{"refine": true}'` decoders are trained too: first their regions, then the effects, which need
more epochs. By default the effects learn from `Order` on whole photographs. Crops (`--effects '{"crop": 0.5,
"shift": 0, "answers": true}'`) are meant for continuing from there with `--begin`, see results/method/log.md, 24 to 26.
`--teach '[{"name": "removal"}]'` needs no backward pass through the network, but far more photographs. `--begin FILE`
starts the decoders from another fit on the same backbone, which is possible since no decoder weight belongs to a class.

The file written is a `checkpoint` of a model of a run with `lap: true`. A JSON file beside it records how it was made.
A stopped fit continues from hidden checkpoints beside the output, which are deleted at the end.

Known limit: all images are held in memory, four bytes a value.
"""

from __future__ import annotations

import json
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import torch
from pydantic import BaseModel, ConfigDict
from safetensors.torch import load_file, save_model
from torch import Tensor

from benchmarks.config.choice import DatasetChoice, TermChoice
from benchmarks.config.load import parse
from benchmarks.config.models import ModelConfig
from benchmarks.run.images import RunImages
from benchmarks.run.networks import build_network, statistics_for
from benchmarks.store.atomic import atomic_file
from benchmarks.store.provenance import digest, write_provenance
from interp_core.datasets import DatasetConfig
from interp_core.deploy.ready_made import write_ready_made
from interp_core.errors import ContractError, one_line
from interp_core.knowledge import Area, Necessity, Sufficiency, Term
from interp_core.lap.model import LapModel
from interp_core.training import Bar, Epoch, Recipe, fit, predict

COMMAND = "interp-bench study retrofit"
OWN_PREFIX, DECODER_PREFIX = "redistribution.", "refiner."
PREDICT_BATCH = 32


class RetrofitSettings(BaseModel):
    """Settings of a fit.

    Attributes:
        backbone: timm's name of the trained network.
        weights: its trained weights.
        data: images to fit on, each "dataset:split:count" with the data set as JSON.
        out: safetensors file to write.
        kwargs: arguments of `timm.create_model`.
        attach: arguments of `interp_core.attach`; with `refine` the decoders are trained, too.
        normalise: mean and std of the images that the weights are for.
        classes: K of the weights.
        recipe: fields of the recipe.
        own: terms that the redistribution learns from.
        effects: fields in which the effects' recipe differs.
        teach: terms that the effects learn from.
        begin: file of an earlier fit on the same backbone, whose decoders these start from.
        area: weight of the term that keeps maps small.
        ready_made: two files to write besides, without a suffix; see `interp_core.deploy.ready_made`.
    """

    model_config = ConfigDict(extra="forbid")

    backbone: str
    weights: Path
    data: list[str]
    out: Path
    kwargs: dict[str, Any] = {}
    attach: dict[str, Any] = {}
    normalise: dict[str, Any] | None = None
    classes: int = 1000
    recipe: dict[str, Any] = {}
    own: list[Any] = ["own_order"]
    effects: dict[str, Any] = {}
    teach: list[Any] = ["order"]
    begin: Path | None = None
    area: float = 4.0
    ready_made: Path | None = None

    def model(self) -> ModelConfig:
        """Return the network with LAP as a run configures it.

        Raises:
            ConfigError: an argument that a network does not have.
        """
        fields = {name: getattr(self, name) for name in ("backbone", "kwargs", "attach", "normalise")}
        return parse(ModelConfig, {**fields, "name": "lap", "checkpoint": self.weights, "lap": True}, "the network")

    def stages(self) -> tuple[Stage, ...]:
        """Return the training of the redistribution and, with decoders, of their regions and of their effects.

        Raises:
            ConfigError: a field or a term that does not exist.
        """
        regions = parse(Recipe, {"mode": "frozen", **self.recipe}, "--recipe")
        own = Stage("own", regions, tuple(parse(TermChoice, choice, "--own").build() for choice in self.own))
        if not self.attach.get("refine"):
            return (own,)
        effects = parse(Recipe, {"mode": "frozen", **self.recipe, **self.effects}, "--effects")
        small = Area(weight=self.area, low=0.01, high=0.01, form="linear", finest=True)
        teachers = tuple(parse(TermChoice, choice, "--teach").build() for choice in self.teach)
        return (
            own,
            Stage("regions", regions, (Sufficiency(weight=1.0), Necessity(weight=1.0), small)),
            Stage("effects", effects, teachers),
        )

    def checkpoint(self, stage: Stage) -> Path:
        """Return the hidden file that a stopped stage continues from; other settings have another file."""
        return self.out.with_name(f".{self.out.stem}-{digest(self)}-{stage.name}.training")


class Stage(NamedTuple):
    """One training with the network frozen."""

    name: str
    recipe: Recipe
    terms: tuple[Term, ...]


class RetrofitResult(NamedTuple):
    """A network with fitted LAP.

    Attributes:
        network: in evaluation mode.
        images: number of images it was fitted on.
        seconds: time of the fit, since it was last started.
        answers_kept: share of images with the same top class as before.
        history: epochs of all stages.
    """

    network: LapModel
    images: int
    seconds: float
    answers_kept: float
    history: list[Epoch]


def load_photographs(sources: Sequence[str], model: ModelConfig, network: LapModel) -> Tensor:
    """Load the images of all sources (N, C, H, W), normalised for the network.

    Args:
        sources: see `RetrofitSettings.data`; images of each are drawn at random.
        model: decides the normalisation.
        network: built from it.
    """
    batches = []
    for source in sources:
        description, split, count = source.rsplit(":", 2)
        dataset: DatasetConfig = parse(DatasetChoice, json.loads(description), source).build()
        data = RunImages(dataset)
        images = data.split(split)  # type: ignore[arg-type]
        rows = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))[: int(count)]
        statistics = statistics_for(model, network, data)
        parts = data.read(images, [part.numpy() for part in rows.sort().values.split(64)])
        batches += [data.tensors(part, statistics)[0] for _, part in parts]
    return torch.cat(batches)


def fit_lap(settings: RetrofitSettings) -> RetrofitResult:
    """Fit LAP on the frozen network.

    Raises:
        ConfigError: settings that do not exist.
        ContractError: the earlier fit is of another backbone.
        StoreError: a checkpoint of a stopped fit is damaged.
    """
    stages, model = settings.stages(), settings.model()
    network = build_network(model, settings.classes, stages[0].recipe.seed)
    assert isinstance(network, LapModel)
    if settings.begin is not None:
        load_fit(settings.begin, network)
    network.eval()
    images = load_photographs(settings.data, model, network)
    targets = predict(network, images, PREDICT_BATCH).argmax(1)
    begin, history = time.perf_counter(), []
    for stage in stages:
        history += fit(
            network,
            images,
            targets,
            recipe=stage.recipe,
            terms=stage.terms,
            progress=Bar(),
            checkpoint=settings.checkpoint(stage),
        )
    seconds = round(time.perf_counter() - begin, 1)
    answers = predict(network, images, PREDICT_BATCH).argmax(1)
    return RetrofitResult(network, len(images), seconds, (answers == targets).float().mean().item(), history)


def load_fit(path: Path, network: LapModel) -> None:
    """Load the redistribution and the decoders of an earlier fit into a network.

    Args:
        path: safetensors file of an earlier fit.
        network: on the same backbone, of any number of classes.

    Raises:
        ContractError: the fit is of another backbone.
    """
    tensors = load_file(str(path))
    for prefix, part in ((OWN_PREFIX, network.redistribution), (DECODER_PREFIX, network.refiner)):
        weights = {key.removeprefix(prefix): value for key, value in tensors.items() if key.startswith(prefix)}
        if part is None or (not weights and prefix == OWN_PREFIX):  # files of older versions have no redistribution
            continue
        try:
            part.load_state_dict(weights)
        except RuntimeError as error:
            raise ContractError(f"{path} holds no fit for this backbone: {one_line(error, limit=200)}") from error


def run(settings: RetrofitSettings) -> list[Path]:
    """Fit LAP and write the network and its description."""
    result = fit_lap(settings)
    with atomic_file(settings.out) as temporary:
        save_model(result.network, str(temporary))
    recipes = {stage.name: stage.recipe.model_dump() for stage in settings.stages()}
    begin = (
        None if settings.begin is None else json.loads(settings.begin.with_suffix(".json").read_text(encoding="utf-8"))
    )
    facts = {
        "images": result.images,
        "seconds": result.seconds,
        "answers_kept": result.answers_kept,
        "history": [epoch.terms for epoch in result.history],
        **settings.model_dump(include={"backbone", "kwargs", "attach", "normalise", "own", "area", "teach", "data"}),
        "recipes": recipes,
        "begin": begin,
    }
    description = write_provenance(settings.out.with_suffix(".json"), facts, command=COMMAND)
    paths = [settings.out, description]
    if settings.ready_made is not None:
        paths += write_ready_made(
            result.network, json.loads(description.read_text(encoding="utf-8")), settings.ready_made
        )
    for stage in settings.stages():
        settings.checkpoint(stage).unlink(missing_ok=True)
    return paths
