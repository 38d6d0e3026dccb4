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

from collections.abc import Iterator, Sequence
from typing import Any

from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from interp_core.backbone import position_rules  # noqa: F401
from interp_core.backbone.geometry import CellGrid
from interp_core.backbone.layout import Layout
from interp_core.backbone.position_calls import Call, Rule, keep_positions, placement_of, put_placement, rules
from interp_core.backbone.spans import COLUMNS, ROWS, Dim, Placement, Span, fold, has_positions, plain, single


class PositionTrace(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Context in which operations pass on the positions of `images`.

    Args:
        images: (N, C, H, W), whose pixels are the positions.
    """

    def __init__(self, images: Tensor) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        height, width = images.shape[-2:]
        spans = Span(height, ROWS, 0.0, 1.0), Span(width, COLUMNS, 0.0, 1.0)
        put_placement(images, Placement((plain(images.shape[0]), plain(images.shape[1]), (spans[0],), (spans[1],))))

    def __torch_dispatch__(
        self, func: Any, _types: Any, args: tuple[Any, ...] = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        output = func(*args, **kwargs)
        inputs = list(_tensors_in((*args, *kwargs.values())))
        if any(placement_of(tensor) is not None for tensor in inputs):
            name = func.overloadpacket.__name__.strip("_")
            _place(rules.get(name, keep_positions), inputs, output, args, kwargs)
        return output


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
        placements = rule(Call(inputs, outputs, args, kwargs))
    except (IndexError, KeyError, ValueError, ZeroDivisionError):  # arguments that the rule does not know
        placements = None
    placements = [placements] if isinstance(placements, Placement) else placements or []
    for tensor, placement in zip(outputs, placements, strict=False):
        if placement.shape == tuple(tensor.shape) and any(map(has_positions, placement.dims)):
            put_placement(tensor, placement)
