"""Grad-CAM inside the graph, for losses on it."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor


def grad_cam(features: Tensor, head: Callable[[Tensor], Tensor], labels: Tensor) -> tuple[Tensor, Tensor]:
    """Compute logits and Grad-CAM of the present classes, both in the graph.

    With a linear head behind average pooling, Grad-CAM is the positive part of CAM over h w.

    Args:
        features: X (N, C, h, w), in the graph.
        head: from features to logits (N, K).
        labels: (N, K), 1 where a class is present; the logits of these are summed.

    Returns:
        Logits (N, K) and maps (N, 1, h, w) >= 0.
    """
    with torch.enable_grad():
        features = features if features.requires_grad else features.requires_grad_()
        logits = head(features.clone())  # a head may change its input in place
        (gradients,) = torch.autograd.grad((logits * labels).sum(), features, create_graph=True)
    weights = gradients.mean((2, 3), keepdim=True)
    return logits, (weights * features).sum(1, keepdim=True).relu()
