"""LAP's own explanation: contributions to the logit, from the forward pass that classified the image.

Idea: a logit is a sum over positions of the last map. The weights that pool upwards, or learned ones that may only
move evidence within a window, distribute it downwards to the pixels. Every grid sums to the logit without its bias.
Paper: local attention pooling (arXiv 2201.11808), as built in `interp_core`; the redistribution is ours.
Library: `interp_core`.
Baseline: none.
Budget: one pass.
Cost: 1 forward, no backward.
Not valid: networks without LAP: refused.
Known limits: within its reach evidence may be put where it does not lie. Heads with hidden layers: first order.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from baselines.base import Explainer, Kind, explainers
from interp_core import LapModel


@explainers.register("lap")
class Lap(Explainer):
    """Contributions of the pixels of a LAP network, signed; with the bias they sum to the logit."""

    title: ClassVar[str] = "LAP"
    kind: ClassVar[Kind] = "intrinsic"
    signed: ClassVar[bool] = True
    source: ClassVar[str] = "arXiv 2201.11808; interp_core"

    def refusal(self, model: nn.Module) -> str | None:
        """Refuse a model without LAP."""
        if isinstance(model, LapModel):
            return None
        return f"{type(model).__name__} has no LAP; use interp_core.attach(model)"

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Return maps (N, 1, H, W) of the targets."""
        assert isinstance(model, LapModel), "other models are refused"
        return model.explain(images, targets).map
