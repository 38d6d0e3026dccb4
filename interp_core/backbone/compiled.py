"""Networks whose layers cannot be reached: scripted, exported and quantised ones.

Their outputs can be used as those of any network. Nothing can be hooked, replaced or propagated inside.
"""

from __future__ import annotations

from contextlib import suppress
from typing import Any, Self

import torch
from torch import Tensor, fx, nn

from interp_core.backbone.shells import Shell, name_of

_EXPORTED = ("torch.export", "torch._export")


def is_scripted(model: nn.Module) -> bool:
    """Return whether a part of the network is compiled by TorchScript, by script or trace."""
    return any(isinstance(module, torch.jit.ScriptModule) for module in model.modules())


def is_exported(model: nn.Module) -> bool:
    """Return whether a part of the network is a program of `torch.export`."""
    return any(_is_program(module) for module in model.modules())


def is_quantised(model: nn.Module) -> bool:
    """Return whether layers of the network compute with integers."""
    return any(".quantized" in type(module).__module__ for module in model.modules())


def _is_program(module: nn.Module) -> bool:
    if not isinstance(module, fx.GraphModule):
        return False
    return any(base.__module__.startswith(_EXPORTED) for base in type(module).__mro__)


def reason_of_closed_layers(model: nn.Module) -> str | None:
    """Return why the layers of a network cannot be reached, and what to use instead; None if they can."""
    name = name_of(model)
    if is_scripted(model):
        kind = "is compiled by TorchScript"
    elif is_exported(model):
        kind = "is a compiled program of torch.export"
    elif is_quantised(model):
        return (
            f"{name} is quantised, so its layers have no floating point weights and no gradients: use the network "
            "before quantisation, or an explainer of outputs alone (lime, occlusion, rise, shap)"
        )
    else:
        return None
    return (
        f"{name} {kind}, whose layers cannot be reached: use the nn.Module it was made from, with the same weights, or "
        "an explainer that needs outputs only (lime, occlusion, rise, shap, saliency)"
    )


def set_evaluation_mode(model: nn.Module) -> None:
    """Set evaluation mode; an exported or frozen program keeps the mode that it was made in."""
    if not (_is_program(model) or isinstance(model, torch.jit.ScriptModule)):
        model.eval()
        return
    with suppress(NotImplementedError, AttributeError, RuntimeError):
        model.eval()


class OutputsOnly(Shell):
    """Shell of a network whose layers cannot be reached, which takes hooks and any number of images.

    A program that was exported for a fixed number of images is called with that many at a time, the last ones repeated.

    Args:
        network: a scripted or exported network.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__(network)
        self.count = _fixed_batch(network)

    def train(self, mode: bool = True) -> Self:
        """Set the mode, if the network has one: an exported or frozen one keeps its own."""
        self.training = mode
        with suppress(NotImplementedError, AttributeError, RuntimeError):
            self.network.train(mode)
        return self

    def forward(self, images: Tensor) -> Any:
        """Return what the network returns for images (N, C, H, W)."""
        if self.count is None or len(images) == self.count:
            return self.network(images)
        rows = torch.arange(-(-len(images) // self.count) * self.count, device=images.device).clamp(max=len(images) - 1)
        outputs = [self.network(images[part]) for part in torch.split(rows, self.count)]
        return _join(outputs, len(images))


def _fixed_batch(network: nn.Module) -> int | None:
    """Return the number of images that an exported program takes; None if it takes any."""
    if not _is_program(network):
        return None
    placeholder = next((node for node in network.graph.nodes if node.op == "placeholder"), None)  # type: ignore[union-attr]
    value = None if placeholder is None else placeholder.meta.get("val")
    size = value.shape[0] if isinstance(value, Tensor) and value.ndim else None
    return size if isinstance(size, int) else None


def _join(outputs: list[Any], count: int) -> Any:
    """Join the outputs of several calls, in the form of each, and keep the first rows."""
    first = outputs[0]
    if isinstance(first, Tensor):
        return torch.cat(outputs)[:count]
    if isinstance(first, dict):
        return {key: _join([output[key] for output in outputs], count) for key in first}
    if isinstance(first, tuple | list):
        return type(first)(_join([output[i] for output in outputs], count) for i in range(len(first)))
    return first
