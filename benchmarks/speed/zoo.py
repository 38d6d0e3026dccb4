"""List thirty of the most used convolutional networks of timm, and build each beside its twin with LAP.

How they were chosen: timm's hub counts downloads per set of weights. These counts change from month to month and older
ones cannot be looked up, so the list was drawn up by hand, once, and is fixed. A network is in the list if

1. it classifies with convolutions,
2. timm's page on the hub has ImageNet-1k weights for it, so that people do use it, and
3. papers, courses and timm's own guides name it as the backbone of its family, in the sizes seen most.

Six ResNets and their kin come first, then the mobile networks. The smallest are in on purpose: LAP's cost is nearly the
same for every network, so they have the highest ratios. We do not claim that no network outside the list is used more.
RepVGG is left out although it qualifies: torch 2.15 on a CPU corrupts memory when it trains RepVGG's first layer in
channels_last (a 1x1 convolution with stride 2 on 3 channels).

Known limits: weights are random; their values change no operation except the choice of top classes. The statistics of
batch normalisation are taken from the batch itself, since at their start values activations of deep networks reach
1e11 or 1e-8.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from copy import deepcopy
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.config.models import ModelConfig
from benchmarks.run.networks import build_network
from benchmarks.speed.networks import QUICK_SIZE, SEED, SHARPNESS, Twins
from benchmarks.speed.pairs import Work
from benchmarks.speed.table import SpeedError
from interp_core.errors import UnknownNameError
from interp_core.lap.attach import attach
from interp_core.training import DEFAULT_TERMS, Recipe, initialise_attention, step_losses

ZOO: tuple[str, ...] = (
    "resnet18",
    "resnet34",
    "resnet50",
    "resnet101",
    "resnet152",
    "resnet50d",
    "resnext50_32x4d",
    "wide_resnet50_2",
    "seresnet50",
    "regnety_032",
    "efficientnet_b0",
    "efficientnet_b3",
    "tf_efficientnetv2_s",
    "mobilenetv2_100",
    "mobilenetv3_small_100",
    "mobilenetv3_large_100",
    "mobilenetv4_conv_small",
    "convnext_tiny",
    "convnext_small",
    "convnext_base",
    "convnextv2_tiny",
    "densenet121",
    "vgg16_bn",
    "inception_v3",
    "ghostnet_100",
    "dla34",
    "dm_nfnet_f0",
    "lcnet_050",
    "rexnet_100",
    "hrnet_w18",
)
# Tiny networks that timm ships for tests.
QUICK_ZOO = ("test_resnet", "test_efficientnet")
CLASSES = 1000
LARGEST = 224
# With a smaller batch a GPU only shows the time it takes to launch its operations.
BATCH = {"cpu": 8, "cuda": 64}
QUICK_BATCH = 2

TIMED = ("forward", "explain", "training step")
MEMORY = {"forward memory": "forward", "training memory": "training step"}
KINDS = ("forward", "explain", "forward memory", "training step", "training memory")


@dataclass(frozen=True)
class Variant:
    """Precision and compilation of both sides.

    Attributes:
        name: its name in tables.
        half: run under autocast to bfloat16.
        backend: backend of `torch.compile`, or None to run eagerly.
    """

    name: str
    half: bool = False
    backend: str | None = None

    def autocast(self, device: str) -> AbstractContextManager[Any]:
        """Return the context that sets the precision."""
        return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=self.half)

    def compile(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """Compile `function` if the variant has a backend."""
        return function if self.backend is None else torch.compile(function, backend=self.backend)


VARIANTS = {
    variant.name: variant
    for variant in (
        Variant("float32"),
        Variant("bfloat16", half=True),
        Variant("float32-compiled", backend="inductor"),
        Variant("bfloat16-compiled", half=True, backend="inductor"),
    )
}
DEFAULT_VARIANTS = {"cpu": ("float32",), "cuda": ("bfloat16", "bfloat16-compiled")}


def split_names(text: str | None) -> list[str]:
    """Split names at commas."""
    return [name.strip() for name in (text or "").split(",") if name.strip()]


def select_nets(names: Sequence[str] | None, *, quick: bool) -> tuple[str, ...]:
    """Return the networks to measure: those named, or all of the list.

    Raises:
        UnknownNameError: timm has no such network.
    """
    if not names:
        return QUICK_ZOO if quick else ZOO
    import timm

    for name in names:
        if not timm.is_model(name):
            raise UnknownNameError("backbone", name, timm.list_models())
    return tuple(names)


def select_variants(names: Sequence[str] | None, device: str) -> tuple[Variant, ...]:
    """Return the variants to measure: those named, or the default ones of the device.

    Raises:
        UnknownNameError: there is no such variant.
    """
    names = names or DEFAULT_VARIANTS[torch.device(device).type]
    for name in names:
        if name not in VARIANTS:
            raise UnknownNameError("variant", name, VARIANTS)
    return tuple(VARIANTS[name] for name in names)


def batch_size(device: str, *, quick: bool) -> int:
    """Return the number of images in a batch."""
    return QUICK_BATCH if quick else BATCH[torch.device(device).type]


@lru_cache(maxsize=1)
def zoo_twins(name: str, device: str, *, quick: bool) -> Twins:
    """Build a network, its copy with LAP at work, and a batch, channels last.

    Images have the network's own size, or 224 px if that is smaller. Only the last pair is cached, so call this network
    by network.
    """
    _runner.cache_clear()
    torch.compiler.reset()  # networks compiled earlier would count towards the limit of recompilations
    plain = build_network(ModelConfig(name=name, backbone=name), CLASSES, SEED).eval()
    size = image_side(plain.pretrained_cfg, quick=quick)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(SEED)
    images = torch.randn(batch_size(device, quick=quick), 3, size, size, generator=generator)
    targets = torch.randint(CLASSES, (len(images),), generator=generator)
    settle_batch_norms(plain, images)
    lap = attach(deepcopy(plain))
    initialise_attention(lap, SHARPNESS)
    for model in (plain, lap):
        model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Twins(plain, lap, images.to(device, memory_format=torch.channels_last), targets.to(device))


def image_side(config: Mapping[str, Any], *, quick: bool) -> int:
    """Return the side of the images in pixels for a network's `pretrained_cfg`: its own, at most 224."""
    return min(int(config["input_size"][-1]), QUICK_SIZE if quick else LARGEST)


def settle_batch_norms(model: nn.Module, images: Tensor) -> None:
    """Set the statistics of batch normalisation to those of `images`, and change nothing else."""
    norms = [module for module in model.modules() if isinstance(module, nn.modules.batchnorm._BatchNorm)]
    momenta = [norm.momentum for norm in norms]
    for norm in norms:
        norm.momentum = 1.0
        norm.train()
    with torch.no_grad():
        model(images)
    for norm, momentum in zip(norms, momenta, strict=True):
        norm.momentum = momentum
        norm.eval()


def workloads(pair: Twins, kind: str, variant: Variant) -> tuple[Work, Work]:
    """Return the work of the plain network and of its twin with LAP.

    An explanation is compared with a plain forward pass.

    Raises:
        SpeedError: unknown kind.
    """
    for model in (pair.plain, pair.lap):
        model.train(kind == "training step")
        model.zero_grad(set_to_none=True)
    if kind == "forward":
        return _forward(pair.plain, pair.images, variant), _forward(pair.lap, pair.images, variant)
    if kind == "explain":
        return _forward(pair.plain, pair.images, variant), _explain(pair, variant)
    if kind == "training step":
        return _step(pair.plain, pair, variant), _step(pair.lap, pair, variant)
    raise SpeedError(f"unknown kind of cost {kind!r}; choose from {', '.join(TIMED)}")


@lru_cache(maxsize=16)
def _runner(model: nn.Module, kind: str, variant: Variant) -> Callable[..., Any]:
    """Return the function to time, compiled if the variant is; cached, since compilation takes long."""

    def explain(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        explanation = model.explain(images, targets)  # type: ignore[operator]
        return explanation.logits, explanation.map

    def total_loss(images: Tensor, targets: Tensor) -> Tensor:
        return torch.stack(list(step_losses(model, images, targets, DEFAULT_TERMS).values())).sum()

    functions: dict[str, Callable[..., Any]] = {"forward": model, "explain": explain, "training step": total_loss}
    return variant.compile(functions[kind])


def _forward(model: nn.Module, images: Tensor, variant: Variant) -> Work:
    run, device = _runner(model, "forward", variant), images.device.type

    def forward() -> Tensor:
        with torch.no_grad(), variant.autocast(device):
            return run(images)

    return forward


def _explain(pair: Twins, variant: Variant) -> Work:
    run, device = _runner(pair.lap, "explain", variant), pair.images.device.type

    def explain() -> tuple[Tensor, Tensor]:
        with torch.no_grad(), variant.autocast(device):
            return run(pair.images, pair.targets)

    return explain


def _step(model: nn.Module, pair: Twins, variant: Variant) -> Work:
    """Return one training step as `fit` takes it, on a batch in memory."""
    recipe, device = Recipe(), pair.images.device.type
    optimizer = torch.optim.AdamW(model.parameters(), lr=recipe.learning_rate, weight_decay=recipe.weight_decay)
    run = _runner(model, "training step", variant)

    def step() -> None:
        with variant.autocast(device):
            loss = run(pair.images, pair.targets)
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()

    return step
