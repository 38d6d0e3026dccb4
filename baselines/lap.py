"""LAP's own explanation: the map of the forward pass that classified the image.

Idea: the pooling weights of a network with local attention pooling show which positions a logit came from. So the
explanation is read from one forward pass, without samples or a second model.
Paper: local attention pooling (arXiv 2201.11808), as built in `interp_core`; the resizing to input resolution is ours.
Library: `interp_core`.
Baseline: none.
Budget: one pass.
Cost: 1 forward, no backward.
Not valid: networks without LAP: refused.
Known limits: its resolution is that of the lowest level with a LAP block.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from baselines.base import Explainer, Kind, explainers
from interp_core import LapModel


@explainers.register("lap")
class Lap(Explainer):
    """Map of a LAP network, >= 0."""

    title: ClassVar[str] = "LAP"
    kind: ClassVar[Kind] = "intrinsic"
    signed: ClassVar[bool] = False
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
