"""The map that a network makes itself, other than LAP's: the explainer of the rivals of LAP.

Idea: some networks make a map beside the logits, such as class activation maps, CALM or B-cos. It is used unchanged.
Paper: that of the network.
Library: the network's own `explain(images, targets)`.
Baseline: none.
Budget: one pass.
Cost: 1 forward; and 1 backward on networks whose map needs one, such as B-cos.
Not valid: networks that make no map, and LAP networks, whose explainer is `lap`: refused.
Known limits: the meaning of such a map differs from network to network.
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from baselines.base import Explainer, Kind, explainers


@explainers.register("intrinsic")
class Intrinsic(Explainer):
    """Map (N, 1, H, W) >= 0 of a network with the attribute `explains_itself`."""

    title: ClassVar[str] = "Own map"
    kind: ClassVar[Kind] = "intrinsic"
    signed: ClassVar[bool] = False
    source: ClassVar[str] = "the network's own"

    def refusal(self, model: nn.Module) -> str | None:
        """Refuse a model without a map."""
        if getattr(model, "explains_itself", False):
            return None
        return f"{type(model).__name__} does not say explains_itself; for a LAP network use lap"

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Return maps (N, 1, H, W) of the targets."""
        maps: Tensor = model.explain(images, targets)  # type: ignore[operator]
        return maps
