"""Explanations: contributions of positions to a logit, from the records of one forward pass.

From the head down, without gradients for linear heads,

    R_L(p) = A(p) (W_k . X(:, p))                                     sums to logit_k - b_k
    R_l(p) = sum over the windows containing p of A_l(p | window) R_{l+1}(window)

so that every level conserves the sum. Heads with hidden layers use the first-order term of the head. Its remainder is
in `bias`.

Limit: R says through which positions the logit came, given the features there. The features themselves depend on more
of the image than their cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp_core.backbone.geometry import full_precision
from interp_core.backbone.inspect import Site
from interp_core.lap.pooling import Window, window_counts, window_sides
from interp_core.lap.recording import GateRecord
from interp_core.pictures.top_regions import TopRegion, top_regions

if TYPE_CHECKING:
    from matplotlib.figure import Figure
from interp_core.lap.export_gradient import unroll_gradient


@dataclass(frozen=True)
class LevelMaps:
    """Maps of one level.

    Attributes:
        name: the level's module in the backbone; "head" for the global pooling.
        scores: aggregated concept score S in [0, 1], (N, 1, h, w); at the head the target class' own concept map.
        attention: weights inside each window, >= 0, sum 1 per window, (N, 1, h, w).
        contributions: part of the target's logit through each position, (N, 1, h, w).
        concepts: concept maps in [0, 1], (N, J, h, w); at the head the target class' own.
        names: names of the J concepts.
    """

    name: str
    scores: Tensor
    attention: Tensor
    contributions: Tensor
    concepts: Tensor
    names: tuple[str, ...]


@dataclass(frozen=True)
class Level:
    """Record of a level below the head.

    Its maps are computed on demand.

    Attributes:
        site: site of the gate.
        names: names of the level's concepts.
        record: results of the block.
    """

    site: Site
    names: tuple[str, ...]
    record: GateRecord


@dataclass(frozen=True)
class Explanation:
    """Explanation of one class per image by a LAP model.

    Attributes:
        map: (N, 1, H, W) float32 at input resolution, >= 0: concept score times positive contribution, with cells at
            the centres of their receptive fields.
        native: the same on its original grid, (N, 1, h, w).
        targets: (N,) explained classes.
        logits: (N, K) of the same forward pass.
        bias: (N,) part of the target logit that belongs to no position: the classifier's bias where the head is
            linear, else the remainder of the first-order term.
        head: maps of the head.
        below: records of the levels below the head, finest first.
        images: (N, C, H, W) explained; a reference, not a copy.
    """

    map: Tensor
    native: Tensor
    targets: Tensor
    logits: Tensor
    bias: Tensor
    head: LevelMaps
    below: tuple[Level, ...]
    images: Tensor

    @cached_property
    def levels(self) -> tuple[LevelMaps, ...]:
        """Maps of all levels, finest first, the head last.

        They are computed on first access.
        """
        return level_maps(self.below, self.head)

    @property
    def contributions(self) -> Tensor:
        """Signed contributions on the finest grid, (N, 1, h, w).

        Their sum + bias = logit of the target.
        """
        return self.levels[0].contributions

    @property
    def concept(self) -> Tensor:
        """Concept map of the target on the head's grid, in [0, 1]."""
        return self.head.scores

    @property
    def gap(self) -> float:
        """Largest |sum of contributions + bias - logit|, relative to the largest |logit|.

        Over images and levels; 0 up to rounding.
        """
        target_logits = self.logits.gather(1, self.targets[:, None])[:, 0].double()
        sums = torch.stack([level.contributions.double().sum((1, 2, 3)) for level in self.levels])
        scale = target_logits.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
        return float((sums + self.bias.double() - target_logits).abs().max() / scale)

    def regions(self, share: float = 0.5, most: int = 5) -> list[list[TopRegion]]:
        """Return boxes around the highest pixels that hold `share` of each map.

        See `interp_core.pictures.top_regions`.
        """
        return top_regions(self.map, share=share, most=most)

    def sheet(self, rows: int = 4, classes: Sequence[str] | None = None) -> Figure:
        """Draw all maps of the first `rows` images as a matplotlib figure.

        Args:
            rows: largest number of images.
            classes: names of the K classes.
        """
        from interp_core.pictures import sheet

        count = min(rows, len(self.map))
        pictures, regions = sheet.to_display(self.images[:count]), top_regions(self.map[:count])
        probabilities = self.logits.float().softmax(1)
        panels = []
        for i in range(count):
            k = int(self.targets[i])
            name = classes[k] if classes else None
            panels.append(
                sheet.Panel(
                    sheet.caption(k, float(self.logits[i, k]), float(probabilities[i, k]), name),
                    pictures[i],
                    _array(self.map[i, 0]),
                    _array(self.native[i, 0]),
                    _array(self.head.contributions[i, 0]),
                    float(self.bias[i]),
                    tuple((level.name, _array(level.scores[i, 0])) for level in self.levels),
                    tuple(regions[i]),
                )
            )
        return sheet.sheet(panels, rows=rows, total=len(self.map))

    def save(self, folder: str | Path, names: Sequence[str] | None = None) -> list[Path]:
        """Write one picture per image, the map over the image.

        Pictures have the image's size.

        Args:
            folder: created if missing.
            names: file names without suffix; "0", "1", ... by default.

        Raises:
            ContractError: the number of names differs from that of images.
            StoreError: the folder or a file cannot be written.
        """
        from interp_core.pictures.sheet import save_overlays, to_display

        names = names or [str(i) for i in range(len(self.map))]
        return save_overlays(Path(folder), to_display(self.images), self.map, names)

    def _repr_png_(self) -> bytes:
        from interp_core.pictures.png import encode_png

        return encode_png(self.sheet())


def _array(maps: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = maps.float().numpy(force=True)
    return array


def head_contributions(activations: Tensor, gate: Tensor) -> Tensor:
    """Compute contributions C(p) = A(p) (W_k . X(:, p)).

    From activations W_k . X and the gate |W| A, all (N, 1, h, w).
    """
    return activations * gate / (gate.shape[-2] * gate.shape[-1])


def first_order(
    gated: Tensor, head: Callable[[Tensor], Tensor], choose: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute logits and first-order contributions of a head that is not linear.

    One pass through the head gives both.

    C(p) = sum_c X_c(p) d logit / d X_c(p).

    Args:
        gated: X, (N, C, h, w).
        head: from X to logits (N, K), the only part that is differentiated.
        choose: from logits to class indices (N,).

    Returns:
        Logits (N, K), chosen classes (N,), contributions (N, 1, h, w).
    """

    def logits_and_contributions(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.inference_mode(False), torch.enable_grad():
            # A copy, since tensors made in inference mode cannot be differentiated and a head may write on its input.
            # It is contiguous in an export, where ONNX cannot express the strides of channels-last pooling.
            memory_format = torch.contiguous_format if torch.compiler.is_compiling() else torch.preserve_format
            leaf = maps.detach().clone(memory_format=memory_format).requires_grad_()
            logits = head(leaf * 1)
            classes = choose(logits.detach()).clone()
            (gradient,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), leaf)
        return logits.detach(), classes, (gradient * maps).sum(1, keepdim=True)

    if torch.compiler.is_dynamo_compiling():
        return _first_order_compiled(gated, head, choose)
    if torch.compiler.is_compiling():
        logits, classes, contributions = unroll_gradient(logits_and_contributions, gated)
        return logits, classes, contributions
    return logits_and_contributions(gated)


def _first_order_compiled(
    gated: Tensor, head: Callable[[Tensor], Tensor], choose: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Do the same as `first_order` in a form that torch.compile can trace."""
    logits, pull = torch.func.vjp(lambda x: head(x * 1), gated)  # type: ignore[misc]
    classes = choose(logits)
    (gradient,) = pull(torch.zeros_like(logits).scatter(1, classes[:, None], 1.0))
    return logits, classes, (gradient * gated).sum(1, keepdim=True)


def overlap(source: int, target: int) -> Tensor:
    """Return the share of each source cell in each target cell.

    A (target, source) matrix whose columns sum to 1.

    >>> overlap(3, 2)
    tensor([[1.0000, 0.5000, 0.0000],
            [0.0000, 0.5000, 1.0000]], dtype=torch.float64)
    """
    edges = torch.arange(source + 1, dtype=torch.float64) / source
    grid = torch.arange(target + 1, dtype=torch.float64) / target
    low = torch.maximum(edges[None, :-1], grid[:-1, None])
    high = torch.minimum(edges[None, 1:], grid[1:, None])
    return (high - low).clamp(min=0) * source


def regrid(maps: Tensor, height: int, width: int) -> Tensor:
    """Resample maps to another grid with the same sum.

    From (N, 1, h, w) to (N, 1, height, width).
    """
    if maps.shape[-2:] == (height, width):
        return maps
    rows = overlap(maps.shape[-2], height).to(maps)
    columns = overlap(maps.shape[-1], width).to(maps)
    with full_precision(maps.device):
        return rows @ maps @ columns.t()


def propagate(relevance: Tensor, weights: Tensor, window: Window) -> Tensor:
    """Distribute contributions to the level below, R_l(p) = A_l(p | W) R_{l+1}(W).

    Args:
        relevance: (N, 1, h, w) of the level above.
        weights: attention A_l, (N, 1, H, W).
        window: side of its windows, or their rows and columns.

    Returns:
        (N, 1, H, W) with the same sum as `relevance`.
    """
    height, width = weights.shape[-2:]
    rows, columns = window_sides(window)
    per_window = regrid(relevance, -(-height // rows), -(-width // columns))
    spread = per_window.repeat_interleave(rows, 2).repeat_interleave(columns, 3)
    return weights * spread[..., :height, :width]


def head_maps(concept: Tensor, gate: Tensor, contributions: Tensor) -> LevelMaps:
    """Collect the maps of the head.

    From the target's concept map, the gate |W| A and contributions, all (N, 1, h, w).
    """
    attention = gate / (gate.shape[-2] * gate.shape[-1])
    return LevelMaps("head", concept, attention, contributions, concept, ("target",))


def level_maps(below: tuple[Level, ...], head: LevelMaps) -> tuple[LevelMaps, ...]:
    """Compute the maps of all levels, finest first.

    Args:
        below: records of the levels below the head, finest first.
        head: maps of the head.
    """
    levels, relevance = [head], head.contributions
    for level in reversed(below):
        record, window = level.record, level.site.window
        weights = record.gate / window_counts(record.gate.shape[-2], record.gate.shape[-1], window).to(record.gate)
        relevance = propagate(relevance, weights, window)
        levels.append(LevelMaps(level.site.module, record.scores, weights, relevance, record.concepts, level.names))
    return tuple(reversed(levels))


def default_map(head: LevelMaps) -> Tensor:
    """Multiply the target's concept map by its positive contribution.

    (N, 1, h, w) float32.
    """
    return (head.scores * head.contributions.clamp(min=0)).float()
