"""How one network of a run is trained: in stages, one `fit` after another, each with masks of a few images.

    stages:
      - {}                                                                   # the run's recipe and terms
      - recipe: {mode: frozen, epochs: 3}
        terms: [{name: forbid, region: tag}]
        regions: {tag: {of: tag, share: 0.01}}

What does not fit the network is refused before anything is trained. Known limit: which masks a data set has is known
once its training images are there, so that a wrong `of` is told then.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from benchmarks.config.errors import ConfigError
from benchmarks.config.models import ModelConfig, RegionSource, Stage
from benchmarks.rivals.energy_loss import REGIONS
from interp_core.knowledge import Term, required_regions, terms
from interp_core.training import Recipe


@dataclass(frozen=True)
class TrainingStage:
    """A stage of a network with all that it takes from the run filled in.

    Attributes:
        recipe: how.
        terms: knowledge; none where the network takes none.
        regions: where masks come from, by name.
    """

    recipe: Recipe
    terms: tuple[Term, ...] = ()
    regions: Mapping[str, RegionSource] = field(default_factory=dict)


def training_stages(model: ModelConfig, recipe: Recipe, knowledge: Sequence[Term]) -> tuple[TrainingStage, ...]:
    """How a network is trained.

    Args:
        model: the network.
        recipe: the run's.
        knowledge: the run's terms.

    Raises:
        UnknownNameError: no such term.
        ConfigError: a parameter of a term is wrong, or a stage does not fit the network.
    """
    found = []
    for number, stage in enumerate(model.stages or (Stage(),), 1):
        own = knowledge if stage.terms is None else [choice.build(terms) for choice in stage.terms]
        made = TrainingStage(stage.recipe or recipe, tuple(own) if model.lap else (), stage.regions)
        problem = _problem(model, stage, made)
        if problem is not None:
            where = f"model {model.name}" + (f", stage {number}" if model.stages else "")
            raise ConfigError(f"{where}: {problem}")
        found.append(made)
    return tuple(found)


def _problem(model: ModelConfig, stage: Stage, made: TrainingStage) -> str | None:
    """What does not fit the network."""
    plain = not model.lap and model.rival is None
    if plain and stage.regions:
        return "regions are for LAP networks and rivals: set lap: true or rival, or leave regions out"
    if not model.lap and stage.terms is not None:
        return "terms are for LAP networks: set lap: true, or leave terms out"
    if made.recipe.epochs == 0:
        return None
    if plain and made.recipe.mode == "frozen":
        return "in mode frozen a plain network has nothing that learns: use mode finetune, lap: true or a rival"
    other = sorted(set(stage.regions) - set(REGIONS)) if model.rival is not None else []
    if other:
        return f"rivals know the regions {' and '.join(REGIONS)}, not {', '.join(other)}: rename them"
    missing = sorted(set(required_regions(made.terms)) - set(stage.regions))
    if missing:
        return (
            f"terms speak of regions that the stage does not have: {', '.join(missing)}; "
            f"add regions: {{{missing[0]}: {{of: mask}}}}"
        )
    return None
