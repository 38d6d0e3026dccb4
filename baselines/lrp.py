"""LRP through zennit: the logit handed back layer by layer, each unit sharing out what it got among its inputs.

Idea: relevance R_i = sum_j R_j z_ij / sum_i z_ij. Composite of Montavon et al. 2019 and Kohlbrenner et al. 2020:
epsilon rule in dense layers, z+ in convolutions, flat in the first layer; batch norms merged into the convolutions
before them. Starts from the logit, so that evidence for the target is positive where its logit is.
Paper: Bach et al., PLOS ONE 2015.
Library: zennit's rules for modules. What lies between modules has rules of its own here, since zennit leaves it to the
gradient, which counts a shortcut twice: sums share in proportion, averages likewise, and of a product the signal takes
all and the gate nothing (Arras et al. 2017). So any network made of such steps will do, LAP's included.
Baseline: none.
Budget: one pass.
Cost: 1 forward, 1 backward, in which every layer is run twice more.
Not valid: networks with a step that has no rule (layer norm, attention, weight standardisation), or where relevance is
lost by more than a tenth on noise: refused; from one percent on: flagged.
Known limits: z+ and epsilon leave out biases of convolutions and keep those of dense layers, so that the map sums to
the logit less their share. z+ hides evidence against the target inside convolutions. Flat makes the map as coarse
as the first layer's kernel. Activations other than ReLU hand on what they get.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass
from typing import ClassVar

import torch
from pydantic import Field
from torch import Tensor, nn

from baselines.base import Explainer, explainers
from baselines.support.between import same_logits
from baselines.support.gradients import in_parts, of_target
from baselines.support.norms import merge_norms, norms_behind
from baselines.support.relevance import called_twice, relevance
from baselines.support.trial import probe_image, remembered
from interp_core.backbone.trace import Trace

FLAGGED, REFUSED = 0.01, 0.1


@dataclass(frozen=True)
class Plan:
    """How relevance goes through a network.

    Attributes:
        norms: names of convolutions and of the batch norms to be merged into them.
        reason: why it cannot; None if it can.
        lost: share of the relevance that does not arrive on noise, biases left out everywhere.
    """

    norms: tuple[tuple[str, str], ...]
    reason: str | None
    lost: float


@remembered
def plan(model: nn.Module) -> Plan:
    """Tried on noise, on a copy in double precision."""
    image = probe_image(model)
    if image is None:
        return Plan((), "the image size is not known, so that its rules cannot be tried", 0.0)
    twin, image = copy.deepcopy(model).double().requires_grad_(False), image.double()
    trace = Trace(twin)
    with torch.no_grad(), trace.watching():
        logits = twin(image)
    twice = called_twice(trace)
    if twice:
        return Plan((), f"modules with a rule are called more than once: {', '.join(twice[:3])}", 0.0)
    norms = norms_behind(trace)
    merge_norms(twin, norms)
    with torch.no_grad():
        kept = same_logits(twin(image), logits)
    if not kept:
        norms, twin = (), copy.deepcopy(model).double().requires_grad_(False)
    target = logits.abs().argmax(1)
    values, again, unruled = relevance(twin, image, target, keep_dense_bias=False)
    reason = f"no rule for {', '.join(sorted(unruled))}" if unruled else None
    if not same_logits(again, logits):
        reason = "replacing what works in place changes its logits"
    return Plan(norms, reason, abs(float(values.sum()) / float(of_target(logits, target)) - 1))


@explainers.register("lrp")
class Lrp(Explainer):
    """Relevance by epsilon, z+ and flat rules; sums to the logit less the biases of dense layers.

    Fields:
        internal_batch_size: images that go through the model at once.
    """

    title: ClassVar[str] = "LRP"
    signed: ClassVar[bool] = True
    source: ClassVar[str] = "Bach et al. 2015; zennit rules, composite epsilon-plus-flat"

    internal_batch_size: int = Field(8, ge=1)

    def unsupported(self, model: nn.Module) -> str | None:
        """A reason where a step has no rule, or more than a tenth of the relevance is lost."""
        found = plan(model)
        if found.reason is not None or found.lost <= REFUSED:
            return found.reason
        return f"on noise {found.lost:.1%} of the relevance is lost or made"

    def caveat(self, model: nn.Module) -> str | None:
        """More than a percent of the relevance lost."""
        lost = plan(model).lost
        return f"on noise {lost:.1%} of the relevance is lost or made" if lost > FLAGGED else None

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        """Relevance (N, C, H, W), one per channel."""
        twin = copy.deepcopy(model).requires_grad_(False)
        merge_norms(twin, plan(model).norms)

        def one(part: Tensor, labels: Tensor) -> Tensor:
            return relevance(twin, part, labels)[0]

        return in_parts(one, images, targets, self.internal_batch_size)
