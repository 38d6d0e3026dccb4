"""Local attention pooling: the window weights as pure functions.

Features X (N, C, H, W) get concept maps I_j = sigmoid(f_j(X)) in [0, 1], their aggregate S = max_j I_j, and inside
every window W

    r(p) = exp(-a^2 (max_{q in W} S(q) - S(p))^2),  A(p) = r(p) / sum_{q in W} r(q),  Y_W = sum_{p in W} A(p) X(:, p).

a = 0 is average pooling, a -> inf picks the position with the highest score. The blocks hand on the gated features
|W| A X, whose average over a window is Y_W; so one form serves a pooling that follows and any other operation that
loses resolution, and at a = 0 the gate is exactly 1.

After LAP, arXiv 2201.11808, as far as its abstracts and figures tell; the window weighting is the most likely reading
of them. Two others are there to compare it with, likewise exactly 1 at a = 0: "softmax", exp(-a^2 (max S - S)), and
"lip", exp(-a^2 (max logit S - logit S)), the weights of local importance-based pooling (Gao et al., ICCV 2019). Limit:
only differences of scores matter inside a window, so a flat window says nothing; the concept maps carry that.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_core.backbone.constants import constant

Weighting = Literal["rbf", "softmax", "lip"]
WEIGHTINGS: tuple[str, ...] = get_args(Weighting)
LEAST = 1e-4  # of a score whose logit is taken


def _window_max(x: Tensor, window: int | None) -> Tensor:
    if window is None:
        return x.amax((2, 3), keepdim=True)
    return _spread(F.max_pool2d(x, window, ceil_mode=True), window, x)


def _window_mean(x: Tensor, window: int | None) -> Tensor:
    if window is None:
        return x.mean((2, 3), keepdim=True)
    return _spread(F.avg_pool2d(x, window, ceil_mode=True), window, x)


def _spread(pooled: Tensor, window: int, like: Tensor) -> Tensor:
    """One value per window (N, 1, h, w) to all positions of its window, cut to the size of `like`."""
    size = (pooled.shape[-2] * window, pooled.shape[-1] * window)
    # "nearest" rounds 41 * (1 / 41) to below 1; "nearest-exact" looks half a position further.
    return F.interpolate(pooled, size, mode="nearest-exact")[..., : like.shape[-2], : like.shape[-1]]


def attention_gate(scores: Tensor, a: Tensor | float, window: int | None, weighting: Weighting = "rbf") -> Tensor:
    """|W| A: attention weights times the number of positions in the window, so that their mean is 1.

    Args:
        scores: (N, 1, H, W) aggregated scores S in [0, 1].
        a: sharpness, any real number; only its square counts.
        window: side of the square windows, tiled without overlap and cut at the lower and right border; None for one
            window over the whole map.
        weighting: "rbf", "softmax" or "lip"; see the head of this file.

    Returns:
        (N, 1, H, W), >= 0, mean 1 in every window; exactly 1 where a = 0.
    """
    compared = scores.logit(LEAST) if weighting == "lip" else scores
    if window is None or scores.shape[-2] % window or scores.shape[-1] % window:
        r = torch.exp(_apart(_window_max(compared, window) - compared, weighting) * -(a * a))
        return r / _window_mean(r, window)
    # Windows as channels: the same, in half the time.
    parts = F.pixel_unshuffle(compared, window)
    r = torch.exp(_apart(parts.amax(1, keepdim=True) - parts, weighting) * -(a * a))
    return F.pixel_shuffle(r / r.mean(1, keepdim=True), window)


def _apart(differences: Tensor, weighting: Weighting) -> Tensor:
    return differences.square() if weighting == "rbf" else differences


@constant
def window_counts(height: int, width: int, window: int | None) -> Tensor:
    """Number of positions in the window of each position, (1, 1, H, W)."""
    if window is None:
        return torch.full((1, 1, height, width), float(height * width))
    rows, columns = (
        torch.tensor([min(window, size - i // window * window) for i in range(size)], dtype=torch.float32)
        for size in (height, width)
    )
    return (rows[:, None] * columns[None, :])[None, None]


def attention(scores: Tensor, a: Tensor | float, window: int | None) -> Tensor:
    """Attention weights A (N, 1, H, W), >= 0, sum 1 in every window; arguments as in `attention_gate`."""
    return attention_gate(scores, a, window) / window_counts(scores.shape[-2], scores.shape[-1], window).to(scores)


def lap_pool2d(features: Tensor, scores: Tensor, a: Tensor | float, window: int | None) -> Tensor:
    """Y_W = sum_{p in W} A(p) X(:, p): (N, C, ceil(H / window), ceil(W / window)), or (N, C, 1, 1) for one window."""
    gated = features * attention_gate(scores, a, window)
    return gated.mean((2, 3), keepdim=True) if window is None else F.avg_pool2d(gated, window, ceil_mode=True)
