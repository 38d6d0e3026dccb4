"""Follow the positions of a map's cells through the operations of one forward pass.

Every tensor that is computed from the image carries its placement (`interp_core.backbone.spans`) as an attribute. A
convolution with kernel k, dilation d, padding p and stride s takes entry i to position (k - 1) d / 2 - p + s i of its
input. Poolings are like convolutions. Adaptive poolings and resizings spread their outputs evenly over the input. Crops
and paddings move the first entry. All other operations keep the positions of inputs of the same size. Branches that are
combined count by the mean of their positions. Only those count that were resampled least, since a branch that loses
resolution and is enlarged again knows less of positions, and of these those that were not moved since, if any, since
shortcuts are stronger than what is added to them.

It works below torch's functions, so that it does not matter whether a module, a function or an index expression
resizes, crops or pads.

Limits: the mean over branches does not know how much each contributes. Flips and rolls count as if they moved nothing.
Where an operation without a rule changes the size, its outputs are assumed to tile its input.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from math import floor, isclose
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from interp_core.backbone.geometry import CellGrid
from interp_core.backbone.layout import Layout
from interp_core.backbone.spans import (
    COLUMNS,
    ROWS,
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

_ATTRIBUTE = "_interp_core_placement"

# From arguments and output of an operation to the placement of the output; None where there is none.
Rule = Callable[..., Placement | Sequence[Placement] | None]
_rules: dict[str, Rule] = {}


class PositionTrace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context in which operations pass on the positions of `images`.

    Args:
        images: (N, C, H, W), whose pixels are the positions.
    """

    def __init__(self, images: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        height, width = images.shape[-2:]
        spans = Span(height, ROWS, 0.0, 1.0), Span(width, COLUMNS, 0.0, 1.0)
        _put(images, Placement((plain(images.shape[0]), plain(images.shape[1]), (spans[0],), (spans[1],))))

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        inputs = list(_tensors_in((*args, *kwargs.values())))
        if any(placement_of(tensor) is not None for tensor in inputs):
            name = func.overloadpacket.__name__.strip("_")
            _place(_rules.get(name, _keep_positions), inputs, output, args, kwargs)
        return output


def placement_of(tensor: Tensor) -> Placement | None:
    """Return the placement that a trace has given a tensor, if any."""
    return getattr(tensor, _ATTRIBUTE, None)


def grid_of(features: Tensor, layout: Layout, size: tuple[int, int]) -> CellGrid:
    """Return the grid of a map that a trace has met.

    Where the trace has lost it, cells are assumed to tile the image.

    Args:
        features: in `layout`.
        layout: of the features.
        size: rows and columns of the image.
    """
    placement = placement_of(features)
    spans = None if placement is None else _map_spans(placement, layout)
    if spans is None:
        cells = layout.to_map(features, size[0] / size[1]).shape[-2:]
        return CellGrid.tiling((size[0] / cells[0], size[1] / cells[1]))
    return CellGrid((spans[0].first, spans[1].first), (spans[0].pitch, spans[1].pitch))


def layout_from_trace(features: object) -> Layout | None:
    """Return the layout of a map that a trace has met, None for others.

    Unlike `layout_of` it does not depend on the sizes of the dimensions.
    """
    placement = placement_of(features) if isinstance(features, Tensor) else None
    if placement is None:
        return None
    axes = [[span.axis for span in (dim[0].tokens if dim and dim[0].tokens else dim)] for dim in placement.dims]
    for order in ("NCHW", "NHWC"):
        start = order.index("H")
        if len(axes) == 4 and axes[start : start + 2] == [[ROWS], [COLUMNS]]:
            return Layout(order)
    if len(axes) == 3 and axes[1] == [ROWS, COLUMNS]:
        return Layout("NLC", placement.dims[1][0].prefix)
    return None


def is_fixed(features: Tensor) -> bool:
    """Return whether a map's grid follows from operations that are the same at any size of the image."""
    placement = placement_of(features)
    return placement is not None and placement.fixed


def _map_spans(placement: Placement, layout: Layout) -> tuple[Span, Span] | None:
    """Return the spans of rows and columns, with the mean of what other dimensions add."""
    dims = list(placement.dims)
    if layout.order == "NLC":
        tokens = dims.pop(1)
        tokens = tokens[0].tokens if len(tokens) == 1 and tokens[0].tokens else tokens
        grid: list[Dim] = [(span,) for span in tokens]
    else:
        start = 2 if layout.order == "NCHW" else 1
        grid = dims[start : start + 2]
        del dims[start : start + 2]
    grid = list(fold(grid, [span for dim in dims for span in dim]))
    spans = [single(dim) for dim in grid]
    if [span and span.axis for span in spans] != [ROWS, COLUMNS]:
        return None
    rows, columns = spans
    assert rows is not None
    assert columns is not None
    return (rows, columns) if rows.pitch > 0 and columns.pitch > 0 else None


def _put(tensor: Tensor, placement: Placement) -> None:
    setattr(tensor, _ATTRIBUTE, placement)


def _tensors_in(values: Sequence[Any]) -> Iterator[Tensor]:
    for value in values:
        if isinstance(value, Tensor):
            yield value
        elif isinstance(value, list | tuple):
            yield from _tensors_in(value)


def _place(rule: Rule, inputs: list[Tensor], output: Any, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
    """Give the outputs of an operation their placements."""
    outputs = list(_tensors_in(output if isinstance(output, list | tuple) else (output,)))
    try:
        placements = rule(_Call(inputs, outputs, args, kwargs))
    except (IndexError, KeyError, ValueError, ZeroDivisionError):  # arguments that the rule does not know
        placements = None
    placements = [placements] if isinstance(placements, Placement) else placements or []
    for tensor, placement in zip(outputs, placements, strict=False):
        if placement.shape == tuple(tensor.shape) and any(map(has_positions, placement.dims)):
            _put(tensor, placement)


@dataclass(frozen=True)
class _Call:
    """One call of an operation.

    Attributes:
        inputs: all tensors among its arguments.
        outputs: its tensors.
        args: positional arguments.
        kwargs: keyword arguments.
    """

    inputs: list[Tensor]
    outputs: list[Tensor]
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    @property
    def source(self) -> Placement:
        """Placement of the first argument; without positions where it has none."""
        tensor = self.args[0]
        return placement_of(tensor) or Placement(tuple(plain(size) for size in tensor.shape))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of the first output."""
        return tuple(self.outputs[0].shape)

    def argument(self, index: int, default: Any) -> Any:
        """Return a positional argument, or its default."""
        return self.args[index] if len(self.args) > index else default


def _rule(*names: str) -> Callable[[Rule], Rule]:
    def register(rule: Rule) -> Rule:
        _rules.update(dict.fromkeys(names, rule))
        return rule

    return register


def _keep_positions(call: _Call) -> list[Placement]:
    """Operations without a rule keep the positions of inputs of the same size."""
    placements = [p for p in map(placement_of, call.inputs) if p is not None]
    return [p for p in (_combine_inputs(placements, tuple(tensor.shape)) for tensor in call.outputs) if p is not None]


def _combine_inputs(placements: list[Placement], shape: tuple[int, ...]) -> Placement | None:
    # Gates with one value for all channels or positions do not move what they weigh.
    alike = [p for p in placements if p.shape == shape] or [p for p in placements if _broadcasts(p.shape, shape)]
    if alike:
        alike = _select_branches(alike)
        padded = [((),) * (len(shape) - len(p.dims)) + p.dims for p in alike]
        dims = tuple(average([dims[i] for dims in padded], size) for i, size in enumerate(shape))
        return replace(alike[0], dims=dims, fixed=all(p.fixed for p in alike))
    similar = next((p for p in placements if len(p.dims) == len(shape)), None)
    if similar is None:
        return None
    dims = tuple(_tile(dim, size) for dim, size in zip(similar.dims, shape, strict=True))
    return _set_anchor(Placement(dims, fixed=False, resamplings=similar.resamplings + 1))


def _select_branches(placements: Sequence[Placement]) -> list[Placement]:
    """Return the placements of the branches that count, see the head of this file."""
    least = min(placement.resamplings for placement in placements)
    placements = [placement for placement in placements if placement.resamplings == least]
    return [p for p in placements if p.origin == p.anchor] or placements


def _set_anchor(placement: Placement) -> Placement:
    return replace(placement, anchor=placement.origin)


def _broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    pairs = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and all(size in (1, wanted) for size, wanted in pairs)


def _tile(dim: Dim, size: int) -> Dim:
    """Return a dimension of another size whose entries tile the old one."""
    span = single(dim)
    if size_of(dim) == size:
        return dim
    if span is None or size == 1:  # a mean over the axis has no position
        return plain(size)
    ratio = span.count / size
    if ratio > 1 and size in (span.count // round(ratio), -(-span.count // round(ratio))):
        ratio = round(ratio)
    return (_move_span(span, size, (ratio - 1) / 2, ratio),)


def _move_span(span: Span, count: int, offset: float, stride: float) -> Span:
    """Return a span of entries at positions offset + stride * i of another span."""
    return Span(count, span.axis, span.first + span.pitch * offset, span.pitch * stride)


def _change(
    placement: Placement, shape: Sequence[int], moves: dict[int, tuple[float, float]], *, fixed: bool = True
) -> Placement:
    """Move some dimensions of a placement.

    Args:
        placement: of the input.
        shape: of the output.
        moves: for a dimension, its entries' positions offset + stride * i in the input.
        fixed: whether the moves are the same at any size of the image.
    """
    dims: list[Dim] = []
    for index, (dim, size) in enumerate(zip(placement.dims, shape, strict=True)):
        span = single(dim)
        if index in moves and span is not None:
            dims.append((_move_span(span, size, *moves[index]),))
        else:
            dims.append(dim if size_of(dim) == size and index not in moves else plain(size))
    is_resampled = any(stride != 1 and has_positions(placement.dims[index]) for index, (_, stride) in moves.items())
    changed = replace(placement, dims=tuple(dims), fixed=placement.fixed and fixed)
    if not is_resampled:
        return changed
    return _set_anchor(replace(changed, resamplings=placement.resamplings + 1))


def _each(value: Any, count: int) -> list[Any]:
    """Return a number for each dimension, of a number or a list of one or more."""
    values = list(value) if isinstance(value, list | tuple) else [value]
    return values * count if len(values) == 1 else values


# Convolutions and poolings


@_rule("convolution", "conv2d")
def _convolution(call: _Call) -> Placement:
    weight = call.args[1]
    count = weight.ndim - 2
    if len(call.args) >= 9:
        strides, paddings, dilations, is_transposed = call.args[3:7]
    else:
        strides, paddings, dilations = (call.argument(i, default) for i, default in ((3, 1), (4, 0), (5, 1)))
        is_transposed = False
    numbers = zip(weight.shape[2:], *(_each(v, count) for v in (strides, paddings, dilations)), strict=True)
    moves = {}
    for index, (kernel, stride, padding, dilation) in enumerate(numbers, start=2):
        middle = (kernel - 1) * dilation / 2 - padding
        moves[index] = (-middle / stride, 1 / stride) if is_transposed else (middle, stride)
    source = call.source
    channels = source.dims[1]
    without_channels = replace(source, dims=(source.dims[0], plain(size_of(channels)), *source.dims[2:]))
    placement = _change(without_channels, call.shape, moves)
    placement = replace(placement, dims=fold(placement.dims, channels))
    return _set_anchor(placement) if has_positions(channels) else placement


@_rule("max_pool2d_with_indices", "max_pool2d", "avg_pool2d")
def _pooling(call: _Call) -> Placement:
    kernels = _each(call.args[1], 2)
    strides = _each(call.argument(2, []) or kernels, 2)
    paddings = _each(call.argument(3, 0), 2)
    has_dilation = isinstance(call.argument(4, False), list | tuple)
    dilations = _each(call.args[4], 2) if has_dilation else [1, 1]
    moves = {len(call.shape) - 2 + i: ((kernels[i] - 1) * dilations[i] / 2 - paddings[i], strides[i]) for i in range(2)}
    return _change(call.source, call.shape, moves)


@_rule("adaptive_avg_pool2d", "adaptive_max_pool2d")
def _adaptive_pooling(call: _Call) -> Placement:
    return _spread(call, lambda before, after: ((before / after - 1) / 2, before / after))


@_rule("upsample_bilinear2d", "upsample_bicubic2d", "upsample_bilinear2d_aa", "upsample_bicubic2d_aa")
def _interpolation(call: _Call) -> Placement:
    def spread(before: int, after: int) -> tuple[float, float]:
        if call.argument(2, False) is True and after > 1:  # the corners are aligned
            return 0.0, (before - 1) / (after - 1)
        return (before / after - 1) / 2, before / after

    return _spread(call, spread)


@_rule("upsample_nearest2d")
def _nearest(call: _Call) -> Placement:
    return _spread(call, lambda before, after: _mean_shift(before, after, 0.0))


@_rule("upsample_nearest_exact2d")
def _nearest_exact(call: _Call) -> Placement:
    return _spread(call, lambda before, after: _mean_shift(before, after, 0.5))


def _mean_shift(before: int, after: int, offset: float) -> tuple[float, float]:
    """Return offset and stride of the entries that nearest neighbours pick, in the mean."""
    stride = before / after
    shifts = [floor((i + offset) * stride) - i * stride for i in range(after)]
    return sum(shifts) / after, stride


def _spread(call: _Call, spread: Callable[[int, int], tuple[float, float]]) -> Placement:
    """Move the last two dimensions by a function of their sizes before and after."""
    source, shape = call.source, call.shape
    moves = {i: spread(size_of(source.dims[i]), shape[i]) for i in (len(shape) - 2, len(shape) - 1)}
    return _change(source, shape, moves, fixed=False)


# Crops and paddings


@_rule("constant_pad_nd", "reflection_pad2d", "replication_pad2d", "pad")
def _padding(call: _Call) -> Placement:
    paddings, source = call.args[1], call.source
    moves: dict[int, tuple[float, float]] = {}
    for i in range(len(paddings) // 2):
        index = len(call.shape) - 1 - i
        if paddings[2 * i] or paddings[2 * i + 1]:
            moves[index] = (-paddings[2 * i], 1)
    is_moved = any(has_positions(source.dims[index]) for index in moves)
    return _change(source, call.shape, moves, fixed=not is_moved)


@_rule("slice")
def _slice(call: _Call) -> Placement:
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
    return _change(source, shape, {index: (start, step)}, fixed=not has_positions(old))


@_rule("split", "split_with_sizes", "unsafe_split", "chunk")
def _split(call: _Call) -> list[Placement]:
    dim, start, placements = call.argument(2, call.kwargs.get("dim", 0)), 0, []
    for output in call.outputs:
        placements.append(_cut(call.source, tuple(output.shape), dim, start))
        start += output.shape[dim]
    return placements


@_rule("cat")
def _concatenation(call: _Call) -> Placement | None:
    tensors, shape = list(call.args[0]), call.shape
    tensors = [tensor for tensor in tensors if tensor.ndim == len(shape)]
    index = call.argument(1, call.kwargs.get("dim", 0)) % len(shape)
    placements = [placement_of(tensor) or Placement(tuple(map(plain, tensor.shape))) for tensor in tensors]
    branches = _select_branches([p for p in placements if any(map(has_positions, p.dims))])
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
    return (_move_span(first, size, -before, 1),) if is_in_order and is_dense else plain(size)


# Shapes


@_rule("view", "unsafe_view", "reshape", "reshape_alias", "flatten", "unflatten", "view_copy")
def _reshape(call: _Call) -> Placement:
    source = call.source
    return replace(source, dims=reshape_dims(source.dims, call.shape))


@_rule("permute", "transpose", "t")
def _permutation(call: _Call) -> Placement:
    source = call.source
    order = list(range(len(source.dims)))
    if len(call.args) == 2:
        order = [i % len(order) for i in call.args[1]]
    else:
        a, b = call.args[1:] if len(call.args) == 3 else (0, -1)
        order[a], order[b] = order[b], order[a]
    return replace(source, dims=tuple(source.dims[i] for i in order))


@_rule("unsqueeze")
def _insertion(call: _Call) -> Placement:
    dims = list(call.source.dims)
    dims.insert(call.args[1] % len(call.shape), ())
    return replace(call.source, dims=tuple(dims))


@_rule("squeeze")
def _removal(call: _Call) -> Placement:
    source = call.source
    axes = call.argument(1, range(len(source.dims)))
    axes = [i % len(source.dims) for i in (axes if isinstance(axes, list | tuple | range) else [axes])]
    dims = tuple(dim for i, dim in enumerate(source.dims) if i not in axes or size_of(dim) != 1)
    return replace(source, dims=dims)


@_rule("select", "unbind")
def _selection(call: _Call) -> list[Placement]:
    source = call.source
    index = call.argument(1, call.kwargs.get("dim", 0)) % len(source.dims)
    placement = replace(source, dims=(*source.dims[:index], *source.dims[index + 1 :]))
    return [placement] * len(call.outputs)


@_rule("sum", "mean", "amax", "amin", "var", "std")
def _reduction(call: _Call) -> Placement | None:
    source = call.source
    axes = call.argument(1, None) or range(len(source.dims))
    axes = [i % len(source.dims) for i in (axes if isinstance(axes, list | tuple | range) else [axes])]
    dims = [() if i in axes else dim for i, dim in enumerate(source.dims)]
    if len(call.shape) < len(dims):
        dims = [dim for i, dim in enumerate(dims) if i not in axes]
    return replace(source, dims=fold(dims, [span for i in axes for span in source.dims[i]]))


@_rule("pixel_unshuffle", "pixel_shuffle")
def _shuffle(call: _Call) -> Placement:
    last = len(call.shape) - 1
    ratio = size_of(call.source.dims[last]) / call.shape[last]
    moves = dict.fromkeys((last - 1, last), ((ratio - 1) / 2, ratio))
    return _change(call.source, call.shape, moves)


# Matrix products


@_rule("mm", "bmm", "matmul", "linear", "addmm", "baddbmm")
def _product(call: _Call) -> Placement | None:
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
