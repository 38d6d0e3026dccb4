"""The arms of the control experiment: who is trained, on which form of the data, and what it is told.

An arm is told where the tag is ("irrelevant") or where the object is ("object"), on all training images or on a few,
or it finds the tag in all by what a few have taught it. Plain networks and rivals stand on the same backbone, with the
same recipe and the same seeds.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any, Literal

import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.rivals import build as build_rival
from benchmarks.studies.shortcut.data import Images, evenly
from benchmarks.studies.shortcut.detector import CONCEPTS
from interp_core.knowledge import Exchange, Forbid, Region, Term
from interp_core.knowledge.exchange import exchange_regions
from interp_core.lap.attach import attach
from interp_core.training import DEFAULT_TERMS
from interp_core.training.data import Regions

BACKBONE = "test_resnet"
# Two stages of the network of the default run, narrower, so that a training takes a minute on one core.
NETWORK: dict[str, Any] = {"layers": [2, 2, 0, 0], "channels": [24, 64, 64, 64], "stem_width": 8, "avg_down": False}
FEW = 0.01
FINEST = 2  # pixels to a cell of a refined map
MARGIN = 2  # pixels by which a tag that is taken away is widened
COPIES = 10  # so that about every batch holds an image that something is known of

Told = Literal["irrelevant", "object"]


@dataclass(frozen=True, kw_only=True)
class Arm:
    """One way to train.

    Attributes:
        name: in tables.
        title: for people.
        of: "plain", "lap", or the name of a rival.
        terms: knowledge of LAP.
        options: of the rival.
        told: what is known of some training images: where the tag is ("irrelevant") or the object ("object").
        share: of the training images of which it is known.
        copies: how often each of these stands among the training images.
        clean: trained on the form without tags.
        margin: pixels by which the region told is widened on every side.
        finds: what is known of the share is used to teach a detector first, and the detector tells of all images.
        refined: the map is refined in a second stage, the network frozen.
        swapped: trained on images whose tags were exchanged beforehand, once, instead of by a term.
    """

    name: str
    title: str
    of: str = "lap"
    terms: tuple[Term, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    told: Told | None = None
    share: float = 1.0
    copies: int = 1
    clean: bool = False
    margin: int = 0
    finds: bool = False
    refined: bool = False
    swapped: bool = False

    def network(self, classes: int, seed: int, size: int, *, detector: bool = False) -> nn.Module:
        """A fresh network with random weights of `seed` for images of `size` pixels; or the one that finds the tag."""
        torch.manual_seed(seed)
        backbone = timm.create_model(BACKBONE, num_classes=classes, **NETWORK)
        if self.of == "plain":
            return backbone
        if self.of == "lap":
            finer: dict[str, Any] = {"refine": FINEST} if self.refined and not detector else {}
            return attach(backbone, image_size=size, concepts=CONCEPTS if detector else None, **finer)
        return build_rival(self.of, backbone, {"image_size": size, **self.options})

    def known(self, train: Images, seed: int) -> Tensor:
        """Indices (n,) of the training images that the arm is told about, evenly of all classes."""
        if self.told is None:
            return torch.empty(0, dtype=torch.int64)
        return evenly(train.targets, round(self.share * len(train)), seed)

    def material(self, train: Images, seed: int) -> tuple[Images, Regions]:
        """Training images, copies at the end, and the regions that go with them."""
        rows = self.known(train, seed)
        if self.told is None:
            return train, {}
        if self.swapped:
            order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
            shuffled = train.take(order)
            masks = widened(shuffled.tags, self.margin).float()
            return replace(shuffled, images=exchange_regions(shuffled.images, masks, torch.ones(len(train)))), {}
        every = torch.cat([torch.arange(len(train)), rows.repeat(self.copies - 1)])
        where = torch.cat([rows, torch.arange(len(train), len(every))])
        chosen = train.take(every)
        masks = chosen.tags if self.told == "irrelevant" else chosen.masks
        return chosen, {self.told: (where, widened(masks[where], self.margin))}

    def facts(self) -> dict[str, Any]:
        """Plain data, for the record."""
        terms = [{"name": term.name, **term.model_dump(mode="json")} for term in self.terms]
        return {**vars(self), "terms": terms, "options": dict(self.options)}


def widened(masks: Tensor, margin: int) -> Tensor:
    """Masks (N, 1, H, W) bool, wider by `margin` pixels on every side."""
    return F.max_pool2d(masks.float(), 2 * margin + 1, stride=1, padding=margin) > 0 if margin else masks


def arms() -> tuple[Arm, ...]:
    """All arms, in the order of the table."""
    few: dict[str, Any] = {"share": FEW, "copies": COPIES}
    found: dict[str, Any] = {**few, "finds": True, "margin": MARGIN}
    forbid, region, exchange = (Forbid(),), (Region(),), (Forbid(), Exchange())
    tag: dict[str, Any] = {"told": "irrelevant"}
    return (
        Arm(name="plain_clean", title="Plain, trained without tags", of="plain", clean=True),
        Arm(name="plain", title="Plain", of="plain"),
        Arm(name="lap", title="LAP"),
        Arm(name="lap_refined", title="LAP, map refined", refined=True),
        Arm(name="lap_forbid", title="LAP + Forbid, all", terms=forbid, **tag),
        Arm(name="lap_forbid_few", title="LAP + Forbid, 1 %", terms=forbid, **tag, **few),
        Arm(name="lap_forbid_found", title="LAP + Forbid, tags found from 1 %", terms=forbid, **tag, **found),
        Arm(name="lap_region", title="LAP + Region, all", terms=region, told="object"),
        Arm(name="lap_region_few", title="LAP + Region, 1 %", terms=region, told="object", **few),
        Arm(name="lap_exchange_found", title="LAP + Forbid + Exchange, tags found from 1 %", terms=exchange, **tag,
            **found),
        Arm(name="lap_forbid_contributions", title="LAP + Forbid on contributions, all",
            terms=(Forbid(evidence="contributions"),), **tag),
        Arm(name="lap_forbid_map", title="LAP + Forbid on the map, all", terms=(Forbid(evidence="map"),), **tag),
        Arm(name="lap_forbid_presence", title="LAP + Forbid + Presence, Absence, Area, all",
            terms=(*DEFAULT_TERMS, *forbid), **tag),
        Arm(name="plain_exchange", title="Plain, tags exchanged beforehand, all", of="plain", margin=MARGIN,
            swapped=True, **tag),
        Arm(name="cam_energy", title="Energy on CAM (= on Grad-CAM), all", of="cam_energy", **tag),
        Arm(name="cam_energy_few", title="Energy on CAM, 1 %", of="cam_energy", **tag, **few),
        Arm(name="gain", title="GAIN-like, all", of="gain", **tag),
        Arm(name="rrr", title="RRR, all", of="rrr", **tag),
        Arm(name="rrr_few", title="RRR, 1 %", of="rrr", **tag, **few),
    )  # fmt: skip
