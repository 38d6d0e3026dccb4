"""Turn a configuration into cells. A cell's key is a hash of everything its scores depend on.

A changed setting changes exactly the keys of the cells it touches: a metric's parameter those of that metric, a recipe
all. So does changed code, comments and docstrings aside (`benchmarks.plan.code_digest`): an explainer's module and what
it imports its own cells, LAP's blocks those of LAP networks, the training loop all. Settings that only say how much is
computed at once are no part of a key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from pydantic import BaseModel

from benchmarks.config.models import ModelConfig
from benchmarks.config.run import RunConfig
from benchmarks.config.weight_files import digest_of
from benchmarks.metrics import map_transforms
from benchmarks.metrics.map_transforms import MapTransform
from benchmarks.plan.code_digest import code_digest, dependencies, module_digest
from benchmarks.plan.components import RunComponents, rival_options
from benchmarks.rivals import rivals
from benchmarks.store.provenance import VERSION, digest

# Roots of the code that trains a network, that makes it a LAP network, and files that say how a run builds it.
TRAINING = "interp_core.training.fit"
LAP = ("interp_core.lap.attach", "interp_core.knowledge.observe")
BUILDING = ("benchmarks.run.networks", "benchmarks.run.staged_training")
BATCHING_FIELDS = {"batch_size", "internal_batch_size"}


@dataclass(frozen=True)
class TrainCell:
    """A network to be trained. `key` names its files."""

    model: ModelConfig
    seed: int
    key: str


@dataclass(frozen=True)
class ExplainCell:
    """Maps of one explainer for one shard of images.

    Attributes:
        start: first image of the shard among the chosen ones.
        stop: one past the last.
        draws: seed of random draws; None for the training's.
    """

    train: TrainCell
    explainer: str
    start: int
    stop: int
    key: str
    draws: int | None = None

    @property
    def seed(self) -> int:
        """Of the random draws of explainer and metrics; another for every shard."""
        return (self.train.seed if self.draws is None else self.draws) * 100_003 + self.start


@dataclass(frozen=True)
class ScoreCell:
    """One metric on the maps of one explain cell, or on those maps transformed."""

    explain: ExplainCell
    metric: str
    key: str
    transform: MapTransform | None = None

    @property
    def explainer(self) -> str:
        """How tables call the maps."""
        name = self.explain.explainer
        return name if self.transform is None else f"{name}@{self.transform.name}"


def train_cells(config: RunConfig, parts: RunComponents) -> list[TrainCell]:
    """One cell per model and seed."""
    data = parts.dataset.identity()
    content = {
        model.name: (_training_code(model, parts), _of_model(model), *_of_training(model, parts))
        for model in config.models
    }
    return [
        TrainCell(model, seed, _key(f"{model.name}-{seed}", data, *content[model.name], seed))
        for seed in config.seeds
        for model in config.models
    ]


def shards(count: int, size: int) -> list[tuple[int, int]]:
    """First and one past the last of `count` images, in parts of `size`."""
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def explain_cells(
    config: RunConfig, parts: RunComponents, trained: Sequence[TrainCell], images: Sequence[str]
) -> Iterator[ExplainCell]:
    """One cell per network, shard of the chosen `images` (ids) and explainer, in this order."""
    for train in trained:
        for start, stop in shards(len(images), config.shard):
            yield from shard_cells(config, parts, train, images[start:stop], start)


def shard_cells(
    config: RunConfig, parts: RunComponents, train: TrainCell, ids: Sequence[str], start: int
) -> Iterator[ExplainCell]:
    """One cell per explainer, for one network and the images `ids`, of which the first is number `start`."""
    special: tuple[str, ...] = ("float16",) if config.keep_maps == "float16" else ()
    special += () if config.draws in (None, train.seed) else (f"draws {config.draws}",)
    for name, explainer in parts.explainers.items():
        label = f"{train.model.name}-{train.seed}-{name}-{start:05d}"
        key = _key(label, train.key, *_content(explainer), list(ids), start, *special)
        yield ExplainCell(train, name, start, start + len(ids), key, config.draws)


def score_cells(parts: RunComponents, explain: ExplainCell, transforms: Sequence[MapTransform] = ()) -> list[ScoreCell]:
    """One cell per metric, and one for each transform and metric that reads nothing but the map.

    Metrics that call the explainer again are not asked about one that needs masks: there are none for other images.
    """
    fixed = parts.explainers[explain.explainer].needs_masks
    plain = [
        ScoreCell(explain, name, _key(f"{explain.key}-{name}", explain.key, *_content(metric)))
        for name, metric in parts.metrics.items()
        if not (fixed and metric.needs_explain)
    ]
    code = module_digest(map_transforms.__name__)
    changed = [
        ScoreCell(explain, name, _key(label, explain.key, *_content(metric), transform.name, code), transform)
        for transform in transforms
        for name, metric in parts.metrics.items()
        if transform.applies_to(metric)
        for label in [f"{explain.key}-{transform.name}-{name}"]
    ]
    return plain + changed


def _training_code(model: ModelConfig, parts: RunComponents) -> str:
    """Hash the code that builds and trains a network: LAP's and the terms' only where the network has them."""
    roots = [TRAINING, type(parts.dataset).__module__]
    roots += [] if model.rival is None else [rivals[model.rival.name].__module__]
    modules = dependencies(tuple(roots), without=("interp_core.lap", "interp_core.knowledge")) | set(BUILDING)
    if model.lap:
        terms = {type(term).__module__ for stage in parts.training_stages[model.name] for term in stage.terms}
        modules |= dependencies((*LAP, *sorted(terms)))
    return code_digest(modules)


def _of_model(model: ModelConfig) -> object:
    """A model's fields but for its stages, a checkpoint's content in place of its path, a rival with its code."""
    found = model.model_dump(mode="json", exclude={"stages", "explained"})
    if model.checkpoint is not None:
        found["checkpoint"] = digest_of(model.checkpoint)
    if model.rival is not None:
        found["rival"] = (model.rival.name, rival_options(model))
    return found


def _of_training(model: ModelConfig, parts: RunComponents) -> tuple[object, ...]:
    """How it is trained; of one stage without regions, however it is written, recipe and terms alone."""
    stages = parts.training_stages[model.name]
    if len(stages) == 1 and not stages[0].regions:
        return stages[0].recipe, stages[0].terms
    code = module_digest("benchmarks.run.region_masks") if any(stage.regions for stage in stages) else None
    return ([(stage.recipe, stage.terms, stage.regions) for stage in stages], code)


def _content(part: BaseModel) -> tuple[object, ...]:
    """Name and parameters of an explainer or metric, and its code."""
    named = {"name": getattr(part, "name", ""), **part.model_dump(mode="json", exclude=BATCHING_FIELDS)}
    # LAP's code is part of the key of every LAP network, and does nothing in others.
    return named, code_digest(dependencies((type(part).__module__,), without=("interp_core.lap",)))


def _key(label: str, *content: object) -> str:
    """Readable in front, content behind."""
    head = label if len(label) <= 80 else label[:80]
    return f"{head}-{digest(VERSION, *content)[:10]}"
