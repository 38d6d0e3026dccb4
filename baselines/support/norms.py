"""Batch norms merged into the convolutions before them, so that relevance meets one linear layer and not two.

Which belong together is read off a forward pass, not off the order in which a network names its modules.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import nn

from interp_core.backbone.trace import Trace

# By name: subclasses that make their weights on the way, such as weight standardisation, are none of them.
CONVOLUTIONS = ("Conv1d", "Conv2d", "Conv3d", "Conv2dSame")
NORMS = nn.BatchNorm1d | nn.BatchNorm2d | nn.BatchNorm3d


def norms_behind(trace: Trace) -> tuple[tuple[str, str], ...]:
    """Pairs of a convolution and the batch norm that alone takes what it puts out."""
    pairs = []
    for name, module in trace.modules.items():
        if isinstance(module, NORMS) and trace.once(name) and name in trace.inputs:
            given = trace.inputs[name]
            sources = _leaves(trace, [n for n, output in trace.outputs.items() if output is given])
            takers = _leaves(trace, [n for n, taken in trace.inputs.items() if taken is given and n != name])
            if len(sources) == 1 and not takers and _is_convolution(trace, sources[0]):
                pairs.append((sources[0], name))
    return tuple(pairs)


def _leaves(trace: Trace, names: Sequence[str]) -> list[str]:
    """Those that are no containers and do something."""
    modules = trace.modules
    return [n for n in names if not list(modules[n].children()) and not isinstance(modules[n], nn.Identity)]


def _is_convolution(trace: Trace, name: str) -> bool:
    return type(trace.modules[name]).__name__ in CONVOLUTIONS and trace.once(name)


def merge_norms(model: nn.Module, pairs: Sequence[tuple[str, str]]) -> None:
    """Merge batch norms into the convolutions before them, in place: w' = w g / s, b' = (b - m) g / s + shift."""
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
