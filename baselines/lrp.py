"""LRP through zennit: the logit propagated back layer by layer, each unit sharing its relevance among its inputs.

Idea: relevance R_i = sum_j R_j z_ij / sum_i z_ij. Composite of Montavon et al. 2019 and Kohlbrenner et al. 2020:
epsilon rule in dense layers, z+ in convolutions, flat in the first layer; batch norms merged into the convolutions
before them. It starts from the logit, so evidence for the target is positive where the logit is positive.
Paper: Bach et al., PLOS ONE 2015.
Library: zennit's rules for modules. Functions between modules have rules here, since zennit leaves them to the
gradient, which counts a shortcut twice. Sums and averages share in proportion; in a product the signal gets everything
and the gate nothing (Arras et al. 2017). So it works on any network made of such steps, LAP networks included.
Baseline: none.
Budget: one pass.
Cost: 1 forward, 1 backward, in which every layer is run twice more.
Not valid: networks with a step that has no rule (layer norm, attention, weight standardisation), or where more than
10 % of the relevance is lost on noise: refused. Above 1 %: flagged.
Known limits: z+ and epsilon ignore biases of convolutions and keep those of dense layers, so the map sums to the logit
minus their share. z+ hides evidence against the target inside convolutions. Flat makes the map as coarse as the first
layer's kernel. Activations other than ReLU pass relevance on unchanged.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, explainers
from baselines.support.between import same_logits
from baselines.support.gradients import target_logits
from baselines.support.norms import find_norms_after, merge_norms
from baselines.support.relevance import modules_called_twice, propagate_relevance
from baselines.support.trial import cache_by_weights, probe_image
from interp_core.backbone.copies import copy_with_plain_weights
from interp_core.backbone.trace import Trace

FLAGGED, REFUSED = 0.01, 0.1


@dataclass(frozen=True)
class RelevancePlan:
    """Outcome of the trial on one network.

    Attributes:
        norms: names of convolutions and of the batch norms to merge into them.
        reason: why relevance cannot be propagated; None if it can.
        lost: share of the relevance that does not arrive on noise, without any biases.
    """

    norms: tuple[tuple[str, str], ...]
    reason: str | None
    lost: float


@cache_by_weights
def plan_relevance(model: nn.Module) -> RelevancePlan:
    """Try LRP on noise, on a copy of the model in double precision."""
    image = probe_image(model)
    if image is None:
        return RelevancePlan((), "the image size is not known, so that its rules cannot be tried", 0.0)
    twin, image = copy_with_plain_weights(model).double().requires_grad_(False), image.double()
    trace = Trace(twin)
    with torch.no_grad(), trace.watching():
        logits = twin(image)
    repeated = modules_called_twice(trace)
    if repeated:
        return RelevancePlan((), f"modules with a rule are called more than once: {', '.join(repeated[:3])}", 0.0)
    norms = find_norms_after(trace)
    merge_norms(twin, norms)
    with torch.no_grad():
        is_equivalent = same_logits(twin(image), logits)
    if not is_equivalent:
        norms, twin = (), copy_with_plain_weights(model).double().requires_grad_(False)
    target = logits.abs().argmax(1)
    relevance, new_logits, unruled = propagate_relevance(twin, image, target, keep_dense_bias=False)
    reason = f"no rule for {', '.join(sorted(unruled))}" if unruled else None
    if not same_logits(new_logits, logits):
        reason = "replacing what works in place changes its logits; let its forward assign results instead"
    return RelevancePlan(norms, reason, abs(float(relevance.sum()) / float(target_logits(logits, target)) - 1))


@explainers.register("lrp")
class Lrp(Explainer):
    """Relevance by epsilon, z+ and flat rules, which sums to the logit minus the biases of dense layers.

    Fields:
        internal_batch_size: images that go through the model at once.
    """

    title: ClassVar[str] = "LRP"
    needs_layers: ClassVar[bool] = True
    signed: ClassVar[bool] = True
    source: ClassVar[str] = "Bach et al. 2015; zennit rules, composite epsilon-plus-flat"

    internal_batch_size: int = Field(8, ge=1)

    def refusal(self, model: nn.Module) -> str | None:
        """Refuse a model with a step without a rule, or where more than 10 % of the relevance is lost."""
        plan = plan_relevance(model)
        if plan.reason is not None or plan.lost <= REFUSED:
            return plan.reason
        return f"on noise {plan.lost:.1%} of the relevance is lost or made"

    def caveat(self, model: nn.Module) -> str | None:
        """Report a loss of more than 1 % of the relevance."""
        lost = plan_relevance(model).lost
        return f"on noise {lost:.1%} of the relevance is lost or made" if lost > FLAGGED else None

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Compute relevance (N, C, H, W), one value per channel."""
        twin = copy_with_plain_weights(model).requires_grad_(False)
        merge_norms(twin, plan_relevance(model).norms)
        return propagate_relevance(twin, images, targets)[0]
