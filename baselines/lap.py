"""LAP's own explanation: what the forward pass that classified the image says about where it looked.

Idea: the pooling weights of a network with local attention pooling already say which positions a logit came from, so
the explanation is read off one forward pass, without samples or a second model.
Paper: local attention pooling (arXiv 2201.11808), as built in `interp_core`; the way back to input resolution is ours.
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
    """The map a LAP network gives with its answer, >= 0."""

    title: ClassVar[str] = "LAP"
    kind: ClassVar[Kind] = "intrinsic"
    signed: ClassVar[bool] = False
    source: ClassVar[str] = "arXiv 2201.11808; interp_core"

    def unsupported(self, model: nn.Module) -> str | None:
        """A reason unless LAP is attached to `model`."""
        if isinstance(model, LapModel):
            return None
        return f"{type(model).__name__} has no LAP; use interp_core.attach(model)"

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Maps (N, 1, H, W) of the targets' evidence."""
        return model.explain(images, targets).map  # type: ignore[operator]
