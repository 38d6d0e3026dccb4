"""Batch norms merged into the convolutions before them, so that relevance meets one linear layer instead of two.

The pairs are read from a forward pass, not from the order of the modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from interp_core.backbone.trace import Trace

# By name, to exclude subclasses that compute their weights in the forward pass, such as weight standardisation.
CONVOLUTIONS = ("Conv1d", "Conv2d", "Conv3d", "Conv2dSame")
NORMS = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


def find_norms_after(trace: Trace) -> tuple[tuple[str, str], ...]:
    """Find pairs of a convolution and a batch norm that is the only consumer of its output."""
    pairs = []
    for name, module in trace.modules.items():
        if isinstance(module, NORMS) and trace.is_called_once(name) and name in trace.inputs:
            tensor = trace.inputs[name]
            producers = _leaves(trace, [n for n, output in trace.outputs.items() if output is tensor])
            consumers = _leaves(trace, [n for n, value in trace.inputs.items() if value is tensor and n != name])
            if len(producers) == 1 and not consumers and _is_convolution(trace, producers[0]):
                pairs.append((producers[0], name))
    return tuple(pairs)


def _leaves(trace: Trace, names: Sequence[str]) -> list[str]:
    """Select modules that are neither containers nor identities."""
    modules = trace.modules
    return [n for n in names if not list(modules[n].children()) and not isinstance(modules[n], nn.Identity)]


def _is_convolution(trace: Trace, name: str) -> bool:
    return type(trace.modules[name]).__name__ in CONVOLUTIONS and trace.is_called_once(name)


def merge_norms(model: nn.Module, pairs: Sequence[tuple[str, str]]) -> None:
    """Merge batch norms into the convolutions before them, in place.

    w' = w g / s, b' = (b - m) g / s + shift, with mean m, standard deviation s and weight g of the norm.
    """
    with torch.no_grad():
        for convolution, norm in pairs:
            _merge(model.get_submodule(convolution), model.get_submodule(norm))


def _merge(conv: Any, norm: Any) -> None:
    if norm.running_mean is None:
        return
    scale = torch.rsqrt(norm.running_var + norm.eps)
    shift = -norm.running_mean
    if conv.bias is not None:
        shift = shift + conv.bias
    if norm.weight is not None:
        scale = scale * norm.weight
    shift = shift * scale if norm.bias is None else shift * scale + norm.bias
    conv.weight = nn.Parameter(conv.weight * scale.view(-1, *(1 for _ in conv.weight.shape[1:])), requires_grad=False)
    conv.bias = nn.Parameter(shift, requires_grad=False)
    norm.running_mean, norm.running_var = torch.zeros_like(scale), torch.ones_like(scale)
    norm.weight, norm.bias, norm.eps = None, None, 0.0
