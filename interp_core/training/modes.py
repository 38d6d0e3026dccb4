"""What learns in each mode, how fast, and which modules are in training mode while it does."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from interp_core.backbone.flat_graph import flat
from interp_core.errors import ContractError
from interp_core.lap.model import LapModel, lap_within
from interp_core.training.recipe import Recipe


def bare(model: nn.Module) -> nn.Module:
    """The model inside what `torch.compile` or a parallel wrapper made of it."""
    for name in ("module", "_orig_mod"):
        inner = getattr(model, name, None)
        if isinstance(inner, nn.Module):
            return bare(inner)
    return model


def backbone_within(model: nn.Module) -> nn.Module | None:
    """The network that the model was built on, where it says so by an attribute `backbone`."""
    found = getattr(bare(model), "backbone", None)
    return found if isinstance(found, nn.Module) else None


@contextmanager
def learning(model: nn.Module, recipe: Recipe) -> Iterator[None]:
    """Inside, only what the recipe lets learn asks for gradients; afterwards all that did before.

    Raises:
        ContractError: nothing is left to learn.
    """
    held = [parameter for parameter in _held(model, recipe) if parameter.requires_grad]
    try:
        for parameter in held:
            parameter.requires_grad_(False)
        if not any(parameter.requires_grad for parameter in model.parameters()):
            raise ContractError(f"nothing of {type(bare(model)).__name__} learns in mode {recipe.mode!r}")
        yield
    finally:
        for parameter in held:
            parameter.requires_grad_(True)


def _held(model: nn.Module, recipe: Recipe) -> list[nn.Parameter]:
    """Parameters that must not learn."""
    backbone, lap = backbone_within(model), lap_within(model)
    held: list[nn.Parameter] = []
    if recipe.mode == "frozen":
        if backbone is None:
            raise ContractError(
                f"mode 'frozen' trains what a model owns outside its backbone, and {type(bare(model)).__name__} has no "
                "backbone: attach LAP first, or use mode 'finetune'"
            )
        held += backbone.parameters()
    if lap is not None and not recipe.learn_gates:
        held += lap.gates.parameters()
    return held


def unmoved(model: nn.Module) -> LapModel | None:
    """The LAP model of which, as parameters now ask for gradients, nothing learns that its logits depend on, if so.

    A head whose `a` is 0 does not attend, and its scorers decide nothing; no loss moves an `a` of 0.
    """
    lap = lap_within(model)
    if lap is None or lap.head.a.item() != 0:
        return None
    moving = [parameter for block in (lap.backbone, *lap.gates) for parameter in block.parameters()]
    return None if any(parameter.requires_grad for parameter in moving) else lap


def flat_logits(model: nn.Module, image: Tensor, precision: str) -> Callable[[Tensor], Tensor] | None:
    """The same logits made quicker, where they do not learn; None where they do, or where no such graph can be made.

    Args:
        model: LAP model or another.
        image: (1, C, H, W), on the model's device.
        precision: of the recipe; in mixed precision the model itself is used.
    """
    lap = unmoved(model)
    if lap is None or precision != "fp32":
        return None
    modes = [(module, module.training) for module in lap.modules()]
    made = flat(lap.eval(), image)
    for module, training in modes:
        module.training = training
    return None if made is None else lambda images: made(images.contiguous(memory_format=torch.channels_last))


def to_training(model: nn.Module, recipe: Recipe) -> None:
    """Training mode, but for modules none of whose parameters learns, and for batch norms that shall stay."""
    model.train()
    for module in model.modules():
        parameters = list(module.parameters())
        if parameters and not any(parameter.requires_grad for parameter in parameters):
            module.eval()
    if recipe.fixed_norms:
        for module in (backbone_within(model) or model).modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()


def start_attention(lap: LapModel, value: float) -> None:
    """Give every `a` that learns and is still 0 a start value, since its gradient vanishes there."""
    with torch.no_grad():
        for block in (*lap.gates, lap.head):
            if block.a == 0 and block.a.requires_grad:  # type: ignore[union-attr]
                block.a.fill_(value)  # type: ignore[union-attr, operator]


def parameter_groups(model: nn.Module, recipe: Recipe) -> list[dict]:
    """Groups for an optimizer: those that decay and those that do not, of the backbone apart if its rate differs."""
    backbone = backbone_within(model) or model
    slow = set(backbone.parameters()) if recipe.backbone_rate != 1 else set()
    learning = [p for p in model.parameters() if p.requires_grad]
    groups = []
    for rate, some in (
        (1.0, [p for p in learning if p not in slow]),
        (recipe.backbone_rate, [p for p in learning if p in slow]),
    ):
        decays: tuple[list[Tensor], list[Tensor]] = [p for p in some if p.ndim >= 2], [p for p in some if p.ndim < 2]
        for parameters, decay in zip(decays, (recipe.weight_decay, 0.0), strict=True):
            groups.append({"params": parameters, "weight_decay": decay, "lr": recipe.learning_rate * rate})
    return [group for group in groups if group["params"]]


def to_format(model: nn.Module, recipe: Recipe) -> None:
    """The memory format of the recipe."""
    if recipe.channels_last:
        model.to(memory_format=torch.channels_last)  # type: ignore[call-overload]
