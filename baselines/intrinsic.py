"""The map a network gives of itself, where it is not a LAP network: what rivals of LAP are judged by.

Idea: some networks answer with a map beside the logits, such as class activation maps, CALM or B-cos; what they say of
themselves is taken as it is.
Paper: that of the network.
Library: the network's own `explain(images, targets)`.
Baseline: none.
Budget: one pass.
Cost: 1 forward; 1 backward besides on networks whose own map takes one, such as B-cos.
Not valid: networks that give no map of themselves, and LAP networks, whose map is `lap`: refused.
Known limits: what such a map means differs from network to network.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from baselines.base import Explainer, Kind, explainers


@explainers.register("intrinsic")
class Intrinsic(Explainer):
    """The map (N, 1, H, W) >= 0 of a network that says `explains_itself`."""

    title: ClassVar[str] = "Own map"
    kind: ClassVar[Kind] = "intrinsic"
    signed: ClassVar[bool] = False
    source: ClassVar[str] = "the network's own"

    def unsupported(self, model: nn.Module) -> str | None:
        """A reason unless `model` gives a map of itself."""
        if getattr(model, "explains_itself", False):
            return None
        return f"{type(model).__name__} does not say explains_itself; for a LAP network use lap"

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Maps (N, 1, H, W) of the targets' evidence."""
        return model.explain(images, targets)  # type: ignore[operator]
