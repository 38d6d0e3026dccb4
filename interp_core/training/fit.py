"""`fit`: train a LAP model or a plain network.

Plain networks and LAP models share one recipe, so that they can be compared. For a LAP model the knowledge terms are
added to the cross-entropy. They read maps that lie in the forward graph, so no step needs a second derivative.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from interp_core.errors import ContractError
from interp_core.knowledge import OwnOrder, Term, required_regions
from interp_core.lap.model import lap_within
from interp_core.training.callbacks import Epoch
from interp_core.training.checkpoint import Checkpoint
from interp_core.training.data import Regions, Source, TrainingSet, check_data
from interp_core.training.devices import start_accelerator
from interp_core.training.loop import TrainingLoop, Validation
from interp_core.training.modes import freeze_excluded, initialise_attention, memory_format, set_attention_gradient
from interp_core.training.progress import Progress, open_callbacks
from interp_core.training.recipe import DEFAULT_TERMS, MAP_TERMS, OWN_TERMS, Mode, Recipe
from interp_core.training.targets import targets_for, to_targets

OWN_SHARE = 0.125  # of the images that own_order cuts where the network learns too; all of them would triple the cost


def fit(
    model: nn.Module,
    images: Tensor | Source,
    targets: Tensor,
    *,
    mode: Mode | None = None,
    recipe: Recipe | None = None,
    terms: Sequence[Term] | None = None,
    regions: Regions | None = None,
    names: Sequence[str] = (),
    validation: Validation | None = None,
    progress: Progress = "auto",
    checkpoint: str | Path | None = None,
    save_every: int | None = None,
    memory: float | None = None,
) -> list[Epoch]:
    """Train `model` in place on the device it is on, and leave it in evaluation mode.

    Args:
        model: a LAP model, a model that defines its losses (`Trainable`), or a plain network.
        images: (N, C, H, W) float, normalised; moved to the device batch by batch.
        targets: (N,) class indices, or multi-label targets (N, K) of 0 and 1, of any type. A network with one logit
            learns (N, 1), or (N,) of 0 and 1 in floating point.
        mode: "scratch", "finetune" or "frozen", with the recipe's defaults for it; or give a recipe, which has a mode.
        recipe: settings of the training.
        terms: knowledge terms of LAP models, see `interp_core.knowledge`; by default `DEFAULT_TERMS` and, on a part of
            the images, `own_order`; in mode "frozen" `OWN_TERMS`, and `MAP_TERMS` for models with decoders.
        regions: indices (n,) of training images and their masks (n, 1, H, W), bool or in [0, 1], by name.
        names: names of the K classes, if terms use them.
        validation: images and targets for the accuracy after each epoch, and for early stopping.
        progress: called after each epoch: a function, a `Callback` (`Bar`, `CsvLog`, `TensorBoardLog`), or a list. By
            default a long training shows a bar in a terminal, and prints a line a minute elsewhere; None for nothing.
        checkpoint: file from which an interrupted training resumes, to the same weights bit for bit; written after
            each epoch.
        save_every: number of steps after which it is also written within an epoch.
        memory: GiB that the graphs of the terms' further passes may take. A frozen network passes larger batches in
            parts, to the same weights within rounding. By default 1 on the CPU, and two fifths of a GPU.

    Returns:
        The results of each epoch.

    Raises:
        ContractError: arguments that do not match, or none of the images can be read.
        DivergenceError: the loss is not finite or grows without bound, or an image holds NaN.
        StoreError: the checkpoint is damaged or belongs to another training.
    """
    recipe = _resolve_recipe(mode, recipe)
    if memory is not None and not memory > 0:
        raise ContractError(f"fit takes a memory above 0 GiB, got {memory}")
    if recipe.epochs == 0:
        model.eval()
        return []
    terms = default_terms(model, recipe) if terms is None else terms
    regions = regions or {}
    targets = targets_for(model, images, targets)
    validation = None if validation is None else (validation[0], to_targets(validation[1]))
    check_data(images, targets, recipe)
    _check_knowledge(model, recipe, terms, regions, validation)
    with (
        torch.inference_mode(False),
        torch.enable_grad(),
        start_accelerator(model, recipe.precision) as accelerator,
        freeze_excluded(model, recipe),
        set_attention_gradient(model, recipe),
        memory_format(model, recipe),
    ):
        lap = lap_within(model)
        if lap is not None and recipe.start_a is not None:
            initialise_attention(lap, recipe.start_a)
        _mark_trained(model, recipe)
        data = TrainingSet(images, targets, regions, recipe, accelerator.process_index, accelerator.num_processes)
        loop = TrainingLoop(model, data, recipe, terms, accelerator, names, memory)
        identity = _training_identity(recipe, terms, data, accelerator.num_processes)
        file = Checkpoint(checkpoint, identity) if checkpoint else None
        with open_callbacks(progress, enabled=accelerator.is_main_process) as callbacks:
            loop.run(validation, callbacks, file, save_every)
    model.eval()
    return loop.history


def _mark_trained(model: nn.Module, recipe: Recipe) -> None:
    """Record which levels' concept scores are trained."""
    lap = lap_within(model)
    if lap is not None and recipe.learn_gates:
        for block in lap.gates:
            block.trained.fill_(True)  # type: ignore[operator]


def default_terms(model: nn.Module, recipe: Recipe) -> tuple[Term, ...]:
    """Return the terms that a model is trained with by default."""
    lap = lap_within(model)
    if lap is None or recipe.mode != "frozen":
        return (*DEFAULT_TERMS, OwnOrder(share=OWN_SHARE))
    return OWN_TERMS if lap.refiner is None else (*OWN_TERMS, *MAP_TERMS)


def _resolve_recipe(mode: Mode | None, recipe: Recipe | None) -> Recipe:
    if recipe is None:
        return Recipe(mode=mode or "scratch")
    if mode is not None and mode != recipe.mode:
        raise ContractError(f"the recipe is of mode {recipe.mode!r}: give Recipe(mode={mode!r}, ...) alone")
    return recipe


def _check_knowledge(
    model: nn.Module, recipe: Recipe, terms: Sequence[Term], regions: Regions, validation: Validation | None
) -> None:
    missing = sorted(set(required_regions(terms)) - set(regions)) if lap_within(model) is not None else []
    if missing:
        raise ContractError(f"terms need regions that are not given: {', '.join(missing)}; give fit(..., regions=)")
    if recipe.patience is not None and validation is None:
        raise ContractError("early stopping needs validation images: give fit(..., validation=), or no patience")


def _training_identity(recipe: Recipe, terms: Sequence[Term], data: TrainingSet, world: int) -> dict[str, Any]:
    """Return the values that must be equal when a training is resumed."""
    plain = (str, int, float, tuple, type(None))
    return {
        "recipe": recipe.model_dump(),
        "terms": [[t.name, {k: v for k, v in t.model_dump().items() if isinstance(v, plain)}] for t in terms],
        "images": list(data.images.shape),
        "regions": sorted(data.regions),
        "number of processes": world,
    }
