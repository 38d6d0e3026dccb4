"""Resolve the stages in which a network is trained: one `fit` after another, each with its own masks.

    stages:
      - {}                                                                   # the run's recipe and terms
      - recipe: {mode: frozen, epochs: 3}
        terms: [{name: forbid, region: tag}]
        regions: {tag: {of: tag, share: 0.01}}

A stage that does not fit the network is refused before anything is trained.

Known limit: the masks of a data set are known only when its training images are loaded, so a wrong `of` is reported
then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.config.errors import ConfigError
from benchmarks.config.models import ModelConfig, RegionSource, Stage
from benchmarks.rivals.energy_loss import REGIONS
from interp_core.knowledge import Term, required_regions
from interp_core.training import Recipe


@dataclass(frozen=True)
class TrainingStage:
    """A stage of a training, with defaults of the run filled in.

    Attributes:
        recipe: training recipe.
        terms: knowledge terms; none for networks without LAP.
        regions: sources of masks, by name.
    """

    recipe: Recipe
    terms: tuple[Term, ...] = ()
    regions: Mapping[str, RegionSource] = field(default_factory=dict)


def training_stages(model: ModelConfig, recipe: Recipe, terms: Sequence[Term]) -> tuple[TrainingStage, ...]:
    """Return the stages of the training of a network.

    Args:
        model: the network.
        recipe: recipe of the run.
        terms: knowledge terms of the run.

    Raises:
        ConfigError: a stage does not fit the network.
    """
    stages = []
    for number, stage in enumerate(model.stages or (Stage(),), 1):
        stage_terms = terms if stage.terms is None else [choice.build() for choice in stage.terms]
        resolved = TrainingStage(stage.recipe or recipe, tuple(stage_terms) if model.lap else (), stage.regions)
        problem = _mismatch(model, stage, resolved)
        if problem is not None:
            where = f"model {model.name}" + (f", stage {number}" if model.stages else "")
            raise ConfigError(f"{where}: {problem}")
        stages.append(resolved)
    return tuple(stages)


def training_effort(stages: Sequence[TrainingStage]) -> float:
    """Estimate how long a training takes, in passes of all training images."""
    return sum(stage.recipe.epochs * (1 + sum(term.passes for term in stage.terms)) for stage in stages)


def _mismatch(model: ModelConfig, stage: Stage, resolved: TrainingStage) -> str | None:
    """Return the reason why a stage does not fit the network, if there is one."""
    is_plain = not model.lap and model.rival is None
    if is_plain and stage.regions:
        return "regions are for LAP networks and rivals: set lap: true or rival, or leave regions out"
    if not model.lap and stage.terms is not None:
        return "terms are for LAP networks: set lap: true, or leave terms out"
    if resolved.recipe.epochs == 0:
        return None
    if is_plain and resolved.recipe.mode == "frozen":
        return "in mode frozen a plain network has nothing to train: use mode finetune, lap: true or a rival"
    unknown_regions = sorted(set(stage.regions) - set(REGIONS)) if model.rival is not None else []
    if unknown_regions:
        return f"rivals know the regions {' and '.join(REGIONS)}, not {', '.join(unknown_regions)}: rename them"
    missing_regions = sorted(set(required_regions(resolved.terms)) - set(stage.regions))
    if missing_regions:
        return (
            f"terms use regions that the stage does not have: {', '.join(missing_regions)}; "
            f"add regions: {{{missing_regions[0]}: {{of: mask}}}}"
        )
    return None
