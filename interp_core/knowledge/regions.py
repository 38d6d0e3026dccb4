"""Terms that know a place: Region (evidence must be there), Forbid (it must not), Marked (a concept is there).

Evidence of a class is the positive part of its activations W_k . X: what the classifier says of a place before
attention weighs it. Contributions and the map that is shown can be emptied there by attention and scores, and the
network goes on deciding by what it hides; activations only by features that no longer speak (results/method/log.md).
Of a concept below the head it is the concept map. Shares are at input resolution.

The energy form is that of the energy-based pointing game (Score-CAM, arXiv 1910.01279) and of Rao et al., Studying How
to Efficiently and Effectively Guide Models with Explanations (ICCV 2023), here on forward maps, so that no gradient of
a gradient is needed.

Limits: a region smaller than a cell of the map cannot hold all evidence, nor be free of it beside evidence. Terms that
ask scores to be high somewhere (Presence) reward a shortcut that is learned first: leave them out beside these.
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
from interp_core.knowledge.term import Term, mean_where, surprise, terms
from interp_core.knowledge.view import HEAD, Part, View, known_rows
from interp_core.registry import Registry

TINY = 1e-6  # of mean evidence per pixel

Detector = Callable[[Tensor], Tensor]
Where = str | SkipJsonSchema[Detector]

detectors: Registry[Detector] = Registry("detector", "interp_bench.detectors")


def border(share: float = 0.1) -> Detector:
    """A detector of the outer `share` of each side, in (0, 0.5]."""

    def detect(images: Tensor) -> Tensor:
        height, width = images.shape[-2:]
        mask = images.new_ones(len(images), 1, height, width)
        top, left = round(share * height), round(share * width)
        mask[..., top : height - top, left : width - left] = 0
        return mask

    return detect


detectors.register("border")(border())


class Located(Term):
    """What both terms share.

    Fields:
        region: name of a region that comes with the images or of a registered detector, or a detector itself: from
            images (N, C, H, W) to masks (N, 1, H, W) in [0, 1], rows of NaN for images that have none.
    """

    region: Where

    def needs(self) -> tuple[str, ...]:
        """The region, if it is one that must be given."""
        return (self.region,) if isinstance(self.region, str) and self.region not in detectors else ()

    def masks(self, view: View) -> tuple[Tensor, Tensor]:
        """Masks (N, 1, H, W), and 1.0 where an image has one (N,).

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
        return known_rows(masks)


class Placed(Located):
    """What Region and Forbid share.

    Fields:
        evidence: of a class, its positive part: "activations", which move the network; "contributions", the same
            weighed by attention; or "map", contributions times concept map, where the network is frozen and its map
            shall learn.
    """

    evidence: Literal["activations", "contributions", "map"] = "activations"

    def inside(self, view: View, masks: Tensor, part: Part) -> Tensor:
        """Share of each class' or concept's evidence inside its image's mask (N, 1, H, W): (N, m) in [0, 1]."""
        return share_inside(self._evidence(view, part), masks, part)

    def _evidence(self, view: View, part: Part) -> Tensor:
        """Maps (N, m, h, w), >= 0."""
        if part.level != HEAD:
            return part.maps
        if self.evidence == "activations":
            return view.activations.clamp(min=0)
        found = view.evidence.clamp(min=0)
        return found if self.evidence == "contributions" else found * part.maps


@terms.register("region")
class Region(Placed):
    """The evidence of a present class lies inside a region: 1 - evidence inside / evidence, a share in [0, 1].

    A mean over the images that have the region, so that few masks count in full; 0 in a step without any.
    """

    weight: float = Field(1.0, ge=0)
    region: Where = "object"

    def loss(self, view: View) -> Tensor:
        """Scalar; see the class."""
        masks, has = self.masks(view)

        def outside(part: Part) -> Tensor:
            values = 1 - self.inside(view, masks, part)
            there = (part.present > 0).any(1).to(has)
            return mean_where(_over_present(values, part), has * there)

        return self.mean_of(view, outside)


@terms.register("forbid")
class Forbid(Placed):
    """No evidence in a region known to be irrelevant: share of a present class' evidence inside, in [0, 1].

    A mean over the present classes, then over the images that have the region.
    """

    weight: float = Field(1.0, ge=0)
    region: Where = "irrelevant"

    def loss(self, view: View) -> Tensor:
        """Scalar; see the class."""
        masks, has = self.masks(view)

        return self.mean_of(view, lambda part: mean_where(_over_present(self.inside(view, masks, part), part), has))


@terms.register("marked")
class Marked(Located):
    """A concept's map is its mask: half -mean log I inside, half -mean log(1 - I) outside, in nats.

    Inside and outside weigh alike, so that a small thing is found too. A cell counts for as much of the mask as falls
    on it. A mean over the images that have the region: a few masks teach the concept, whose map then shows it in all.
    """

    weight: float = Field(1.0, ge=0)
    region: Where = "object"

    def loss(self, view: View) -> Tensor:
        """Scalar; see the class."""
        masks, has = self.masks(view)

        def unlike(part: Part) -> Tensor:
            cells, whole = (_cells(values, part) for values in (masks, torch.ones_like(masks[:1])))
            inside = (cells / whole.clamp(min=TINY)).clamp(0, 1)
            values = (_weighted(surprise(part.maps), inside) + _weighted(surprise(1 - part.maps), 1 - inside)) / 2
            return mean_where(_over_present(values, part), has)

        return self.mean_of(view, unlike)


def share_inside(evidence: Tensor, masks: Tensor, part: Part) -> Tensor:
    """Share of each map (N, m, h, w) inside its image's mask (N, 1, H, W), at input resolution: (N, m) in [0, 1]."""
    pixels = masks.shape[-2] * masks.shape[-1]
    cells, whole = (_cells(values, part) / pixels for values in (masks, torch.ones_like(masks[:1])))
    return (evidence * cells).sum((2, 3)) / ((evidence * whole).sum((2, 3)) + TINY)


def _weighted(values: Tensor, weights: Tensor) -> Tensor:
    """Means (N, m) of values (N, m, h, w) with weights (N, 1, h, w); 0 where all of them are."""
    return (values * weights).sum((2, 3)) / weights.sum((2, 3)).clamp(min=TINY)


def _cells(masks: Tensor, part: Part) -> Tensor:
    rows, columns = part.maps.shape[-2:]
    return collect(masks, rows, columns, part.grid.first, part.grid.pitch)


def _over_present(values: Tensor, part: Part) -> Tensor:
    """Mean (N,) of values (N, m) over what is present; 0 where nothing is."""
    return (values * part.present).sum(1) / part.present.sum(1).clamp(min=1)
