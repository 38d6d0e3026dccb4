"""Load both networks of a pair from files, and fit LAP on them.

LAP is fitted on frozen networks, so that they decide as before. The network's own answers are the targets of the fit.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_model, save_model
from torch import Tensor, nn

from benchmarks.config.models import ModelConfig
from benchmarks.config.weight_files import file_digest
from benchmarks.plan.code_digest import code_digest, dependencies
from benchmarks.plan.stages import training_stages
from benchmarks.run.networks import build_network
from benchmarks.store.provenance import digest
from benchmarks.studies.pairs.files import ImageFiles
from benchmarks.studies.pairs.settings import FilePairSettings
from interp_core.training import Recipe, fit, predict


@dataclass(frozen=True)
class FittedNetwork:
    """A network with LAP, and how many images and seconds its fit took."""

    network: nn.Module
    facts: dict[str, Any]


class FitImages:
    """Images that LAP is fitted on, read when they are first used.

    Args:
        settings: of the pair.
        files: images of the pair; those that show the cue are left out.
    """

    def __init__(self, settings: FilePairSettings, files: ImageFiles) -> None:
        self.settings, self.files = settings, files

    @cached_property
    def images(self) -> Tensor:
        """Normalised images (N, 3, H, W)."""
        assert self.settings.lap is not None
        generator = torch.Generator().manual_seed(self.settings.lap.seed)
        cue_rows = set(self.files.with_masks)
        order = torch.randperm(len(self.files.rows), generator=generator).tolist()
        numbers = [number for number in order if number not in cue_rows][: self.settings.lap.images]
        return normalise(self.settings, self.files.images(numbers))


def load_plain(settings: FilePairSettings, weights: Path) -> nn.Module:
    """Load one network without LAP."""
    return build_network(settings.model(weights, lap=False), settings.classes, seed=0).float().eval()


def load_fitted(settings: FilePairSettings, role: str, weights: Path, images: FitImages, work: Path) -> FittedNetwork:
    """Attach LAP to one network and fit it, or load an earlier fit.

    Args:
        settings: of the pair.
        role: of the network in the pair.
        weights: its file.
        images: to fit on.
        work: folder of the fits.
    """
    assert settings.lap is not None
    model, begin = settings.model(weights, lap=True), time.perf_counter()
    network = build_network(model, settings.classes, settings.lap.seed).float().eval()
    if not settings.lap.stages:
        return FittedNetwork(network, {"images": 0, "seconds": 0.0})
    key = digest(settings.lap, settings.backbone, settings.size, file_digest(weights), _code(model))
    path = work / f"{settings.name}-{role}-{key}.safetensors"
    if path.exists():
        load_model(network, str(path))
    else:
        work.mkdir(parents=True, exist_ok=True)
        _fit(network, settings, weights, images.images)
        save_model(network, str(path))
    return FittedNetwork(network.eval(), {"images": settings.lap.images, "seconds": round(time.perf_counter() - begin)})


def _fit(network: nn.Module, settings: FilePairSettings, weights: Path, images: Tensor) -> None:
    assert settings.lap is not None
    answers = torch.cat([predict(network, batch) for batch in images.split(64)]).argmax(1)
    for stage in training_stages(settings.model(weights, lap=True), Recipe(mode="frozen"), ()):
        recipe = stage.recipe.model_copy(update={"seed": settings.lap.seed})
        fit(network, images, answers, recipe=recipe, terms=stage.terms, progress=None)
    network.eval()


def _code(model: ModelConfig) -> str:
    """Hash the code that a fit depends on."""
    terms = {type(term).__module__ for stage in training_stages(model, Recipe(), ()) for term in stage.terms}
    return code_digest(dependencies(("interp_core.training.fit", "interp_core.lap.attach", *sorted(terms))))


def normalise(settings: FilePairSettings, images: Tensor) -> Tensor:
    """Normalise images (N, 3, H, W) in [0, 1] as the weights need."""
    mean, std = (torch.tensor(values)[:, None, None] for values in (settings.normalise.mean, settings.normalise.std))
    return (images - mean) / std
