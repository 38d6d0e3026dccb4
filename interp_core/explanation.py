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

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from interp_core.backbone import Site
from interp_core.pooling import Recording, window_counts


@dataclass(frozen=True)
class LevelMaps:
    """One level's maps.

    Attributes:
        name: where the level sits in the backbone; "head" for the global pooling.
        scores: aggregated concept score S in [0, 1], (N, 1, h, w); at the head the target class' own concept map.
        attention: weights inside each window, >= 0, sum 1 per window, (N, 1, h, w).
        contributions: part of the target's logit through each position, (N, 1, h, w).
    """

    name: str
    scores: Tensor
    attention: Tensor
    contributions: Tensor


@dataclass(frozen=True)
class Explanation:
    """What a LAP model says of its own decision.

    Attributes:
        map: (N, 1, H, W) float32 at input resolution, >= 0: concept score times positive contribution, placed on
            the centres of the cells' receptive fields.
        targets: (N,) explained classes.
        logits: (N, K) of the same forward pass.
        bias: (N,) part of the target logit that no position carries.
        levels: finest first, the head last.
    """

    map: Tensor
    targets: Tensor
    logits: Tensor
    bias: Tensor
    levels: tuple[LevelMaps, ...]

    @property
    def contributions(self) -> Tensor:
        """Signed contributions on the finest grid, (N, 1, h, w): contributions + bias = logit of the target."""
        return self.levels[0].contributions

    @property
    def concept(self) -> Tensor:
        """Concept map of the target class on the head's grid, (N, 1, h, w) in [0, 1]."""
        return self.levels[-1].scores


def head_contributions(evidence: Tensor, gate: Tensor) -> Tensor:
    """C(p) = A(p) (W_k . X(:, p)) of evidence W_k . X and gate |W| A, all (N, 1, h, w)."""
    return evidence * gate / (gate.shape[-2] * gate.shape[-1])


def first_order_contributions(gated: Tensor, targets: Tensor, head: Callable[[Tensor], Tensor]) -> Tensor:
    """C(p) = sum_c X_c(p) d logit / d X_c(p), the head alone being differentiated: (N, 1, h, w)."""
    with torch.inference_mode(False), torch.enable_grad():
        # Clones, since tensors made in inference mode take no part in a derivative.
        leaf = gated.detach().clone().requires_grad_()
        chosen = head(leaf).gather(1, targets.clone()[:, None]).sum()
        (gradient,) = torch.autograd.grad(chosen, leaf)
    return (gradient * gated).sum(1, keepdim=True)


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


def level_maps(record: Recording, sites: tuple[Site, ...], concept: Tensor, head: Tensor) -> tuple[LevelMaps, ...]:
    """Maps of all levels, finest first.

    Args:
        record: of the forward pass.
        sites: levels below the head, finest first.
        concept: the target's concept map (N, 1, h, w).
        head: contributions at the head (N, 1, h, w).
    """
    assert record.head_gate is not None
    levels = [LevelMaps("head", concept, record.head_gate / head[0, 0].numel(), head)]
    relevance = head
    for site in reversed(sites):
        scores, gate = record.gates[site.module]
        weights = gate / window_counts(gate.shape[-2], gate.shape[-1], site.window).to(gate)
        relevance = propagate(relevance, weights, site.window)
        levels.append(LevelMaps(site.module, scores, weights, relevance))
    return tuple(reversed(levels))


def evidence_map(head: LevelMaps) -> Tensor:
    """What becomes the default map: the target's concept map times its positive contribution, (N, 1, h, w) float32."""
    return (head.scores * head.contributions.clamp(min=0)).float()
