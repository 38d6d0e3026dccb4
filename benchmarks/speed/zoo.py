"""Thirty of the most used convolutional networks of timm, each beside its twin with LAP, and what is measured of them.

How they were chosen: timm's hub counts downloads per set of weights, the counts move from month to month and older ones
cannot be looked up, so the list is drawn up by hand, once, and is fixed. A network is in if (1) it classifies with
convolutions, (2) timm's page on the hub has ImageNet-1k weights for it, so that people do use it, and (3) it is what
papers, courses and timm's own guides name as the backbone of its family, in the sizes seen most. Six ResNets and their
kin come first, then the mobile networks. The smallest are in on purpose: LAP's cost is nearly the same for every
network, so they have the highest ratios. That no network outside the list is used more is not claimed, and one is out
that would be in: torch 2.15 on a CPU corrupts memory when it trains the first layer of RepVGG in channels_last (a 1x1
convolution with stride 2 on 3 channels).

Limits: random weights; their values change no operation but the top classes. The statistics of batch normalisation are
taken from the batch itself, since at their start values activations of deep networks reach 1e11 or 1e-8.
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
from benchmarks.run.networks import build
from benchmarks.speed.networks import QUICK_SIZE, SEED, SHARPNESS, Twins
from benchmarks.speed.pairs import Work
from benchmarks.speed.table import SpeedError
from interp_core.errors import UnknownNameError
from interp_core.lap.attach import attach
from interp_core.training import DEFAULT_TERMS, Recipe, start_attention, step_losses

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
# timm's own tiny networks for tests.
QUICK_ZOO = ("test_resnet", "test_efficientnet")
CLASSES = 1000
LARGEST = 224
# Where a GPU has too little to do, the time it takes to start its operations is all that is seen.
BATCH = {"cpu": 8, "cuda": 64}
QUICK_BATCH = 2

TIMED = ("forward", "explain", "training step")
MEMORY = {"forward memory": "forward", "training memory": "training step"}
KINDS = ("forward", "explain", "forward memory", "training step", "training memory")


@dataclass(frozen=True)
class Variant:
    """How both sides are run.

    Attributes:
        name: how tables call it.
        half: under autocast to bfloat16.
        backend: of `torch.compile`; None to run eagerly.
    """

    name: str
    half: bool = False
    backend: str | None = None

    def autocast(self, device: str) -> AbstractContextManager[Any]:
        """The precision to compute in."""
        return torch.autocast(torch.device(device).type, dtype=torch.bfloat16, enabled=self.half)

    def compiled(self, function: Callable[..., Any]) -> Callable[..., Any]:
        """`function`, compiled where the variant is."""
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


def words(given: str | None) -> list[str]:
    """Names given with commas between them."""
    return [word.strip() for word in (given or "").split(",") if word.strip()]


def chosen_nets(wanted: Sequence[str] | None, *, quick: bool) -> tuple[str, ...]:
    """Networks to measure: those wanted, or all of the list.

    Raises:
        UnknownNameError: timm has no such network.
    """
    if not wanted:
        return QUICK_ZOO if quick else ZOO
    import timm

    for name in wanted:
        if not timm.is_model(name):
            raise UnknownNameError("backbone", name, timm.list_models())
    return tuple(wanted)


def chosen_variants(wanted: Sequence[str] | None, device: str) -> tuple[Variant, ...]:
    """Variants to measure: those wanted, or those that matter on the device.

    Raises:
        UnknownNameError: there is no such variant.
    """
    names = wanted or DEFAULT_VARIANTS[torch.device(device).type]
    for name in names:
        if name not in VARIANTS:
            raise UnknownNameError("variant", name, VARIANTS)
    return tuple(VARIANTS[name] for name in names)


def batch_size(device: str, *, quick: bool) -> int:
    """Images in a batch."""
    return QUICK_BATCH if quick else BATCH[torch.device(device).type]


@lru_cache(maxsize=1)
def zoo_twins(name: str, device: str, *, quick: bool) -> Twins:
    """A network and its copy with LAP at work, channels last, with a batch at its own size or 224 px if that is less.

    The last pair is kept, so ask network by network.
    """
    _runner.cache_clear()
    torch.compiler.reset()  # else networks compiled before count towards the limit of recompilations
    plain = build(ModelConfig(name=name, backbone=name), CLASSES, SEED).eval()
    size = side(plain.pretrained_cfg, quick=quick)  # type: ignore[arg-type]
    generator = torch.Generator().manual_seed(SEED)
    images = torch.randn(batch_size(device, quick=quick), 3, size, size, generator=generator)
    targets = torch.randint(CLASSES, (len(images),), generator=generator)
    settle(plain, images)
    lap = attach(deepcopy(plain))
    start_attention(lap, SHARPNESS)
    for model in (plain, lap):
        model.to(device).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
    return Twins(plain, lap, images.to(device, memory_format=torch.channels_last), targets.to(device))


def side(config: Mapping[str, Any], *, quick: bool) -> int:
    """Side in pixels of the images for a network of that `pretrained_cfg`: its own, but 224 at most."""
    return min(int(config["input_size"][-1]), QUICK_SIZE if quick else LARGEST)


def settle(model: nn.Module, images: Tensor) -> None:
    """Set the statistics of batch normalisation to those of `images`; all else stays as it is."""
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


def works(pair: Twins, kind: str, variant: Variant) -> tuple[Work, Work]:
    """What is measured, of the plain network and of its twin with LAP.

    An explanation is set against a plain forward pass.

    Raises:
        SpeedError: nothing is measured under that name.
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
    raise SpeedError(f"nothing is measured under the name {kind!r}; choose from {', '.join(TIMED)}")


@lru_cache(maxsize=16)
def _runner(model: nn.Module, kind: str, variant: Variant) -> Callable[..., Any]:
    """What is called for a kind, compiled where the variant is, and only once since that takes long."""

    def answer(images: Tensor, targets: Tensor) -> tuple[Tensor, Tensor]:
        explanation = model.explain(images, targets)  # type: ignore[operator]
        return explanation.logits, explanation.map

    def total(images: Tensor, targets: Tensor) -> Tensor:
        return torch.stack(list(step_losses(model, images, targets, DEFAULT_TERMS).values())).sum()

    functions: dict[str, Callable[..., Any]] = {"forward": model, "explain": answer, "training step": total}
    return variant.compiled(functions[kind])


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
    """One step as `fit` takes it, on a batch that is there already."""
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
