"""Terms with a given region: Region (evidence inside it), Forbid (no evidence in it), Marked (a concept equals it).

Evidence of a class is the positive part of its activations W_k . X, before attention weighs them. A network can empty
its contributions and its map without changing its decision, by attention and scores. Activations only vanish when the
features do (results/method/log.md). Evidence of a concept below the head is its concept map. Shares are at input
resolution.

The energy form is that of the energy-based pointing game (Score-CAM, arXiv 1910.01279) and of Rao et al., Studying How
to Efficiently and Effectively Guide Models with Explanations (ICCV 2023), here on forward maps, so that no gradient of
a gradient is needed.

Limits: the share inside a region smaller than one map cell can reach neither 0 nor 1. Terms that ask for high scores
somewhere (Presence) reward a shortcut that is learned first: leave them out beside these.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal

import torch
from pydantic import Field
from pydantic.json_schema import SkipJsonSchema
from torch import Tensor

from interp_core.backbone.geometry import collect
from interp_core.errors import ContractError
from interp_core.knowledge.term import TINY, Term, mean_where, nll, terms
from interp_core.knowledge.view import HEAD, Subject, View, fill_missing_masks
from interp_core.registry import Registry

Detector = Callable[[Tensor], Tensor]
Where = str | SkipJsonSchema[Detector]

detectors: Registry[Detector] = Registry("detector", "interp_bench.detectors")


def border(share: float = 0.1) -> Detector:
    """Make a detector of the outer `share` of each side, in (0, 0.5]."""

    def detect(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        mask = images.new_ones(len(images), 1, height, width)
        top, left = round(share * height), round(share * width)
        mask[..., top : height - top, left : width - left] = 0
        return mask

    return detect


detectors.register("border")(border())


class RegionTerm(Term):
    """Base class of terms with a region.

    Fields:
        region: name of a region given with the images or of a registered detector, or a detector itself: a function
            from images (N, C, H, W) to masks (N, 1, H, W) in [0, 1], with rows of NaN for images without a mask.
    """

    region: Where

    def needs(self) -> tuple[str, ...]:
        """Return the region's name if it must be given with the images."""
        return (self.region,) if isinstance(self.region, str) and self.region not in detectors else ()

    def masks(self, view: View) -> tuple[Tensor, Tensor]:
        """Return masks (N, 1, H, W), and 1.0 where an image has one (N,).

        Raises:
            UnknownNameError: neither a region nor a detector has the name.
            ContractError: the masks are not as many, or not as large, as the images.
        """
        if isinstance(self.region, str) and (self.region in view.regions or self.region not in detectors):
            masks = view.region(self.region)
        else:
            masks = (detectors[self.region] if isinstance(self.region, str) else self.region)(view.images)
        n, _, *size = view.images.shape
        if masks.shape != (n, 1, *size):
            raise ContractError(
                f"region {self.region!r} must be {(n, 1, *size)} as the images, got {tuple(masks.shape)}"
            )
        return fill_missing_masks(masks)


class EvidenceTerm(RegionTerm):
    """Base class of Region and Forbid.

    Fields:
        evidence: of a class, its positive part: "activations", whose gradient reaches the features; "contributions",
            the same weighed by attention; or "map", contributions times concept map, for a frozen network whose map
            shall learn.
    """

    evidence: Literal["activations", "contributions", "map"] = "activations"

    def inside(self, view: View, masks: Tensor, subject: Subject) -> Tensor:
        """Compute the share of evidence inside the masks (N, 1, H, W): (N, m) in [0, 1]."""
        return share_inside(self._evidence(view, subject), masks, subject)

    def _evidence(self, view: View, subject: Subject) -> Tensor:
        """Return maps (N, m, h, w), >= 0."""
        if subject.level != HEAD:
            return subject.maps
        if self.evidence == "activations":
            return view.activations.clamp(min=0)
        contributions = view.contributions.clamp(min=0)
        return contributions if self.evidence == "contributions" else contributions * subject.maps


@terms.register("region")
class Region(EvidenceTerm):
    """The share of a present class' evidence outside a region, in [0, 1]: 1 - evidence inside / evidence.

    A mean over the images that have the region, so that few masks count in full; 0 in a step without any.
    """

    weight: float = Field(1.0, ge=0)
    region: Where = "object"

    def loss(self, view: View) -> Tensor:
        """Compute the loss; see the class."""
        masks, has_mask = self.masks(view)

        def share_outside(subject: Subject) -> Tensor:
            outside = 1 - self.inside(view, masks, subject)
            present = (subject.present > 0).any(1).to(has_mask)
            return mean_where(_mean_over_present(outside, subject), has_mask * present)

        return self.mean_of(view, share_outside)


@terms.register("forbid")
class Forbid(EvidenceTerm):
    """The share of a present class' evidence inside a region known to be irrelevant, in [0, 1].

    A mean over the present classes, then over the images that have the region.
    """

    weight: float = Field(1.0, ge=0)
    region: Where = "irrelevant"

    def loss(self, view: View) -> Tensor:
        """Compute the loss; see the class."""
        masks, has_mask = self.masks(view)

        def share_of(subject: Subject) -> Tensor:
            return mean_where(_mean_over_present(self.inside(view, masks, subject), subject), has_mask)

        return self.mean_of(view, share_of)


@terms.register("marked")
class Marked(RegionTerm):
    """The map of a concept against its mask: half -mean log I inside, half -mean log(1 - I) outside, in nats.

    Inside and outside have the same weight, so that a small object is found too. A cell counts by the share of it that
    the mask covers. A mean over the images that have the region: a few masks teach the concept, whose map then shows
    it in all images.
    """

    weight: float = Field(1.0, ge=0)
    region: Where = "object"

    def loss(self, view: View) -> Tensor:
        """Compute the loss; see the class."""
        masks, has_mask = self.masks(view)

        def mask_nll(subject: Subject) -> Tensor:
            covered, total = (_to_cells(values, subject) for values in (masks, torch.ones_like(masks[:1])))
            inside = (covered / total.clamp(min=TINY)).clamp(0, 1)
            inside_nll = _weighted_mean(nll(subject.maps), inside)
            outside_nll = _weighted_mean(nll(1 - subject.maps), 1 - inside)
            return mean_where(_mean_over_present((inside_nll + outside_nll) / 2, subject), has_mask)

        return self.mean_of(view, mask_nll)


def share_inside(evidence: Tensor, masks: Tensor, subject: Subject) -> Tensor:
    """Compute the share of evidence inside masks at input resolution, (N, m) in [0, 1].

    Args:
        evidence: maps (N, m, h, w), >= 0.
        masks: (N, 1, H, W).
        subject: has the grid of the maps.
    """
    pixels = masks.shape[-2] * masks.shape[-1]
    inside, total = (_to_cells(values, subject) / pixels for values in (masks, torch.ones_like(masks[:1])))
    # TINY is in units of mean evidence per pixel.
    return (evidence * inside).sum((2, 3)) / ((evidence * total).sum((2, 3)) + TINY)


def _weighted_mean(values: Tensor, weights: Tensor) -> Tensor:
    """Average values (N, m, h, w) with weights (N, 1, h, w) to (N, m); 0 where all weights are 0."""
    return (values * weights).sum((2, 3)) / weights.sum((2, 3)).clamp(min=TINY)


def _to_cells(masks: Tensor, subject: Subject) -> Tensor:
    rows, columns = subject.maps.shape[-2:]
    return collect(masks, rows, columns, subject.grid)


def _mean_over_present(values: Tensor, subject: Subject) -> Tensor:
    """Average values (N, m) over present classes to (N,); 0 where there are none."""
    return (values * subject.present).sum(1) / subject.present.sum(1).clamp(min=1)
