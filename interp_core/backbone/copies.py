"""Copies of networks, also where a library refuses to copy them.

A weight or spectral norm computes a weight in each forward pass. The older form of torch keeps it as a tensor with a
history, which `copy.deepcopy` refuses. The newer form replaces the class of the layer. A copy without norms has plain
weights of the same values instead.
"""

from __future__ import annotations

import copy
import warnings
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.nn.utils.spectral_norm import SpectralNorm, remove_spectral_norm
from torch.nn.utils.weight_norm import WeightNorm, remove_weight_norm

Network = TypeVar("Network", bound=nn.Module)


def copy_network(model: Network) -> Network:
    """Copy a network; computed weights lose their history, which the next pass gives them again."""
    computed = [
        value
        for module in model.modules()
        for value in vars(module).values()
        if isinstance(value, Tensor) and not value.is_leaf
    ]
    with torch.inference_mode(False):
        return copy.deepcopy(model, {id(value): value.detach().clone() for value in computed})


def copy_with_plain_weights(model: Network) -> Network:
    """Copy a network in evaluation mode, with weights in place of weight norms and spectral norms."""
    twin = copy_network(model).eval()
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore", FutureWarning)
        for module in list(twin.modules()):
            _remove_norms(module)
    return twin


def _remove_norms(module: nn.Module) -> None:
    for hook in list(module._forward_pre_hooks.values()):
        if isinstance(hook, WeightNorm):
            remove_weight_norm(module, hook.name)
        elif isinstance(hook, SpectralNorm):
            remove_spectral_norm(module, hook.name)
    if parametrize.is_parametrized(module):
        # `parametrize.remove_parametrizations` would change the class, which the original network shares.
        values = {name: getattr(module, name).detach().clone() for name in module.parametrizations}  # type: ignore[union-attr]
        module.__class__ = module.__class__.__bases__[0]
        del module.parametrizations
        for name, value in values.items():
            module.register_parameter(name, nn.Parameter(value))


def tensor_states(model: nn.Module) -> tuple[tuple[int, int], ...]:
    """Return address and version of each parameter and buffer, which change with the weights."""
    return tuple((tensor.data_ptr(), version_of(tensor)) for tensor in (*model.parameters(), *model.buffers()))


def version_of(tensor: Tensor) -> int:
    """Return the version of a tensor; 0 for one made in inference mode, which has none."""
    return 0 if tensor.is_inference() else tensor._version
