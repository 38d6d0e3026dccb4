"""Finer-CAM: Grad-CAM of the difference between the target's logit and those of the most similar classes.

Idea: Grad-CAM of y_t - alpha * sum_k w_k y_k over the classes k whose logits are nearest to the target's, weighted by
their probabilities. What similar classes share cancels.
Paper: Zhang et al., CVPR 2025.
Library: own code; the tests compare it with pytorch-grad-cam, whose similar classes and weights these are.
Baseline: none.
Budget: one pass; 3 similar classes and alpha = 1, as in pytorch-grad-cam.
Cost: 1 forward, 1 backward.
Not valid: networks without one last map (N, C, h, w), such as pure transformers: refused. On one logit, which has no
similar class, it is Grad-CAM: flagged.
Known limits: as Grad-CAM. Parts that the class shares with its neighbours vanish, also where the decision needs them.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from baselines.base import explainers
from baselines.support.cam import GradientCam, last_layer
from baselines.support.gradients import target_logits


@explainers.register("finer_cam")
class FinerCam(GradientCam):
    """Grad-CAM of the target's lead over similar classes.

    Fields:
        alpha: strength of the comparison; 0 is Grad-CAM.
        similar: number of similar classes, or all others where there are fewer.
    """

    title: ClassVar[str] = "Finer-CAM"
    source: ClassVar[str] = "Zhang et al. 2025"

    alpha: float = Field(1.0, ge=0)
    similar: int = Field(3, ge=1)

    def caveat(self, model: nn.Module) -> str | None:
        """Report a network with one logit."""
        return "one logit has no similar class: as Grad-CAM" if last_layer(model).info.classes == 1 else None

    def objective(self, logits: Tensor, targets: Tensor) -> Tensor:
        """Compute the lead (N,) of the targets over similar classes, from logits (N, K)."""
        target, count = target_logits(logits, targets), min(self.similar, logits.shape[1] - 1)
        if count == 0:
            return target
        distances = (logits - target[:, None]).abs().scatter(1, targets[:, None], float("inf"))
        classes = distances.topk(count, largest=False).indices
        probabilities = logits.softmax(1).gather(1, classes)
        weights = probabilities / probabilities.sum(1, keepdim=True)
        return target - self.alpha * (weights * logits.gather(1, classes)).sum(1)

    def combine(self, features: Tensor, gradients: Tensor) -> Tensor:
        """Combine features and gradients into maps (N, 1, h, w) >= 0."""
        return (gradients.mean((2, 3), keepdim=True) * features).sum(1, keepdim=True).relu()
