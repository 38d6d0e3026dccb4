"""LAP refined: a map that decoders learned beside the network, from masked images.

Idea: two decoders read the features of the pass that classified the image. They learned which region keeps the
decision and which patches lose it, so one pass gives what others search for in hundreds. This amortises an external
explainer. It is no part of the decision.
Paper: after Dabkowski and Gal (arXiv 1705.07857) and the local attention pooling of arXiv 2201.11808; the form is ours.
Library: `interp_core`.
Baseline: that of the terms in training, by default a blur or an in-painted image.
Budget: one pass.
Cost: 1 forward, no backward.
Not valid: networks without LAP, or without its decoders (`attach(refine=True)`): refused.
Known limits: it can show what stands out in the data, whoever decides by it (docs/methodology.md).
"""

from __future__ import annotations

from typing import ClassVar

from torch import Tensor, nn

from baselines.base import Explainer, Kind, explainers
from interp_core import LapModel


@explainers.register("lap_refined")
class LapRefined(Explainer):
    """Map of the decoders of a LAP network, >= 0."""

    title: ClassVar[str] = "LAP refined"
    kind: ClassVar[Kind] = "amortised"
    signed: ClassVar[bool] = False
    source: ClassVar[str] = "interp_core"

    def refusal(self, model: nn.Module) -> str | None:
        """Refuse a model without LAP, or without decoders."""
        if not isinstance(model, LapModel):
            return f"{type(model).__name__} has no LAP; use interp_core.attach(model, refine=True)"
        if model.refiner is None:
            return "its LAP has no decoders; use interp_core.attach(model, refine=True) and fit it"
        return None

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Return maps (N, 1, H, W) of the targets."""
        assert isinstance(model, LapModel), "other models are refused"
        refined = model.explain(images, targets).refined
        assert refined is not None, "models without decoders are refused"
        return refined
