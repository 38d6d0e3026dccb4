"""Build the networks that are timed: plain, and the same with LAP, attention working, weights drawn from a seed."""

from __future__ import annotations

import copy
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.config.load import load_config, preset_path
from benchmarks.config.models import ModelConfig
from benchmarks.run.networks import build_network
from interp_core.lap.attach import LapModel, attach
from interp_core.training import initialise_attention

SEED = 0
PRESET = "digits"
# Any value other than 0 costs the same. At 2 the attention differs clearly from the mean.
SHARPNESS = 2.0
QUICK_SIZE = 64
MEMORY_FORMATS = {"channels_last": torch.channels_last, "contiguous": torch.contiguous_format}


# Compared by identity, since a ModelConfig cannot be hashed.
@dataclass(frozen=True, eq=False)
class Net:
    """A network and its input.

    Attributes:
        name: its name in tables.
        model: backbone, its arguments and those of `attach`.
        classes: K.
        image_size: side in pixels.
        batch: images in a forward pass and a training step.
        few: images given to an explainer.
    """

    name: str
    model: ModelConfig
    classes: int
    image_size: int
    batch: int
    few: int

    def size(self, quick: bool) -> int:
        """Return the side of the images in pixels, at most `QUICK_SIZE` for a quick check."""
        return min(self.image_size, QUICK_SIZE) if quick else self.image_size

    def describe(self) -> str:
        """Describe the network in one line."""
        arguments = "".join(f", {key}={value}" for key, value in self.model.kwargs.items())
        return f"{self.model.backbone}{arguments}, {self.classes} classes, {self.image_size} px"


@dataclass
class Twins:
    """A plain network, its copy with LAP, and a batch, on one device and in one memory format."""

    plain: nn.Module
    lap: LapModel
    images: Tensor
    targets: Tensor


def _timm_net(name: str) -> Net:
    return Net(name, ModelConfig(name=name, backbone=name, lap=True), classes=1000, image_size=224, batch=8, few=1)


def _preset_net() -> Net:
    config = load_config(preset_path(PRESET))
    dataset: Any = config.dataset.build()
    model = next(model for model in config.models if model.lap)
    name, size = f"{model.backbone} ({PRESET})", int(dataset.image_size)
    return Net(name, model, len(dataset.classes), size, batch=64, few=2)


def is_default_format(memory_format: str) -> bool:
    """Return whether the default recipe trains in this memory format, for which the limits on ratios hold."""
    return (memory_format == "channels_last") == load_config(preset_path(PRESET)).recipe.channels_last


NETS = (_timm_net("resnet18"), _timm_net("mobilenetv2_100"), _preset_net())


@cache
def _networks(net: Net, refine: bool) -> tuple[nn.Module, LapModel]:
    plain = build_network(net.model.model_copy(update={"lap": False}), net.classes, SEED).eval()
    options: dict[str, Any] = {"refine": True, **net.model.attach} if refine else {**net.model.attach, "refine": False}
    lap = attach(copy.deepcopy(plain), **options)
    initialise_attention(lap, SHARPNESS)
    return plain, lap


def twins(net: Net, memory_format: str, device: str, *, images: int, size: int, refine: bool = False) -> Twins:
    """Return fresh copies in evaluation mode, and `images` random images of `size` pixels with random targets.

    With `refine` LAP has the decoders of a second map.
    """
    plain, lap = copy.deepcopy(_networks(net, refine))
    layout = MEMORY_FORMATS[memory_format]
    for model in (plain, lap):
        model.to(device).to(memory_format=layout)  # type: ignore[call-overload]
    generator = torch.Generator().manual_seed(SEED)
    batch = torch.randn(images, lap.info.in_channels, size, size, generator=generator)
    targets = torch.randint(net.classes, (images,), generator=generator)
    return Twins(plain, lap, batch.to(device, memory_format=layout), targets.to(device))
