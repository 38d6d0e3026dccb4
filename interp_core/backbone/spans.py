"""Dimensions of a tensor as spans of positions on the image.

The image's rows and columns are two dimensions at first. Operations stride, crop and resize them, split them into
windows, move them, and flatten them into tokens or channels. A dimension is therefore a tuple of spans, outermost
first. The position of an entry along an axis is the sum over all spans of that axis of first + pitch * index.

Worked example. A row axis of 8 positions with pitch 4 is ((ROWS, 8, 0, 4),). Split into windows of 2 it is the two
dimensions ((ROWS, 4, 0, 8),) and ((ROWS, 2, 0, 4),). Flattened again they are the one span that they were.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from math import prod

ROWS, COLUMNS = 0, 1


@dataclass(frozen=True)
class Span:
    """Indices that step along one axis of the image, or along none.

    Attributes:
        count: number of indices.
        axis: `ROWS` or `COLUMNS`; None for channels, batches and whatever else has no position.
        first: position of the first index, in pixels.
        pitch: distance of neighbouring indices, in pixels.
        prefix: number of indices before those of `tokens`, which have no position.
        tokens: spans behind a prefix, such as those of the grid behind a class token.
    """

    count: int
    axis: int | None = None
    first: float = 0.0
    pitch: float = 0.0
    prefix: int = 0
    tokens: tuple[Span, ...] = ()

    @property
    def has_position(self) -> bool:
        """Whether the indices are positions on the image."""
        return self.axis is not None or bool(self.tokens)

    @property
    def mean(self) -> float:
        """Mean position of the indices."""
        return self.first + self.pitch * (self.count - 1) / 2


Dim = tuple[Span, ...]


@dataclass(frozen=True)
class Placement:
    """Positions of a tensor's entries.

    Attributes:
        dims: spans of each dimension.
        fixed: whether the same operations give the same positions at any size of the image.
        resamplings: how often the distance of positions was changed on the way from the image.
        anchor: position of the first entry along both axes after the last resampling.
    """

    dims: tuple[Dim, ...]
    fixed: bool = True
    resamplings: int = 0
    anchor: tuple[float, float] = (0.0, 0.0)

    @property
    def origin(self) -> tuple[float, float]:
        """Position of the first entry along both axes."""
        spans = [span for dim in self.dims for span in dim]
        return sum(s.first for s in spans if s.axis == ROWS), sum(s.first for s in spans if s.axis == COLUMNS)

    @property
    def shape(self) -> tuple[int, ...]:
        """Number of entries of each dimension."""
        return tuple(size_of(dim) for dim in self.dims)


def plain(count: int) -> Dim:
    """Return a dimension without positions."""
    return () if count == 1 else (Span(count),)


def size_of(dim: Dim) -> int:
    """Return the number of entries of a dimension."""
    return prod(span.count for span in dim)


def has_positions(dim: Dim) -> bool:
    """Return whether a dimension steps along an axis of the image."""
    return any(span.has_position for span in dim)


def single(dim: Dim) -> Span | None:
    """Return the span of a dimension that steps along one axis evenly; None for others."""
    return dim[0] if len(dim) == 1 and dim[0].axis is not None else None


def merge(dim: Sequence[Span]) -> Dim:
    """Join neighbouring spans of one axis where the outer one goes on where the inner one ends."""
    spans: list[Span] = []
    for span in dim:
        if spans and _goes_on(spans[-1], span):
            outer = spans.pop()
            spans.append(Span(outer.count * span.count, span.axis, outer.first + span.first, span.pitch))
        else:
            spans.append(span)
    return tuple(spans)


def _goes_on(outer: Span, inner: Span) -> bool:
    if outer.tokens or inner.tokens or outer.axis != inner.axis:
        return False
    return outer.axis is None or abs(outer.pitch - inner.pitch * inner.count) < 1e-6 * abs(inner.pitch)


def reshape_dims(dims: Sequence[Dim], shape: Sequence[int]) -> tuple[Dim, ...]:
    """Divide the spans of a tensor among the dimensions of another shape.

    Where a span cannot be divided the remaining dimensions have no positions.
    """
    spans = [span for dim in dims for span in dim]
    new: list[Dim] = []
    for size in shape:
        dim = _take(spans, size)
        if dim is None:
            return (*new, *(plain(count) for count in shape[len(new) :]))
        new.append(merge(dim))
    return tuple(new)


def _take(spans: list[Span], size: int) -> list[Span] | None:
    """Take the spans of a dimension of `size` entries off the list; None where they do not divide."""
    dim: list[Span] = []
    if size == 1 and spans and spans[0].count == 1:
        return [spans.pop(0)]
    while size > 1:
        if not spans:
            return None
        span = spans.pop(0)
        if size % span.count:
            if span.tokens or span.count % size:
                return None
            inner = span.count // size
            spans.insert(0, replace(span, count=inner, first=0.0))
            span = replace(span, count=size, pitch=span.pitch * inner)
        dim.append(span)
        size //= span.count
    return dim


def fold(dims: Sequence[Dim], spans: Sequence[Span]) -> tuple[Dim, ...]:
    """Add the mean position of spans that are summed over to the spans that remain.

    Space-to-depth moves a part of the position into the channels, over which a convolution sums.
    """
    new = list(dims)
    for span in spans:
        indices = [(i, j) for i, dim in enumerate(new) for j, kept in enumerate(dim) if kept.axis == span.axis]
        if span.axis is not None and indices:
            i, j = indices[0]
            kept = new[i][j]
            new[i] = (*new[i][:j], replace(kept, first=kept.first + span.mean), *new[i][j + 1 :])
    return tuple(new)


def average(dims: Sequence[Dim], size: int) -> Dim:
    """Return the mean positions of one dimension of several tensors that are combined.

    Tensors without positions there, or of another size, do not count.
    """
    dims = [dim for dim in dims if size_of(dim) == size and has_positions(dim)]
    if not dims:
        return plain(size)
    alike = [dim for dim in dims if [(s.axis, s.count) for s in dim] == [(s.axis, s.count) for s in dims[0]]]
    return tuple(
        replace(
            spans[0],
            first=sum(span.first for span in spans) / len(spans),
            pitch=sum(span.pitch for span in spans) / len(spans),
        )
        for spans in zip(*alike, strict=True)
    )
