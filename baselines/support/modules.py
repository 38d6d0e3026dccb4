"""Which activations a network has, for explainers that change the backward pass of one kind of module."""

from __future__ import annotations

from torch import nn

_HOMES = ("torch.nn.modules.activation", "timm.layers.activations", "timm.layers.activations_me")
RELU_ONLY = "it changes nn.ReLU modules only"


def is_activation(module: nn.Module) -> bool:
    """Whether `module` is an elementwise activation of torch's or timm's."""
    others = nn.MultiheadAttention | nn.Softmax | nn.Softmax2d | nn.LogSoftmax | nn.Softmin
    return type(module).__module__ in _HOMES and not isinstance(module, others)


def activations(model: nn.Module) -> set[str]:
    """Class names of the elementwise activations among the modules of `model`."""
    return {type(module).__name__ for module in model.modules() if is_activation(module)}


def without_relu(model: nn.Module) -> str | None:
    """A reason if `model` has no `nn.ReLU` module, so that methods that change those give the plain gradient."""
    if any(isinstance(module, nn.ReLU) for module in model.modules()):
        return None
    found = ", ".join(sorted(activations(model))) or "no activation modules"
    return (
        f"{RELU_ONLY} and {type(model).__name__} has none ({found}): the map would be the plain gradient; use saliency"
    )


def other_than_relu(model: nn.Module) -> str | None:
    """A caveat if `model` has activations that such methods leave alone."""
    found = sorted(activations(model) - {"ReLU"})
    return f"{RELU_ONLY}; {', '.join(found)} keep their own gradient" if found else None
