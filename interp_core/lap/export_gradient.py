"""Write a function that contains a gradient as plain operations, for torch.export and ONNX.

torch.export records neither `torch.autograd.grad` nor `torch.func.vjp`: tensors saved for the backward pass become
constants. So the function is traced separately together with its backward pass, and the exporter sees the trace, which
contains no gradient. Backward operations that ONNX lacks are expressed by operations that it has.

Limit: ONNX cannot express the backward pass of adaptive pooling to more than one position (VGG) and of attention (heads
that pool by it). torch.export and torch.compile can.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torch.nn.functional import conv_transpose2d

aten = torch.ops.aten

_BACKWARDS = (
    aten._softmax_backward_data,
    aten.elu_backward,
    aten.gelu_backward,
    aten.hardsigmoid_backward,
    aten.hardswish_backward,
    aten.hardtanh_backward,
    aten.leaky_relu_backward,
    aten.mish_backward,
    aten.native_batch_norm_backward,
    aten.native_group_norm_backward,
    aten.native_layer_norm_backward,
    aten.select_backward,
    aten.sigmoid_backward,
    aten.silu_backward,
    aten.slice_backward,
    aten.tanh_backward,
    aten.threshold_backward,
)


def unroll_gradient(function: Callable[[Tensor], tuple[Tensor, ...]], maps: Tensor) -> tuple[Tensor, ...]:
    """Compute `function(maps)` in plain operations.

    They go into the trace of a running torch.export.
    """
    from torch._decomp import get_decompositions
    from torch.fx.experimental.proxy_tensor import disable_proxy_modes_tracing, make_fx

    table: dict[Any, Callable[..., Any]] = {
        **get_decompositions(_BACKWARDS),
        aten.convolution_backward.default: _convolution_backward,
    }
    with disable_proxy_modes_tracing():
        graph = make_fx(function, decomposition_table=table)(maps)
    outputs: tuple[Tensor, ...] = graph(maps)
    return outputs


def _convolution_backward(
    gradient: Tensor,
    maps: Tensor,
    weight: Tensor,
    _bias_sizes: Any,
    stride: list[int],
    padding: list[int],
    dilation: list[int],
    transposed: bool,
    _output_padding: list[int],
    groups: int,
    output_mask: list[bool],
) -> Any:
    """Compute the gradient of a two-dimensional convolution by its input.

    A map needs no other.
    """
    if transposed or maps.ndim != 4 or output_mask[1] or output_mask[2]:
        return NotImplemented
    # Number of rows and columns at the end that no window reaches.
    unreached = [
        size - ((out - 1) * s - 2 * p + d * (k - 1) + 1)
        for size, out, s, p, d, k in zip(
            maps.shape[2:], gradient.shape[2:], stride, padding, dilation, weight.shape[2:], strict=True
        )
    ]
    return conv_transpose2d(gradient, weight, None, stride, padding, unreached, groups, dilation), None, None
