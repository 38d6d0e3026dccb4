"""Activations of a network, for explainers that change the backward pass of one kind of module."""

from __future__ import annotations

from torch import nn

_ACTIVATION_MODULES = ("torch.nn.modules.activation", "timm.layers.activations", "timm.layers.activations_me")
RELU_ONLY = "it changes nn.ReLU modules only"


def is_activation(module: nn.Module) -> bool:
    """Return whether `module` is an elementwise activation of torch or timm."""
    not_elementwise = nn.MultiheadAttention | nn.Softmax | nn.Softmax2d | nn.LogSoftmax | nn.Softmin
    return type(module).__module__ in _ACTIVATION_MODULES and not isinstance(module, not_elementwise)


def activations(model: nn.Module) -> set[str]:
    """Collect the class names of the elementwise activations in `model`."""
    return {type(module).__name__ for module in model.modules() if is_activation(module)}


def refusal_without_relu(model: nn.Module) -> str | None:
    """Refuse a model without `nn.ReLU` modules, where methods that change those give the plain gradient."""
    if any(isinstance(module, nn.ReLU) for module in model.modules()):
        return None
    names = ", ".join(sorted(activations(model))) or "no activation modules"
    return (
        f"{RELU_ONLY} and {type(model).__name__} has none ({names}): the map would be the plain gradient; use saliency"
    )


def caveat_of_other_activations(model: nn.Module) -> str | None:
    """Name the activations of `model` that such methods do not change, if any."""
    names = sorted(activations(model) - {"ReLU"})
    return f"{RELU_ONLY}; {', '.join(names)} keep their own gradient" if names else None
