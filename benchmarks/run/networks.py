"""Build the networks of a run and normalise their images."""

from __future__ import annotations

from collections.abc import Callable, Iterable

import torch
from torch import Tensor, nn

from benchmarks.config.errors import ConfigError
from benchmarks.config.models import ModelConfig
from benchmarks.config.weight_files import holds_lap, load_weights
from benchmarks.rivals import build as build_rival
from benchmarks.run.images import RunImages, Statistics
from interp_core.backbone.runtime import fast_network_of
from interp_core.backbone.timm_models import WITHOUT_WEIGHTS, create_backbone
from interp_core.datasets.files.resize import timm_preprocessing
from interp_core.lap.attach import LapModel, attach

FindStatistics = Callable[[nn.Module], Statistics]


class NormalisedNetwork(nn.Module):
    """A network that takes images in [0, 1], run by its fastest engine, without gradient.

    Args:
        network: takes normalised images.
        statistics: mean and standard deviation that normalise them.
    """

    mean: Tensor
    std: Tensor

    def __init__(self, network: nn.Module, statistics: Statistics) -> None:
        super().__init__()
        self.network = network
        for name, values in zip(("mean", "std"), statistics, strict=True):
            self.register_buffer(name, torch.tensor(values)[:, None, None], persistent=False)
        self.to(next(network.parameters()).device)

    def forward(self, images: Tensor) -> Tensor:
        """Return logits (N, K)."""
        normalised = (images - self.mean) / self.std
        return fast_network_of(self.network, normalised)(normalised)


def build_network(
    model: ModelConfig, classes: int, seed: int, *, weights: bool = True, statistics: FindStatistics | None = None
) -> nn.Module:
    """Build a network with the weights of its checkpoint, else timm's pretrained ones, else random ones.

    Args:
        model: what to build.
        classes: number of classes.
        seed: of random weights.
        weights: load trained weights; False if all weights are about to be replaced.
        statistics: returns what normalises the images of a backbone, for rivals that need it; None for timm's.

    Raises:
        ConfigError: timm or attach does not take the arguments, or the checkpoint does not fit.
        BackboneError: LAP or the rival does not support this backbone.
    """
    torch.manual_seed(seed)
    arguments = {"num_classes": classes, **model.kwargs, **({} if weights else WITHOUT_WEIGHTS)}
    try:
        backbone = create_backbone(model.backbone, **arguments)
        is_lap_file = model.lap and model.checkpoint is not None and holds_lap(model.checkpoint)
        if model.checkpoint is not None and weights and not is_lap_file:
            load_weights(backbone, model.checkpoint)
        if model.rival is not None:
            return build_rival(model.rival.name, backbone, model.rival.build(), statistics and statistics(backbone))
        if not model.lap:
            return backbone
        lap = attach(backbone, **model.attach)
        if model.checkpoint is not None and weights and is_lap_file:
            load_weights(lap, model.checkpoint)
        return freeze_for_ablation(lap, model.fixed)
    except (TypeError, AssertionError, ValueError) as error:
        raise ConfigError(f"model {model.name}: {model.backbone} cannot be made: {error}") from error


def freeze_for_ablation(lap: LapModel, fixed: Iterable[str]) -> LapModel:
    """Switch parts of LAP off for an ablation: their sharpness `a` is 0 and does not learn.

    Args:
        lap: not trained yet.
        fixed: "a" for attention in all blocks; "gates" for attention and scores of all blocks below the head.
    """
    for name in fixed:
        blocks = lap.gates if name == "gates" else (*lap.gates, lap.head)
        if name == "gates":
            lap.gates.requires_grad_(False)
        for block in blocks:
            block.a.requires_grad_(False).zero_()  # type: ignore[union-attr, operator]
    return lap


def statistics_for(model: ModelConfig, network: nn.Module, images: RunImages) -> Statistics:
    """Return mean and standard deviation that normalise the images of a network.

    Args:
        model: its configuration, which may say them.
        network: a network with trained weights gets what those were trained with, unless the model says otherwise.
        images: any other network gets the statistics of the training images.
    """
    is_pretrained = model.checkpoint is not None or bool(model.kwargs.get("pretrained"))
    choice = model.normalise or ("backbone" if is_pretrained else "data")
    if choice == "data":
        return images.statistics
    if choice == "backbone":
        preprocessing = timm_preprocessing(getattr(network, "backbone", network))
        return preprocessing.mean, preprocessing.std
    return choice.mean, choice.std
