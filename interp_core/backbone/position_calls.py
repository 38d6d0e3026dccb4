"""Calls of operations, and the placements of what they return: what the rules of `position_rules` are made of.

A rule turns a call into the placements of its outputs. Rules are registered by the name of their operation.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from interp_core.backbone.spans import (
    Dim,
    Placement,
    Span,
    average,
    has_positions,
    plain,
    single,
    size_of,
)

_ATTRIBUTE = "_interp_core_placement"

# From arguments and output of an operation to the placement of the output; None where there is none.
Rule = Callable[..., Placement | Sequence[Placement] | None]
rules: dict[str, Rule] = {}


def placement_of(tensor: Tensor) -> Placement | None:
    """Return the placement that a trace has given a tensor, if any."""
    return getattr(tensor, _ATTRIBUTE, None)


def put_placement(tensor: Tensor, placement: Placement) -> None:
    """Give a tensor its placement."""
    setattr(tensor, _ATTRIBUTE, placement)


@dataclass(frozen=True)
class Call:
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


def rule(*names: str) -> Callable[[Rule], Rule]:
    """Register a rule for operations by their names in aten, without underscores at the ends."""

    def register(rule: Rule) -> Rule:
        rules.update(dict.fromkeys(names, rule))
        return rule

    return register


def keep_positions(call: Call) -> list[Placement]:
    """Keep the positions of inputs of the same size, as operations without a rule do."""
    placements = [p for p in map(placement_of, call.inputs) if p is not None]
    return [p for p in (combine_inputs(placements, tuple(tensor.shape)) for tensor in call.outputs) if p is not None]


def combine_inputs(placements: list[Placement], shape: tuple[int, ...]) -> Placement | None:
    """Combine the placements of inputs into that of an output of a shape; None where none is alike."""
    # Gates with one value for all channels or positions do not move what they weigh.
    alike = [p for p in placements if p.shape == shape] or [p for p in placements if _broadcasts(p.shape, shape)]
    if alike:
        alike = select_branches(alike)
        padded = [((),) * (len(shape) - len(p.dims)) + p.dims for p in alike]
        dims = tuple(average([dims[i] for dims in padded], size) for i, size in enumerate(shape))
        return replace(alike[0], dims=dims, fixed=all(p.fixed for p in alike))
    similar = next((p for p in placements if len(p.dims) == len(shape)), None)
    if similar is None:
        return None
    dims = tuple(tile(dim, size) for dim, size in zip(similar.dims, shape, strict=True))
    return set_anchor(Placement(dims, fixed=False, resamplings=similar.resamplings + 1))


def select_branches(placements: Sequence[Placement]) -> list[Placement]:
    """Return the placements of the branches that count, see `interp_core.backbone.positions`."""
    least = min(placement.resamplings for placement in placements)
    placements = [placement for placement in placements if placement.resamplings == least]
    return [p for p in placements if p.origin == p.anchor] or placements


def set_anchor(placement: Placement) -> Placement:
    """Let a placement count as not moved since its last resampling."""
    return replace(placement, anchor=placement.origin)


def _broadcasts(shape: tuple[int, ...], target: tuple[int, ...]) -> bool:
    pairs = zip(reversed(shape), reversed(target), strict=False)
    return len(shape) <= len(target) and all(size in (1, wanted) for size, wanted in pairs)


def tile(dim: Dim, size: int) -> Dim:
    """Return a dimension of another size whose entries tile the old one."""
    span = single(dim)
    if size_of(dim) == size:
        return dim
    if span is None or size == 1:  # a mean over the axis has no position
        return plain(size)
    ratio = span.count / size
    if ratio > 1 and size in (span.count // round(ratio), -(-span.count // round(ratio))):
        ratio = round(ratio)
    return (move_span(span, size, (ratio - 1) / 2, ratio),)


def move_span(span: Span, count: int, offset: float, stride: float) -> Span:
    """Return a span of entries at positions offset + stride * i of another span."""
    return Span(count, span.axis, span.first + span.pitch * offset, span.pitch * stride)


def change(
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
            dims.append((move_span(span, size, *moves[index]),))
        else:
            dims.append(dim if size_of(dim) == size and index not in moves else plain(size))
    is_resampled = any(stride != 1 and has_positions(placement.dims[index]) for index, (_, stride) in moves.items())
    changed = replace(placement, dims=tuple(dims), fixed=placement.fixed and fixed)
    if not is_resampled:
        return changed
    return set_anchor(replace(changed, resamplings=placement.resamplings + 1))


def each(value: Any, count: int) -> list[Any]:
    """Return a number for each dimension, of a number or a list of one or more."""
    values = list(value) if isinstance(value, list | tuple) else [value]
    return values * count if len(values) == 1 else values
