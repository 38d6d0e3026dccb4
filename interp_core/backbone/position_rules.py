"""Rules of single operations: where the entries of an output lie, in entries of the input.

Each rule is registered by the names of its operations, and says what `interp_core.backbone.positions` promises of them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from math import floor, isclose

from torch import Tensor

from interp_core.backbone.position_calls import (
    Call,
    change,
    each,
    move_span,
    placement_of,
    rule,
    select_branches,
    set_anchor,
)
from interp_core.backbone.spans import (
    Dim,
    Placement,
    Span,
    average,
    fold,
    has_positions,
    merge,
    plain,
    reshape_dims,
    single,
    size_of,
)

# Convolutions and poolings


@rule("convolution", "conv2d")
def _convolution(call: Call) -> Placement:
    weight = call.args[1]
    count = weight.ndim - 2
    if len(call.args) >= 9:
        strides, paddings, dilations, is_transposed = call.args[3:7]
    else:
        strides, paddings, dilations = (call.argument(i, default) for i, default in ((3, 1), (4, 0), (5, 1)))
        is_transposed = False
    numbers = zip(weight.shape[2:], *(each(v, count) for v in (strides, paddings, dilations)), strict=True)
    moves = {}
    for index, (kernel, stride, padding, dilation) in enumerate(numbers, start=2):
        middle = (kernel - 1) * dilation / 2 - padding
        moves[index] = (-middle / stride, 1 / stride) if is_transposed else (middle, stride)
    source = call.source
    channels = source.dims[1]
    without_channels = replace(source, dims=(source.dims[0], plain(size_of(channels)), *source.dims[2:]))
    placement = change(without_channels, call.shape, moves)
    placement = replace(placement, dims=fold(placement.dims, channels))
    return set_anchor(placement) if has_positions(channels) else placement


@rule("max_pool2d_with_indices", "max_pool2d", "avg_pool2d")
def _pooling(call: Call) -> Placement:
    kernels = each(call.args[1], 2)
    strides = each(call.argument(2, []) or kernels, 2)
    paddings = each(call.argument(3, 0), 2)
    has_dilation = isinstance(call.argument(4, False), list | tuple)
    dilations = each(call.args[4], 2) if has_dilation else [1, 1]
    moves = {len(call.shape) - 2 + i: ((kernels[i] - 1) * dilations[i] / 2 - paddings[i], strides[i]) for i in range(2)}
    return change(call.source, call.shape, moves)


@rule("adaptive_avg_pool2d", "adaptive_max_pool2d")
def _adaptive_pooling(call: Call) -> Placement:
    return _spread(call, lambda before, after: ((before / after - 1) / 2, before / after))


@rule("upsample_bilinear2d", "upsample_bicubic2d", "upsample_bilinear2d_aa", "upsample_bicubic2d_aa")
def _interpolation(call: Call) -> Placement:
    def spread(before: int, after: int) -> tuple[float, float]:
        if call.argument(2, False) is True and after > 1:  # the corners are aligned
            return 0.0, (before - 1) / (after - 1)
        return (before / after - 1) / 2, before / after

    return _spread(call, spread)


@rule("upsample_nearest2d")
def _nearest(call: Call) -> Placement:
    return _spread(call, lambda before, after: _mean_shift(before, after, 0.0))


@rule("upsample_nearest_exact2d")
def _nearest_exact(call: Call) -> Placement:
    return _spread(call, lambda before, after: _mean_shift(before, after, 0.5))


def _mean_shift(before: int, after: int, offset: float) -> tuple[float, float]:
    """Return offset and stride of the entries that nearest neighbours pick, in the mean."""
    stride = before / after
    shifts = [floor((i + offset) * stride) - i * stride for i in range(after)]
    return sum(shifts) / after, stride


def _spread(call: Call, spread: Callable[[int, int], tuple[float, float]]) -> Placement:
    """Move the last two dimensions by a function of their sizes before and after."""
    source, shape = call.source, call.shape
    moves = {i: spread(size_of(source.dims[i]), shape[i]) for i in (len(shape) - 2, len(shape) - 1)}
    return change(source, shape, moves, fixed=False)


# Crops and paddings


@rule("constant_pad_nd", "reflection_pad2d", "replication_pad2d", "pad")
def _padding(call: Call) -> Placement:
    paddings, source = call.args[1], call.source
    moves: dict[int, tuple[float, float]] = {}
    for i in range(len(paddings) // 2):
        index = len(call.shape) - 1 - i
        if paddings[2 * i] or paddings[2 * i + 1]:
            moves[index] = (-paddings[2 * i], 1)
    is_moved = any(has_positions(source.dims[index]) for index in moves)
    return change(source, call.shape, moves, fixed=not is_moved)


@rule("slice")
def _slice(call: Call) -> Placement:
    dim, start, step = call.argument(1, 0), call.argument(2, None) or 0, call.argument(4, 1)
    return _cut(call.source, call.shape, dim, start, step)


def _cut(source: Placement, shape: tuple[int, ...], dim: int, start: int, step: int = 1) -> Placement:
    index, old = dim % len(shape), source.dims[dim]
    start = start + size_of(old) if start < 0 else start
    if size_of(old) == shape[index]:
        return source
    if len(old) == 1 and old[0].tokens and (start, shape[index]) == (old[0].prefix, old[0].count - old[0].prefix):
        dims = (*source.dims[:index], old[0].tokens, *source.dims[index + 1 :])
        return replace(source, dims=dims)
    return change(source, shape, {index: (start, step)}, fixed=not has_positions(old))


@rule("split", "split_with_sizes", "unsafe_split", "chunk")
def _split(call: Call) -> list[Placement]:
    dim, start, placements = call.argument(2, call.kwargs.get("dim", 0)), 0, []
    for output in call.outputs:
        placements.append(_cut(call.source, tuple(output.shape), dim, start))
        start += output.shape[dim]
    return placements


@rule("cat")
def _concatenation(call: Call) -> Placement | None:
    tensors, shape = list(call.args[0]), call.shape
    tensors = [tensor for tensor in tensors if tensor.ndim == len(shape)]
    index = call.argument(1, call.kwargs.get("dim", 0)) % len(shape)
    placements = [placement_of(tensor) or Placement(tuple(map(plain, tensor.shape))) for tensor in tensors]
    branches = select_branches([p for p in placements if any(map(has_positions, p.dims))])
    dims = [average([p.dims[i] for p in branches], size) for i, size in enumerate(shape)]
    dims[index] = _join([p.dims[index] for p in placements], shape[index])
    is_padded = has_positions(dims[index]) and not dims[index][0].tokens
    return replace(branches[0], dims=tuple(dims), fixed=all(p.fixed for p in branches) and not is_padded)


def _join(dims: list[Dim], size: int) -> Dim:
    """Return the dimension along which tensors are concatenated."""
    indices = [i for i, dim in enumerate(dims) if has_positions(dim)]
    if not indices:
        return plain(size)
    before = sum(size_of(dim) for dim in dims[: indices[0]])
    spans = [span for span in map(single, (dims[i] for i in indices)) if span is not None]
    if len(spans) < len(indices):  # a grid of tokens, perhaps behind a class token
        is_last = indices == [len(dims) - 1]
        return (Span(size, prefix=before, tokens=dims[indices[0]]),) if is_last else plain(size)
    first = spans[0]
    ends = [span.first + span.pitch * span.count for span in spans]
    is_in_order = all(isclose(end, span.first, abs_tol=1e-6) for end, span in zip(ends, spans[1:], strict=False))
    is_dense = indices == list(range(indices[0], indices[-1] + 1))
    return (move_span(first, size, -before, 1),) if is_in_order and is_dense else plain(size)


# Shapes


@rule("view", "unsafe_view", "reshape", "reshape_alias", "flatten", "unflatten", "view_copy")
def _reshape(call: Call) -> Placement:
    source = call.source
    return replace(source, dims=reshape_dims(source.dims, call.shape))


@rule("permute", "transpose", "t")
def _permutation(call: Call) -> Placement:
    source = call.source
    order = list(range(len(source.dims)))
    if len(call.args) == 2:
        order = [i % len(order) for i in call.args[1]]
    else:
        a, b = call.args[1:] if len(call.args) == 3 else (0, -1)
        order[a], order[b] = order[b], order[a]
    return replace(source, dims=tuple(source.dims[i] for i in order))


@rule("unsqueeze")
def _insertion(call: Call) -> Placement:
    dims = list(call.source.dims)
    dims.insert(call.args[1] % len(call.shape), ())
    return replace(call.source, dims=tuple(dims))


@rule("squeeze")
def _removal(call: Call) -> Placement:
    source = call.source
    axes = call.argument(1, range(len(source.dims)))
    axes = [i % len(source.dims) for i in (axes if isinstance(axes, list | tuple | range) else [axes])]
    dims = tuple(dim for i, dim in enumerate(source.dims) if i not in axes or size_of(dim) != 1)
    return replace(source, dims=dims)


@rule("select", "unbind")
def _selection(call: Call) -> list[Placement]:
    source = call.source
    index = call.argument(1, call.kwargs.get("dim", 0)) % len(source.dims)
    placement = replace(source, dims=(*source.dims[:index], *source.dims[index + 1 :]))
    return [placement] * len(call.outputs)


@rule("sum", "mean", "amax", "amin", "var", "std")
def _reduction(call: Call) -> Placement | None:
    source = call.source
    axes = call.argument(1, None) or range(len(source.dims))
    axes = [i % len(source.dims) for i in (axes if isinstance(axes, list | tuple | range) else [axes])]
    dims = [() if i in axes else dim for i, dim in enumerate(source.dims)]
    if len(call.shape) < len(dims):
        dims = [dim for i, dim in enumerate(dims) if i not in axes]
    return replace(source, dims=fold(dims, [span for i in axes for span in source.dims[i]]))


@rule("pixel_unshuffle", "pixel_shuffle")
def _shuffle(call: Call) -> Placement:
    last = len(call.shape) - 1
    ratio = size_of(call.source.dims[last]) / call.shape[last]
    moves = dict.fromkeys((last - 1, last), ((ratio - 1) / 2, ratio))
    return change(call.source, call.shape, moves)


# Matrix products


@rule("mm", "bmm", "matmul", "linear", "addmm", "baddbmm")
def _product(call: Call) -> Placement | None:
    tensors = [tensor for tensor in call.args if isinstance(tensor, Tensor)]
    left, right = tensors[-2:] if tensors[-1].ndim > 1 else tensors[:2]
    sources = [placement_of(tensor) or Placement(tuple(map(plain, tensor.shape))) for tensor in (left, right)]
    a, b = sources
    if placement_of(right) is None:  # weights
        dims = fold((*a.dims[:-1], plain(call.shape[-1])), a.dims[-1])
    else:
        dims = (*a.dims[:-1], b.dims[-1])
    latest = max(sources, key=lambda source: source.resamplings)
    return replace(latest, dims=tuple(merge(dim) for dim in dims), fixed=a.fixed and b.fixed)
