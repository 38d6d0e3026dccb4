"""What injection on gradients shares: Grad-CAM in the graph, and whether a network has the second derivative it takes.

A loss on a gradient is minimised with the derivative of that gradient. PyTorch has none for some activations, such as
hard-sigmoid, and says so only in the trainer's backward pass; it is tried once when the rival is made.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

from benchmarks.rivals.base import Rival
from interp_core.backbone.trace import evaluating, noise_image
from interp_core.errors import BackboneError

MISSING = "is not implemented"


def grad_cam(features: Tensor, head: Callable[[Tensor], Tensor], labels: Tensor) -> tuple[Tensor, Tensor]:
    """Logits (N, K) and Grad-CAM (N, 1, h, w) >= 0 of the classes where `labels` (N, K) are 1, both in the graph.

    With linear heads behind average pooling it is the positive part of CAM over h w.

    Args:
        features: X (N, C, h, w), in the graph.
        head: from features to logits.
        labels: which logits are summed.
    """
    with torch.enable_grad():
        features = features if features.requires_grad else features.requires_grad_()
        logits = head(features.clone())  # a head may change what it is given in place
        (gradients,) = torch.autograd.grad((logits * labels).sum(), features, create_graph=True)
    weights = gradients.mean((2, 3), keepdim=True)
    return logits, (weights * features).sum(1, keepdim=True).relu()


def check_second_derivative(rival: Rival) -> None:
    """Differentiate the losses of `rival` once, on an image of noise whose left half is the object.

    Raises:
        BackboneError: an operation of its backbone has no second derivative.
    """
    device = next(rival.parameters()).device
    images = noise_image(rival.backbone, rival.info.in_channels, rival.info.size).to(device)
    masks = torch.zeros_like(images[:, :1])
    masks[..., : masks.shape[-1] // 2] = 1
    learning = [parameter for parameter in rival.parameters() if parameter.requires_grad]
    if not learning:
        return
    try:
        with evaluating(rival), torch.enable_grad():
            losses = rival.losses(images, torch.zeros(1, dtype=torch.int64, device=device), {"object": masks})
            torch.autograd.grad(torch.stack(list(losses.values())).sum(), learning, allow_unused=True)
    except RuntimeError as error:
        if MISSING not in str(error):
            raise
        reason = str(error).split(MISSING)[0].strip()
        raise BackboneError(
            f"{rival.name} needs second derivatives and {type(rival.backbone).__name__} has an operation without one "
            f"({reason} {MISSING}): choose a backbone without it, as resnet18, or a rival with a loss on a forward map"
        ) from error
