"""Steps: improve the order of a map by gradient steps on the image that it explains.

Each step hides a part of the image and asks the network what is left of the decision. s ranks the cells of a grid, t_q
is its (1 - q) quantile, b a blurred image, and p_k the probability of the explained class:

    m = sigmoid((s - t_q) / 0.1)
    softplus(-o(m x + (1 - m) b)) + softplus(o((1 - m) x + m b)) + 0.02 sum |ds|,      o = log p_k / (1 - p_k)

The upper part must keep the decision, what is left must lose it, and neighbours should have similar scores. s starts at
the normal scores of the map's ranks, and Adam follows the gradient. The shares q differ from step to step, small ones
are more frequent, and all images have the same, so that a map does not depend on the other images of its batch.

The result has the values of the map that it started from, in the order of s: the highest value lies where s is highest.
So it has the same sum. The steps move evidence and make none. What moved is no exact part of the logit any more.

After extremal perturbations (Fong et al., arXiv 1910.08485) and the curves of RISE (Petsiuk et al., arXiv 1806.07421),
which optimise from nothing in hundreds of passes. Here the network's own map is the start, and a few steps suffice.

Limits: within a cell of the grid the order is that of a smooth surface. Such a map is no part of the decision. It is
optimised for what pixel-removal metrics measure, so judge it by metrics of another kind too. A network may react to the
masks themselves, which are no natural images.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interp_core.backbone.blur import blur
from interp_core.lap.odds import log_odds

CELLS = 28  # number of cells along the longer side
RATE = 0.15
EDGE = 0.1  # width of the edge of a mask, in units of s
SMOOTHNESS = 0.02
SIGMA = 0.1  # of the blur, as a share of the longer side
LEAST, RANGE, POWER = 0.02, 0.7, 1.5  # shares are q = LEAST + RANGE * u^POWER
GOLDEN = (math.sqrt(5) - 1) / 2


def step_map(
    logits_of: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    start: Tensor,
    steps: int,
    *,
    cells: int = CELLS,
    multi_label: bool = False,
) -> Tensor:
    """Improve the order of maps by gradient steps, (N, 1, H, W) float32.

    Each step costs two passes forward and back for each image. Nothing is random.

    Args:
        logits_of: logits (M, K) of images; weights that need no gradient save time, see `constant_weights`.
        images: (N, C, H, W), normalised.
        targets: (N,) class indices.
        start: maps to start from, (N, 1, H, W) of the size of the images, of any scale.
        steps: number of steps.
        cells: number of cells along the longer side of the image, at most one for each pixel.
        multi_label: whether p is a sigmoid of each logit, instead of the softmax over all.
    """
    grid = grid_of(images.shape[-2], images.shape[-1], cells)
    with torch.inference_mode(False), torch.enable_grad():
        # Copies, since tensors made in inference mode cannot take part in a graph.
        images, targets, start = (tensor.detach().clone() for tensor in (images, targets, start))
        scores = normal_scores(F.adaptive_avg_pool2d(start.float(), grid))
        scores = _optimise(logits_of, images, targets, scores, steps, multi_label)
    return rearrange(start, F.interpolate(scores, images.shape[-2:], mode="bilinear", align_corners=False))


def rearrange(maps: Tensor, scores: Tensor) -> Tensor:
    """Put the values of maps (N, 1, H, W) in the order of scores of the same shape.

    >>> rearrange(torch.tensor([[[[5.0, -1.0, 2.0]]]]), torch.tensor([[[[0.1, 0.2, 0.3]]]]))
    tensor([[[[-1.,  2.,  5.]]]])
    """
    positions = scores.flatten(1).argsort(stable=True, dim=1)
    values = maps.flatten(1).sort(dim=1).values
    return torch.empty_like(values).scatter_(1, positions, values).view_as(maps)


def _optimise(
    logits_of: Callable[[Tensor], Tensor],
    images: Tensor,
    targets: Tensor,
    scores: Tensor,
    steps: int,
    multi_label: bool,
) -> Tensor:
    """Take the steps from normal scores (N, 1, h, w); return the scores after them."""
    background = blur(images, SIGMA * max(images.shape[-2:]))
    scores = scores.requires_grad_()
    optimiser = torch.optim.Adam([scores], lr=RATE)
    for step in range(steps):
        keep = soft_cut(scores, share_of(step))
        keep = F.interpolate(keep, images.shape[-2:], mode="bilinear", align_corners=False).to(images.dtype)
        difference = keep * (images - background)
        logits = logits_of(torch.cat([background + difference, images - difference]))
        kept, left = log_odds(logits, targets.repeat(2), multi_label).chunk(2)
        loss = (F.softplus(-kept) + F.softplus(left)).sum() + SMOOTHNESS * roughness(scores)
        (scores.grad,) = torch.autograd.grad(loss, scores)
        optimiser.step()
    return scores.detach()


@contextmanager
def constant_weights(model: nn.Module) -> Iterator[None]:
    """Hold the weights constant, so that no time goes into their gradients; restore all flags on exit."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    for parameter in learning:
        parameter.requires_grad_(False)
    try:
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def grid_of(height: int, width: int, cells: int) -> tuple[int, int]:
    """Return the numbers of rows and columns of nearly square cells.

    >>> grid_of(224, 224, 28), grid_of(100, 200, 28), grid_of(16, 16, 28)
    ((28, 28), (14, 28), (16, 16))
    """
    side = max(1.0, max(height, width) / cells)
    return max(1, round(height / side)), max(1, round(width / side))


def share_of(step: int) -> float:
    """Return the share q of the image above the cut, for one step.

    Multiples of the golden ratio, so that any number of steps spreads evenly.
    """
    return LEAST + RANGE * math.pow((0.5 + step * GOLDEN) % 1, POWER)


def soft_cut(scores: Tensor, share: float) -> Tensor:
    """Make soft masks, about 1 in the upper share of each map of scores (N, 1, h, w)."""
    level = scores.detach().flatten(1).quantile(1 - share, dim=1)[:, None, None, None]
    return torch.sigmoid((scores - level) / EDGE)


def roughness(scores: Tensor) -> Tensor:
    """Sum the differences of neighbours in rows and columns."""
    return scores.diff(dim=2).abs().sum() + scores.diff(dim=3).abs().sum()


def normal_scores(maps: Tensor) -> Tensor:
    """Replace values (N, 1, h, w) by normal quantiles of their ranks, the lowest by -2.3 and the highest by 2.3."""
    ranks = maps.flatten(1).argsort(stable=True, dim=1).argsort(1).to(maps.dtype) / max(1, maps[0].numel() - 1)
    scores: Tensor = torch.special.ndtri(0.98 * ranks + 0.01)
    return scores.view_as(maps)
