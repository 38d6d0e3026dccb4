"""`fit`: train a network, and with it the meaning of its maps.

One recipe serves plain networks and LAP models, so that twins differ in nothing else. For a LAP model the knowledge
terms are added to the cross-entropy; they read maps that lie in the forward graph, so no step needs a second
derivative.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from interp_core.errors import ContractError
from interp_core.knowledge import Term, needed
from interp_core.lap.model import lap_within
from interp_core.training.callbacks import Epoch, Progress, watched
from interp_core.training.checkpoint import Checkpoint
from interp_core.training.data import Regions, Source, TrainingSet, check
from interp_core.training.devices import accelerated
from interp_core.training.loop import Run, Validation
from interp_core.training.modes import learning, start_attention, to_format
from interp_core.training.recipe import DEFAULT_TERMS, MAP_TERMS, Mode, Recipe


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
    progress: Progress = None,
    checkpoint: str | Path | None = None,
    save_every: int | None = None,
) -> list[Epoch]:
    """Train `model` in place on the device it is on, and leave it in evaluation mode.

    Args:
        model: a LAP model, a model with losses of its own (`Trainable`), or a plain network.
        images: (N, C, H, W) float, normalised; moved to the device batch by batch.
        targets: (N,) class indices, or (N, K) of 0 and 1 in floating point where an image may show several classes.
        mode: "scratch", "finetune" or "frozen", with the recipe's defaults for it; or give a recipe, which has a mode.
        recipe: how to train.
        terms: knowledge of LAP models, see `interp_core.knowledge`; by default `MAP_TERMS` in mode "frozen" for models
            that refine their maps, else `DEFAULT_TERMS`.
        regions: indices (n,) of training images and their masks (n, 1, H, W), bool or in [0, 1], by name.
        names: of the K classes, where terms name them.
        validation: images and targets to report accuracy on after each epoch, and to stop by.
        progress: called after each epoch: a function, a `Watcher` (`Bar`, `CsvLog`, `TensorBoardLog`), or several.
        checkpoint: file that a stopped training goes on from, to the same weights bit for bit; written each epoch.
        save_every: steps after which it is written within an epoch.

    Raises:
        ContractError: arguments that do not fit each other, or none of the images can be read.
        StoreError: the checkpoint is damaged or of another training.
    """
    recipe = _recipe(mode, recipe)
    if recipe.epochs == 0:
        model.eval()
        return []
    terms = default_terms(model, recipe) if terms is None else terms
    regions = regions or {}
    check(images, targets, recipe)
    _check_knowledge(model, recipe, terms, regions, validation)
    with accelerated(model, recipe.precision) as accelerator, learning(model, recipe):
        lap = lap_within(model)
        if lap is not None and recipe.start_a is not None:
            start_attention(lap, recipe.start_a)
        to_format(model, recipe)
        data = TrainingSet(images, targets, regions, recipe, accelerator.process_index, accelerator.num_processes)
        run = Run(model, data, recipe, terms, accelerator, names)
        saved = checkpoint and Checkpoint(checkpoint, _about(recipe, terms, data, accelerator.num_processes))
        with watched(progress, heard=accelerator.is_main_process) as watchers:
            run.go(validation, watchers, saved or None, save_every)
    model.eval()
    return run.history


def default_terms(model: nn.Module, recipe: Recipe) -> tuple[Term, ...]:
    """The knowledge a model is trained by where nothing is said of it."""
    lap = lap_within(model)
    refines = lap is not None and lap.refiner is not None
    return MAP_TERMS if refines and recipe.mode == "frozen" else DEFAULT_TERMS


def _recipe(mode: Mode | None, recipe: Recipe | None) -> Recipe:
    if recipe is None:
        return Recipe(mode=mode or "scratch")
    if mode is not None and mode != recipe.mode:
        raise ContractError(f"the recipe is of mode {recipe.mode!r}: give Recipe(mode={mode!r}, ...) alone")
    return recipe


def _check_knowledge(
    model: nn.Module, recipe: Recipe, terms: Sequence[Term], regions: Mapping, validation: Validation | None
) -> None:
    missing = sorted(set(needed(terms)) - set(regions)) if lap_within(model) is not None else []
    if missing:
        raise ContractError(f"terms speak of regions that are not given: {', '.join(missing)}; give fit(..., regions=)")
    if recipe.patience is not None and validation is None:
        raise ContractError("early stopping needs validation images: give fit(..., validation=), or no patience")


def _about(recipe: Recipe, terms: Sequence[Term], data: TrainingSet, world: int) -> dict[str, Any]:
    """What a training must be the same in to be gone on with."""
    plain = (str, int, float, tuple, type(None))
    return {
        "recipe": recipe.model_dump(),
        "terms": [[t.name, {k: v for k, v in t.model_dump().items() if isinstance(v, plain)}] for t in terms],
        "images": list(data.images.shape),
        "regions": sorted(data.regions),
        "number of processes": world,
    }
