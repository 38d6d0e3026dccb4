"""LAP steps: the map of a LAP network, improved by a few gradient steps on the image.

Idea: the map of one pass ranks the parts of an image. Each step hides a lower part and an upper part, and follows the
gradient of what is left of the decision, so that upper parts keep it and lower parts lose it. The map has the values of
the LAP network's map in that order, so that their sum stays.
Paper: after Fong et al. (arXiv 1910.08485), started at a LAP network's map; the form is ours.
Library: `interp_core`.
Baseline: a blurred image.
Budget: 24 steps.
Cost: 49 forwards, 48 backwards; 2 of each for each step, and the map's forward.
Not valid: networks without LAP: refused.
Known limits: optimised for what removal metrics measure. It is no part of the decision.
"""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, Kind, explainers
from interp_core import LapModel


@explainers.register("lap_steps")
class LapSteps(Explainer):
    """Map of a LAP network after gradient steps on the image.

    Fields:
        steps: number of steps.
        multi_label: whether the class is judged by its own sigmoid, instead of by the softmax over all.
        internal_batch_size: images that are explained at once; twice as many go through the model.
    """

    title: ClassVar[str] = "LAP steps"
    kind: ClassVar[Kind] = "optimised"
    signed: ClassVar[bool] = True
    source: ClassVar[str] = "interp_core"

    steps: int = Field(24, ge=1)
    multi_label: bool = False
    internal_batch_size: int = Field(16, ge=1)

    def refusal(self, model: nn.Module) -> str | None:
        """Refuse a model without LAP."""
        if isinstance(model, LapModel):
            return None
        return f"{type(model).__name__} has no LAP; use interp_core.attach(model)"

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Return maps (N, 1, H, W) of the targets."""
        assert isinstance(model, LapModel), "other models are refused"
        stepped = model.explain(images, targets, steps=self.steps, multi_label=self.multi_label).stepped
        assert stepped is not None, "there is at least one step"
        return stepped
