"""Window weights of local attention pooling, as pure functions.

Features X (N, C, H, W) have concept maps I_j = sigmoid(f_j(X)) in [0, 1] with an aggregate S = max_j I_j. Inside every
window W

    r(p) = exp(-a^2 (max_{q in W} S(q) - S(p))^2),  A(p) = r(p) / sum_{q in W} r(q),  Y_W = sum_{p in W} A(p) X(:, p).

a = 0 is average pooling, and a -> inf selects the position with the highest score. Blocks return the gated features
|W| A X, whose average over a window is Y_W. So the same form serves an average pooling and any other operation that
loses resolution, and at a = 0 the gate is exactly 1.

Source: LAP, arXiv 2201.11808, as far as its abstracts and figures tell. The window weighting is the most likely reading
of them. Two others are for comparison, and are exactly 1 at a = 0 too: "softmax", exp(-a^2 (max S - S)), and "lip",
exp(-a^2 (max logit S - logit S)), the weights of local importance-based pooling (Gao et al., ICCV 2019).

Limit: only differences of scores matter inside a window, so that a flat window carries no information. The concept maps
do.
"""

from __future__ import annotations

from typing import Literal, get_args

import torch
import torch.nn.functional as F
from torch import Tensor

from interp_core.backbone.constants import constant

Weighting = Literal["rbf", "softmax", "lip"]
Window = int | tuple[int, int]  # side of square windows, or their rows and columns
WEIGHTINGS: tuple[str, ...] = get_args(Weighting)
MIN_SCORE = 1e-4  # before the logit of a score is taken


def _window_max(x: Tensor, window: Window | None) -> Tensor:
    if window is None:
        return x.amax((2, 3), keepdim=True)
    return _spread(F.max_pool2d(x, window, ceil_mode=True), window, x)


def _window_mean(x: Tensor, window: Window | None) -> Tensor:
    if window is None:
        return x.mean((2, 3), keepdim=True)
    return _spread(F.avg_pool2d(x, window, ceil_mode=True), window, x)


def window_sides(window: Window) -> tuple[int, int]:
    """Return rows and columns of a window."""
    return (window, window) if isinstance(window, int) else window


def _spread(pooled: Tensor, window: Window, like: Tensor) -> Tensor:
    """Copy the value of each window to all its positions.

    From (N, 1, h, w) to the size of `like`.
    """
    rows, columns = window_sides(window)
    size = (pooled.shape[-2] * rows, pooled.shape[-1] * columns)
    # "nearest" rounds 41 * (1 / 41) down; "nearest-exact" samples half a position further.
    return F.interpolate(pooled, size, mode="nearest-exact")[..., : like.shape[-2], : like.shape[-1]]


def attention_gate(scores: Tensor, a: Tensor | float, window: Window | None, weighting: Weighting = "rbf") -> Tensor:
    """Compute the gate |W| A.

    These are the attention weights, scaled to mean 1 in every window.

    Args:
        scores: (N, 1, H, W) aggregated scores S in [0, 1].
        a: sharpness, any real number; only its square counts.
        window: side of the windows, or their rows and columns. They do not overlap and are cut at the lower and right
            border. None for one window over the whole map.
        weighting: "rbf", "softmax" or "lip"; see the head of this file.

    Returns:
        (N, 1, H, W), >= 0, mean 1 in every window; exactly 1 where a = 0.
    """
    compared = scores.logit(MIN_SCORE) if weighting == "lip" else scores
    if not isinstance(window, int) or scores.shape[-2] % window or scores.shape[-1] % window:
        r = torch.exp(_distance(_window_max(compared, window) - compared, weighting) * -(a * a))
        return r / _window_mean(r, window)
    # With the positions of a window as channels this takes half the time.
    windows = F.pixel_unshuffle(compared, window)
    r = torch.exp(_distance(windows.amax(1, keepdim=True) - windows, weighting) * -(a * a))
    return F.pixel_shuffle(r / r.mean(1, keepdim=True), window)


def apply_gate(features: Tensor, gate: Tensor, *, attention_gradient: bool = True) -> Tensor:
    """Multiply features by |W| A.

    Args:
        features: X, (N, C, H, W).
        gate: |W| A, (N, 1, H, W).
        attention_gradient: whether the gradient of the features is weighed by the gate too. Otherwise they get that of
            average pooling, as if the gate were 1. The gradient of the gate and the values do not depend on it.

    Returns:
        (N, C, H, W).

    >>> x = torch.ones(1, 1, 1, 2, requires_grad=True)
    >>> apply_gate(x, torch.tensor([[[[0.5, 1.5]]]]), attention_gradient=False).sum().backward()
    >>> x.grad
    tensor([[[[1., 1.]]]])
    """
    if attention_gradient:
        return features * gate
    # The difference is 0, and carries the gradient.
    return features.detach() * gate + (features - features.detach())


def _distance(differences: Tensor, weighting: Weighting) -> Tensor:
    return differences.square() if weighting == "rbf" else differences


@constant
def window_counts(height: int, width: int, window: Window | None) -> Tensor:
    """Count the positions in each position's window, (1, 1, H, W)."""
    if window is None:
        return torch.full((1, 1, height, width), float(height * width))
    rows, columns = (
        torch.tensor([min(side, size - i // side * side) for i in range(size)], dtype=torch.float32)
        for size, side in zip((height, width), window_sides(window), strict=True)
    )
    return (rows[:, None] * columns[None, :])[None, None]


def attention(scores: Tensor, a: Tensor | float, window: Window | None) -> Tensor:
    """Compute attention weights A, (N, 1, H, W).

    They are >= 0 and sum to 1 in every window. Arguments are as in `attention_gate`.

    >>> attention(torch.tensor([[[[0.0, 1.0]]]]), a=1.0, window=None)  # 1 / (1 + e), e / (1 + e)
    tensor([[[[0.2689, 0.7311]]]])
    """
    return attention_gate(scores, a, window) / window_counts(scores.shape[-2], scores.shape[-1], window).to(scores)


def lap_pool2d(features: Tensor, scores: Tensor, a: Tensor | float, window: Window | None) -> Tensor:
    """Pool features by Y_W = sum_{p in W} A(p) X(:, p).

    Tests use this reference form.

    Returns:
        (N, C, ceil(H / window), ceil(W / window)), or (N, C, 1, 1) for one window.
    """
    gated = features * attention_gate(scores, a, window)
    return gated.mean((2, 3), keepdim=True) if window is None else F.avg_pool2d(gated, window, ceil_mode=True)
