"""From what the blocks saw in one forward pass to a map of the image.

Top-down, without gradients for linear heads:

    R_L(p) = A(p) (W_k . X(:, p))                                     sums to logit_k - b_k
    R_l(p) = sum over the windows containing p of A_l(p | window) R_{l+1}(window)

so every level conserves the sum. Heads with hidden layers use the first-order term of the head alone; what that
misses is in `bias`.

Limit: R says through which regions the logit came, given the features found there; features themselves look further
than their cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from numpy.typing import NDArray
from torch import Tensor

from interp_core.backbone.geometry import full_precision
from interp_core.backbone.inspect import Site
from interp_core.lap.pooling import window_counts
from interp_core.lap.recording import GateRecord
from interp_core.pictures.top_regions import Region, top_regions

if TYPE_CHECKING:
    from matplotlib.figure import Figure
from interp_core.lap.export_gradient import unrolled


@dataclass(frozen=True)
class LevelMaps:
    """One level's maps.

    Attributes:
        name: where the level sits in the backbone; "head" for the global pooling.
        scores: aggregated concept score S in [0, 1], (N, 1, h, w); at the head the target class' own concept map.
        attention: weights inside each window, >= 0, sum 1 per window, (N, 1, h, w).
        contributions: part of the target's logit through each position, (N, 1, h, w).
        concepts: concept maps in [0, 1], (N, J, h, w); at the head the target class' own.
        names: of the J concepts.
    """

    name: str
    scores: Tensor
    attention: Tensor
    contributions: Tensor
    concepts: Tensor
    names: tuple[str, ...]


@dataclass(frozen=True)
class Level:
    """What is kept of a level below the head until somebody asks for its maps."""

    site: Site
    names: tuple[str, ...]
    record: GateRecord


@dataclass(frozen=True)
class Explanation:
    """What a LAP model says of its own decision.

    Attributes:
        map: (N, 1, H, W) float32 at input resolution, >= 0: concept score times positive contribution, placed on
            the centres of the cells' receptive fields.
        native: the same on the head's own grid, (N, 1, h, w).
        targets: (N,) explained classes.
        logits: (N, K) of the same forward pass.
        bias: (N,) part of the target logit that no position carries: the classifier's own bias where the head is
            linear, else what the first order of the head misses.
        head: maps of the head.
        below: what the levels below the head recorded, finest first.
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
        """Maps of all levels, finest first, the head last; made when first asked for."""
        return level_maps(self.below, self.head)

    @property
    def contributions(self) -> Tensor:
        """Signed contributions on the finest grid, (N, 1, h, w): contributions + bias = logit of the target."""
        return self.levels[0].contributions

    @property
    def concept(self) -> Tensor:
        """Concept map of the target class on the head's grid, (N, 1, h, w) in [0, 1]."""
        return self.head.scores

    @property
    def gap(self) -> float:
        """Largest |sum of contributions + bias - logit| over images and levels, in units of the largest |logit|."""
        wanted = self.logits.gather(1, self.targets[:, None])[:, 0].double()
        sums = torch.stack([level.contributions.double().sum((1, 2, 3)) for level in self.levels])
        scale = wanted.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
        return float((sums + self.bias.double() - wanted).abs().max() / scale)

    def regions(self, share: float = 0.5, most: int = 5) -> list[list[Region]]:
        """Boxes around the connected places that hold the highest `share` of each map, see `regions.top_regions`."""
        return top_regions(self.map, share=share, most=most)

    def sheet(self, rows: int = 4, classes: Sequence[str] | None = None) -> Figure:
        """All maps of the first `rows` images as a matplotlib figure.

        Args:
            rows: most images shown.
            classes: names of the K classes.
        """
        from interp_core.pictures import sheet

        count = min(rows, len(self.map))
        shown, regions = sheet.to_display(self.images[:count]), top_regions(self.map[:count])
        share = self.logits.float().softmax(1)
        panels = []
        for i in range(count):
            k = int(self.targets[i])
            title = sheet.caption(k, float(self.logits[i, k]), float(share[i, k]), classes[k] if classes else None)
            panels.append(
                sheet.Panel(
                    title,
                    shown[i],
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
        """One picture per image, the map laid over it, at the image's own size.

        Args:
            folder: made where it does not exist.
            names: of the files, without ending; "0", "1", ... by default.

        Raises:
            ContractError: not as many names as images.
            StoreError: the folder or a file cannot be written.
        """
        from interp_core.pictures.sheet import save_overlays, to_display

        names = names or [str(i) for i in range(len(self.map))]
        return save_overlays(Path(folder), to_display(self.images), self.map, names)

    def _repr_png_(self) -> bytes:
        from interp_core.pictures.png import encode_png

        return encode_png(self.sheet())


def _array(maps: Tensor) -> NDArray:
    return maps.float().numpy(force=True)


def head_contributions(evidence: Tensor, gate: Tensor) -> Tensor:
    """C(p) = A(p) (W_k . X(:, p)) of evidence W_k . X and gate |W| A, all (N, 1, h, w)."""
    return evidence * gate / (gate.shape[-2] * gate.shape[-1])


def first_order(
    gated: Tensor, head: Callable[[Tensor], Tensor], choose: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Logits of a head that is not linear, and C(p) = sum_c X_c(p) d logit / d X_c(p), from one pass through it.

    Args:
        gated: X, (N, C, h, w).
        head: from X to logits (N, K), the only part that is differentiated.
        choose: from logits to class indices (N,).

    Returns:
        Logits (N, K), the classes chosen (N,), contributions (N, 1, h, w).
    """

    def value_and_parts(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.inference_mode(False), torch.enable_grad():
            # A copy, since tensors made in inference mode take no part in a derivative and a head may write on its
            # input; contiguous in an export, where strides of channels-last pooling are what ONNX cannot say.
            form = torch.contiguous_format if torch.compiler.is_compiling() else torch.preserve_format
            leaf = maps.detach().clone(memory_format=form).requires_grad_()
            logits = head(leaf * 1)
            chosen = choose(logits.detach()).clone()
            (gradient,) = torch.autograd.grad(logits.gather(1, chosen[:, None]).sum(), leaf)
        return logits.detach(), chosen, (gradient * maps).sum(1, keepdim=True)

    if torch.compiler.is_dynamo_compiling():
        return _first_order_compiled(gated, head, choose)
    if torch.compiler.is_compiling():
        logits, chosen, parts = unrolled(value_and_parts, gated)
        return logits, chosen, parts
    return value_and_parts(gated)


def _first_order_compiled(
    gated: Tensor, head: Callable[[Tensor], Tensor], choose: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """The same in the form that torch.compile can follow."""
    logits, pull = torch.func.vjp(lambda x: head(x * 1), gated)  # type: ignore[misc]
    chosen = choose(logits)
    (gradient,) = pull(torch.zeros_like(logits).scatter(1, chosen[:, None], 1.0))
    return logits, chosen, (gradient * gated).sum(1, keepdim=True)


def overlap(source: int, target: int) -> Tensor:
    """(target, source) matrix that lays `source` cells over `target` cells by length; columns sum to 1."""
    edges = torch.arange(source + 1, dtype=torch.float64) / source
    grid = torch.arange(target + 1, dtype=torch.float64) / target
    low = torch.maximum(edges[None, :-1], grid[:-1, None])
    high = torch.minimum(edges[None, 1:], grid[1:, None])
    return (high - low).clamp(min=0) * source


def regrid(maps: Tensor, height: int, width: int) -> Tensor:
    """Maps (N, 1, h, w) on another grid (N, 1, height, width) with the same sum."""
    if maps.shape[-2:] == (height, width):
        return maps
    rows = overlap(maps.shape[-2], height).to(maps)
    columns = overlap(maps.shape[-1], width).to(maps)
    with full_precision(maps.device):
        return rows @ maps @ columns.t()


def propagate(relevance: Tensor, weights: Tensor, window: int) -> Tensor:
    """One level down: R_l(p) = A_l(p | W) R_{l+1}(W).

    Args:
        relevance: (N, 1, h, w) of the level above.
        weights: attention A_l (N, 1, H, W).
        window: side of its windows.

    Returns:
        (N, 1, H, W) with the same sum as `relevance`.
    """
    height, width = weights.shape[-2:]
    per_window = regrid(relevance, -(-height // window), -(-width // window))
    spread = per_window.repeat_interleave(window, 2).repeat_interleave(window, 3)
    return weights * spread[..., :height, :width]


def head_maps(concept: Tensor, gate: Tensor, contributions: Tensor) -> LevelMaps:
    """Maps of the head from the target's concept map, the gate |W| A and contributions, all (N, 1, h, w)."""
    attention = gate / (gate.shape[-2] * gate.shape[-1])
    return LevelMaps("head", concept, attention, contributions, concept, ("target",))


def level_maps(below: tuple[Level, ...], head: LevelMaps) -> tuple[LevelMaps, ...]:
    """Maps of all levels, finest first.

    Args:
        below: what was recorded below the head, finest first.
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
    """What becomes the default map: the target's concept map times its positive contribution, (N, 1, h, w) float32."""
    return (head.scores * head.contributions.clamp(min=0)).float()
