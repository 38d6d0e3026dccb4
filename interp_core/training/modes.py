"""Trainable parameters, learning rates and training flags of each mode."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from interp_core.backbone.flat_graph import flat
from interp_core.backbone.runtime import fast_network_of
from interp_core.errors import ContractError
from interp_core.lap.model import LapModel, lap_within
from interp_core.lap.wrappers import unwrap
from interp_core.training.recipe import Recipe


def backbone_within(model: nn.Module) -> nn.Module | None:
    """Return the network that the model is built on, its attribute `backbone`, if any."""
    backbone = getattr(unwrap(model), "backbone", None)
    return backbone if isinstance(backbone, nn.Module) else None


@contextmanager
def freeze_excluded(model: nn.Module, recipe: Recipe) -> Iterator[None]:
    """Freeze the parameters that the recipe excludes, and restore `requires_grad` on exit.

    Raises:
        ContractError: no parameter is left to learn.
    """
    excluded = [parameter for parameter in _parameters_to_freeze(model, recipe) if parameter.requires_grad]
    try:
        for parameter in excluded:
            parameter.requires_grad_(False)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ContractError(f"nothing of {type(unwrap(model)).__name__} learns in mode {recipe.mode!r}")
        yield
    finally:
        for parameter in excluded:
            parameter.requires_grad_(True)


def _parameters_to_freeze(model: nn.Module, recipe: Recipe) -> list[nn.Parameter]:
    """List the parameters that must not learn."""
    backbone, lap = backbone_within(model), lap_within(model)
    excluded: list[nn.Parameter] = []
    if recipe.mode == "frozen":
        if backbone is None:
            raise ContractError(
                f"mode 'frozen' trains the parameters outside the backbone, and {type(unwrap(model)).__name__} "
                "has no backbone: attach LAP first, or use mode 'finetune'"
            )
        excluded += backbone.parameters()
    if lap is not None and not recipe.learn_gates:
        excluded += lap.gates.parameters()
    return excluded


def constant_features_model(model: nn.Module) -> LapModel | None:
    """Return the LAP model if no trainable parameter affects its last features, else None."""
    lap = lap_within(model)
    if lap is None:
        return None
    parameters = [parameter for block in (lap.backbone, *lap.gates) for parameter in block.parameters()]
    return None if any(parameter.requires_grad for parameter in parameters) else lap


class _Features(nn.Module):
    """The network up to its last features, for a flat graph."""

    def __init__(self, lap: LapModel) -> None:
        super().__init__()
        self.lap = lap

    def forward(self, images: Tensor) -> Tensor:
        """Compute the last features."""
        return self.lap.forward_features(images)


def make_fast_logits(model: nn.Module, image: Tensor, precision: str) -> Callable[[Tensor], Tensor] | None:
    """Make a faster equivalent of a model whose features do not learn.

    The logits do not depend on the scorers of a head whose `a` is 0, and the gradient of such an `a` is 0. Then the
    graph is of the whole network. Else the head, which learns, follows a graph of the features.

    Args:
        model: a LAP model or another.
        image: (1, C, H, W), on the model's device.
        precision: precision of the recipe; in mixed precision the model itself is used.

    Returns:
        A function from images to logits, or None if the features learn or no flat graph can be made. Gradients run
        through the flat graph; a pass without one is by the fastest engine.
    """
    lap = constant_features_model(model)
    if lap is None or precision != "fp32":
        return None
    modes = [(module, module.training) for module in lap.modules()]
    lap.eval()
    trunk, head = _trunk_and_head(lap, image)
    graph, engine = (None, trunk) if trunk is None else (flat(trunk, image), fast_network_of(trunk, image))
    for module, training in modes:
        module.training = training
    if graph is None:
        return None

    def fast_logits(images: Tensor) -> Tensor:
        module = graph if torch.is_grad_enabled() or engine is trunk else engine
        return head(module(images.contiguous(memory_format=torch.channels_last)))  # type: ignore[misc]

    return fast_logits


def _trunk_and_head(lap: LapModel, image: Tensor) -> tuple[nn.Module | None, Callable[[Tensor], Tensor]]:
    """Split a model whose features do not learn into what is constant and what may learn; None where that is unclear.

    Where the logits do not learn either, all of it is constant.
    """
    if lap.head.a.item() == 0:
        return lap, lambda logits: logits
    with torch.no_grad():
        _, sizes = lap._run_backbone(image)
    # Other heads need more than the features.
    has_plain_head = lap.info.partition.layout.order == "NCHW" and not sizes
    return (_Features(lap) if has_plain_head else None), lap.forward_head


def set_training_mode(model: nn.Module, recipe: Recipe) -> None:
    """Set training mode, except for frozen modules and for batch norms with fixed statistics."""
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()
    if recipe.fixed_norms:
        for module in (backbone_within(model) or model).modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def initialise_attention(lap: LapModel, value: float) -> None:
    """Set every trainable `a` that is 0 to a start value, since its gradient vanishes at 0."""
    with torch.no_grad():
        for block in (*lap.gates, lap.head):
            if block.a == 0 and block.a.requires_grad:
                block.a.fill_(value)


@contextmanager
def set_attention_gradient(model: nn.Module, recipe: Recipe) -> Iterator[None]:
    """Let features learn through attention if the recipe says so, and restore the blocks on exit."""
    lap = lap_within(model)
    blocks = [] if lap is None else [*lap.gates, lap.head]
    before = [block.attention_gradient for block in blocks]
    try:
        for block in blocks:
            block.attention_gradient = recipe.attention_gradient
        yield
    finally:
        for block, value in zip(blocks, before, strict=True):
            block.attention_gradient = value


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict[str, Any]]:
    """Build the optimizer's parameter groups: with and without decay, the backbone apart if its rate differs."""
    backbone = backbone_within(model) or model
    slow = set(backbone.parameters()) if recipe.backbone_rate != 1 else set()
    trainable = [p for p in model.parameters() if p.requires_grad]
    groups: list[dict[str, Any]] = []
    for rate, parameters in (
        (1.0, [p for p in trainable if p not in slow]),
        (recipe.backbone_rate, [p for p in trainable if p in slow]),
    ):
        weights, vectors = [p for p in parameters if p.ndim >= 2], [p for p in parameters if p.ndim < 2]
        for params, decay in ((weights, recipe.weight_decay), (vectors, 0.0)):
            groups.append({"params": params, "weight_decay": decay, "lr": recipe.learning_rate * rate})
    return [group for group in groups if group["params"]]


def set_memory_format(model: nn.Module, recipe: Recipe) -> None:
    """Convert the weights to the memory format of the recipe."""
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)


@contextmanager
def memory_format(model: nn.Module, recipe: Recipe) -> Iterator[None]:
    """Convert weights to the memory format of the recipe, and those that do not learn back on exit.

    Convolutions round differently in another format, and a frozen network must keep its answers to the last bit.
    """
    frozen = [p for p in model.parameters() if p.ndim == 4 and not p.requires_grad and p.is_contiguous()]
    set_memory_format(model, recipe)
    try:
        yield
    finally:
        for parameter in frozen:
            # A kernel of one pixel counts as contiguous in both formats, so `contiguous` would change nothing.
            values = torch.empty_like(parameter, memory_format=torch.contiguous_format)
            parameter.data = values.copy_(parameter.data)
