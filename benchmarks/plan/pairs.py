"""Turn the planted pairs of a run into networks to train.

User and twin start from the weights of a trained network of the run and go through its training stages again, with
fewer epochs. So a pair costs a fraction of a training from scratch, and its twin classifies as well as that network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

from benchmarks.config.errors import ConfigError
from benchmarks.config.models import Normalisation
from benchmarks.config.pairs import PairConfig
from benchmarks.config.run import RunConfig
from benchmarks.plan.cells import TrainCell, further_training_key
from benchmarks.plan.components import RunComponents
from benchmarks.plan.stages import TrainingStage
from interp_core.datasets.synthetic.digits_in_scenes import DigitsInScenes
from interp_core.datasets.synthetic.digits_with_cue import DigitsWithCue

USER, TWIN = "user", "twin"
Statistics = tuple[Sequence[float], Sequence[float]]


@dataclass(frozen=True)
class PairedTraining:
    """One of the two networks of a pair, to be trained.

    Attributes:
        cell: its configuration, seed and key.
        components: those of the run, with the data and the stages of this training.
    """

    cell: TrainCell
    components: RunComponents

    @property
    def dataset(self) -> DigitsWithCue:
        """Images with the cue."""
        assert isinstance(self.components.dataset, DigitsWithCue)
        return self.components.dataset


def scored_pairs(config: RunConfig, components: RunComponents) -> tuple[PairConfig, ...]:
    """Return the pairs of a run; none if it has no metric that compares two networks.

    Raises:
        ConfigError: a pair does not fit the run.
    """
    if not any(metric.needs_twin for metric in components.metrics.values()):
        return ()
    for pair in config.pairs:
        check_pair(pair, components)
    return config.pairs


def check_pair(pair: PairConfig, components: RunComponents) -> None:
    """Check that a pair fits the networks and the data of a run.

    Raises:
        ConfigError: it does not.
    """
    if not isinstance(components.dataset, DigitsInScenes):
        raise ConfigError(
            f"pair {pair.name}: cues are planted into digits-in-scenes, and the data set is {components.dataset.name}: "
            "leave pairs out, or see interp-bench study pairs for pairs of your own"
        )
    stages = components.training_stages.get(pair.model)
    if stages is None:
        raise ConfigError(f"pair {pair.name}: no model {pair.model}; there are {', '.join(components.training_stages)}")
    if any(stage.regions for stage in stages):
        raise ConfigError(f"pair {pair.name}: the training of {pair.model} uses regions, which its images do not have")


def paired_training(
    pair: PairConfig, role: str, start: TrainCell, statistics: Statistics, components: RunComponents
) -> PairedTraining:
    """Plan the training of one network of a pair.

    Args:
        pair: its configuration.
        role: `USER` or `TWIN`.
        start: the network of the run that it starts from.
        statistics: mean and standard deviation that normalise the images of that network.
        components: of the run.
    """
    scenes = components.dataset
    assert isinstance(scenes, DigitsInScenes), "checked before"
    counts = {"train": pair.train, "val": pair.val, "test": pair.test, "confounded": False}
    agreement = pair.agreement if role == USER else 0.0
    dataset = DigitsWithCue(scenes=scenes.model_copy(update=counts), cue=pair.cue, agreement=agreement)
    stages = shortened_stages(components.training_stages[pair.model], pair.budget)
    changed = components.for_pair(dataset, pair.model, stages)
    mean, std = (tuple(float(value) for value in values) for values in statistics)
    normalise = Normalisation(mean=mean, std=std)  # type: ignore[arg-type]
    model = start.model.model_copy(update={"normalise": normalise})
    key = further_training_key(f"{pair.name}-{role}-{model.name}-{start.seed}", start, model, changed)
    return PairedTraining(TrainCell(model, start.seed, key), changed)


def shortened_stages(stages: Sequence[TrainingStage], budget: float) -> tuple[TrainingStage, ...]:
    """Return training stages with a share `budget` in (0, 1] of their epochs, rounded up."""
    recipes = [stage.recipe for stage in stages]
    epochs = [math.ceil(round(budget * recipe.epochs, 6)) for recipe in recipes]
    return tuple(
        replace(stage, recipe=stage.recipe.model_copy(update={"epochs": count}))
        for stage, count in zip(stages, epochs, strict=True)
    )
