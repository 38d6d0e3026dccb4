"""Measure what further passes of a frozen network cost, and choose how many images they hold at once.

Knowledge terms pass further versions of a batch through the network, whose graphs hold every activation. For
MobileNetV2 at 224 pixels that is 0.1 GB an image and pass. Where the graphs of a batch take more than a budget, terms
work in parts, see `interp_core.knowledge.in_parts`. Weights are then the same within rounding. Smaller batches are
passed as a whole, so that their results do not depend on the budget.

The pass that is measured is also timed, which says how long a training will take before it begins.

Limits: only networks whose rows do not depend on each other, which are frozen ones in evaluation mode. Activations of
the recorded pass, which has no graph there, and of a backward pass come on top of the budget.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.autograd.graph import saved_tensors_hooks

from interp_core.knowledge import Term
from interp_core.lap.model import lap_within
from interp_core.training.recipe import Recipe

GIB = 2**30
CPU_BUDGET = 1.0  # in GiB
GPU_SHARE = 0.4  # of the device's memory
FORWARD = 0.4  # time of a recorded pass, as a share of that of a pass with its gradient


@dataclass(frozen=True)
class PassCost:
    """Cost of one image in a pass with its gradient.

    Attributes:
        memory: bytes of its graph.
        seconds: time forward and back.
    """

    memory: float
    seconds: float


def has_independent_rows(model: nn.Module, recipe: Recipe) -> bool:
    """Return whether training leaves the network in evaluation mode, where no image affects another."""
    lap = lap_within(model)
    if lap is None or recipe.precision == "fp16":  # half a gradient needs the scaled loss
        return False
    return not any(parameter.requires_grad for parameter in (*lap.backbone.parameters(), *lap.gates.parameters()))


def measure_pass(logits_of: Callable[[Tensor], Tensor], shape: Sequence[int], device: torch.device) -> PassCost:
    """Measure a pass of noise with the gradient of the image.

    Args:
        logits_of: from images to logits.
        shape: (C, H, W) of the images.
        device: of the images.
    """
    few, many = (_graph_size(logits_of, _noise(count, shape, device)) for count in (1, 2))
    start = time.perf_counter()
    images = _noise(2, shape, device)
    torch.autograd.grad(logits_of(images).sum(), images)
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return PassCost(max(1, many - few), (time.perf_counter() - start) / len(images))


def choose_part(cost: PassCost, images: int, terms: Sequence[Term], budget: float) -> int | None:
    """Return how many images terms hold at once; None where the graphs of all fit.

    Args:
        cost: of an image in a pass.
        images: images of one process in a step.
        terms: of the training.
        budget: for their graphs, in GiB.
    """
    passes = sum(term.passes for term in terms)
    fitting = int(budget * GIB / cost.memory)
    return None if passes * images <= fitting else max(1, min(images, fitting))


def default_budget(device: torch.device) -> float:
    """Return the memory in GiB that graphs of further passes may take by default."""
    if device.type != "cuda":
        return CPU_BUDGET
    return GPU_SHARE * torch.cuda.get_device_properties(device).total_memory / GIB


def seconds_per_image(cost: PassCost, terms: Sequence[Term]) -> float:
    """Estimate the time of one image in a step."""
    return cost.seconds * (FORWARD + sum(term.passes for term in terms))


def _noise(count: int, shape: Sequence[int], device: torch.device) -> Tensor:
    noise = torch.randn(count, *shape, generator=torch.Generator().manual_seed(0)).to(device)
    return noise.contiguous(memory_format=torch.channels_last).requires_grad_()


def _graph_size(logits_of: Callable[[Tensor], Tensor], images: Tensor) -> int:
    """Return the bytes that the graph of a pass holds, each storage once."""
    sizes: dict[int, int] = {}

    def count(tensor: Tensor) -> Tensor:
        storage = tensor.untyped_storage()
        sizes[storage.data_ptr()] = storage.nbytes()
        return tensor

    with torch.enable_grad(), saved_tensors_hooks(count, lambda tensor: tensor):
        logits = logits_of(images)
        total = sum(sizes.values())
    torch.autograd.grad(logits.sum(), images)
    return total
