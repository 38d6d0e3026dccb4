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
from benchmarks.config.weight_files import file_digest
from benchmarks.metrics import map_transforms
from benchmarks.metrics.map_transforms import MapTransform
from benchmarks.plan.code_digest import class_digest, code_digest, dependencies, module_digest
from benchmarks.plan.components import RunComponents
from benchmarks.rivals import rivals
from benchmarks.store.provenance import VERSION, digest

# Roots of the code that trains a network, that makes it a LAP network, and files that say how a run builds it.
TRAINING = "interp_core.training.fit"
LAP = ("interp_core.lap.attach", "interp_core.knowledge.observe")
BUILDING = ("benchmarks.run.networks", "benchmarks.run.staged_training")
BATCHING_FIELDS = {"batch_size", "internal_batch_size"}


@dataclass(frozen=True)
class TrainCell:
    """A network to train.

    Attributes:
        model: its configuration.
        seed: seed of the training.
        key: name of its files.
    """

    model: ModelConfig
    seed: int
    key: str


@dataclass(frozen=True)
class ExplainCell:
    """Maps of one explainer for one shard of images.

    Attributes:
        train: the network.
        explainer: name of the explainer.
        start: index of the first image of the shard among the selected ones.
        stop: index of the last one, plus one.
        key: name of its files.
        draws: seed of random draws; None for the seed of the training.
    """

    train: TrainCell
    explainer: str
    start: int
    stop: int
    key: str
    draws: int | None = None

    @property
    def seed(self) -> int:
        """Seed of the random draws of explainer and metrics; each shard has its own."""
        return (self.train.seed if self.draws is None else self.draws) * 100_003 + self.start


@dataclass(frozen=True)
class ScoreCell:
    """Scores of one metric for the maps of one explain cell.

    Attributes:
        explain: the maps.
        metric: name of the metric.
        key: name of its files.
        transform: transform of the maps before they are scored; None for none.
    """

    explain: ExplainCell
    metric: str
    key: str
    transform: MapTransform | None = None

    @property
    def explainer(self) -> str:
        """Name of the maps in tables, such as "lap@smooth2"."""
        name = self.explain.explainer
        return name if self.transform is None else f"{name}@{self.transform.name}"


def train_cells(config: RunConfig, components: RunComponents) -> list[TrainCell]:
    """Return one cell for each seed and model."""
    data = components.dataset.identity()
    content = {
        model.name: (_training_code(model, components), _of_model(model), *_of_training(model, components))
        for model in config.models
    }
    return [
        TrainCell(model, seed, _key(f"{model.name}-{seed}", data, *content[model.name], seed))
        for seed in config.seeds
        for model in config.models
    ]


def further_training_key(label: str, start: TrainCell, model: ModelConfig, components: RunComponents) -> str:
    """Return the key of a network that is trained on from another network of the run.

    Args:
        label: readable part of the key.
        start: the network that it starts from.
        model: its configuration.
        components: with its data and training stages.
    """
    content = _training_code(model, components), _of_model(model), *_of_training(model, components)
    return _key(label, start.key, components.dataset.identity(), *content, start.seed)


def shards(count: int, size: int) -> list[tuple[int, int]]:
    """Split `count` images into shards of `size`; return start and stop of each."""
    return [(start, min(start + size, count)) for start in range(0, count, size)]


def explain_cells(
    config: RunConfig, components: RunComponents, networks: Sequence[TrainCell], images: Sequence[str]
) -> Iterator[ExplainCell]:
    """Yield one cell for each network, shard of the selected images and explainer, in this order.

    Args:
        config: the configuration.
        components: its explainers.
        networks: cells of the networks.
        images: ids of the selected images.
    """
    for train in networks:
        for start, stop in shards(len(images), config.shard):
            yield from shard_cells(config, components, train, images[start:stop], start)


def shard_cells(
    config: RunConfig, components: RunComponents, train: TrainCell, ids: Sequence[str], start: int
) -> Iterator[ExplainCell]:
    """Yield one cell for each explainer, for one network and one shard.

    Args:
        config: the configuration.
        components: its explainers.
        train: cell of the network.
        ids: ids of the images of the shard.
        start: index of the first one among all selected images.
    """
    # Only deviations from the defaults count, so that keys of older runs stay the same.
    options: tuple[str, ...] = ("float16",) if config.keep_maps == "float16" else ()
    options += () if config.draws in (None, train.seed) else (f"draws {config.draws}",)
    for name, explainer in components.explainers.items():
        label = f"{train.model.name}-{train.seed}-{name}-{start:05d}"
        key = _key(label, train.key, *_content(explainer), list(ids), start, *options)
        yield ExplainCell(train, name, start, start + len(ids), key, config.draws)


def score_cells(
    components: RunComponents, explain: ExplainCell, transforms: Sequence[MapTransform] = ()
) -> list[ScoreCell]:
    """Return one cell for each metric, and one for each transform and metric that only reads the map.

    Metrics that call the explainer again are left out for explainers that need masks: other images have none. Metrics
    that compare two networks score pairs, and the others all other networks.
    """
    needs_masks = components.explainers[explain.explainer].needs_masks
    plain = [
        ScoreCell(explain, name, _key(f"{explain.key}-{name}", explain.key, *_content(metric)))
        for name, metric in components.metrics.items()
        if metric.needs_twin == components.is_pair and not (needs_masks and metric.needs_explain)
    ]
    code = module_digest(map_transforms.__name__)
    transformed = [
        ScoreCell(explain, name, _key(label, explain.key, *_content(metric), transform.name, code), transform)
        for transform in transforms
        for name, metric in components.metrics.items()
        if transform.applies_to(metric) and metric.needs_twin == components.is_pair
        for label in [f"{explain.key}-{transform.name}-{name}"]
    ]
    return plain + transformed


def _training_code(model: ModelConfig, components: RunComponents) -> str:
    """Hash the code that builds and trains a network: LAP's and the terms' only where the network has them."""
    roots = [TRAINING, type(components.dataset).__module__]
    roots += [] if model.rival is None else [rivals[model.rival.name].__module__]
    modules = dependencies(tuple(roots), without=("interp_core.lap", "interp_core.knowledge")) | set(BUILDING)
    if model.lap:
        terms = {type(term).__module__ for stage in components.training_stages[model.name] for term in stage.terms}
        modules |= dependencies((*LAP, *sorted(terms)))
    return code_digest(modules)


def _of_model(model: ModelConfig) -> object:
    """Return a model's fields except its stages, with the content of a checkpoint in place of its path."""
    fields = model.model_dump(mode="json", exclude={"stages", "explained"})
    if model.checkpoint is not None:
        fields["checkpoint"] = file_digest(model.checkpoint)
    if model.rival is not None:
        fields["rival"] = (model.rival.name, model.rival.build())
    return fields


def _of_training(model: ModelConfig, components: RunComponents) -> tuple[object, ...]:
    """Return the stages of a training. One stage without regions gives recipe and terms, however it is written."""
    stages = components.training_stages[model.name]
    if len(stages) == 1 and not stages[0].regions:
        return stages[0].recipe, stages[0].terms
    code = module_digest("benchmarks.run.region_masks") if any(stage.regions for stage in stages) else None
    return ([(stage.recipe, stage.terms, stage.regions) for stage in stages], code)


def _content(component: BaseModel) -> tuple[object, ...]:
    """Return name, parameters and code of an explainer or metric."""
    parameters = {"name": getattr(component, "name", ""), **component.model_dump(mode="json", exclude=BATCHING_FIELDS)}
    # LAP's code is part of the key of every LAP network, and does nothing in others.
    return parameters, class_digest(type(component), without=("interp_core.lap",))


def _key(label: str, *content: object) -> str:
    """Return a readable label followed by a hash of the content."""
    return f"{label[:80]}-{digest(VERSION, *content)[:10]}"
