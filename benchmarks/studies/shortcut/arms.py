"""Define the arms of the shortcut study: network, form of the data, and regions it is told.

An arm knows where the tag is ("irrelevant") or where the object is ("object"), in all training images or in a few, or
it detects the tag in all of them after training a detector on a few. Plain networks and rivals have the same backbone,
recipe and seeds.
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
from benchmarks.studies.shortcut.data import TaggedImages, sample_evenly
from benchmarks.studies.shortcut.detector import CONCEPTS
from interp_core.knowledge import Absence, Area, Exchange, Forbid, Presence, Region, Term
from interp_core.knowledge.exchange import exchange_regions
from interp_core.lap.attach import attach
from interp_core.training.data import Regions

BACKBONE = "test_resnet"
# Two stages of the default run's network, narrower, so that a training takes a minute on one core.
NETWORK: dict[str, Any] = {"layers": [2, 2, 0, 0], "channels": [24, 64, 64, 64], "stem_width": 8, "avg_down": False}
FEW = 0.01
FINEST = 2  # pixels per cell of a refined map
MARGIN = 2  # pixels by which the mask of a removed tag is widened
COPIES = 10  # so that nearly every batch holds an image with a known region

# Terms on the maps of classes, which need the labels of images alone.
LABEL_TERMS: tuple[Term, ...] = (Presence(weight=0.3), Absence(weight=0.3), Area(weight=1.0))

KnownRegion = Literal["irrelevant", "object"]


@dataclass(frozen=True, kw_only=True)
class ShortcutArm:
    """One way to train.

    Attributes:
        name: in tables.
        title: in the report.
        method: "plain", "lap", or the name of a rival.
        terms: knowledge of LAP.
        options: of the rival.
        region: mask that is known for some training images: of the tag ("irrelevant") or of the object ("object").
        share: of the training images whose mask is known.
        copies: how often each of these occurs among the training images.
        clean: trained on the form without tags.
        margin: pixels by which the region is widened on every side.
        uses_detector: train a detector on the known masks first, and use its masks of all images.
        refined: refine the map in a second stage, with the network frozen.
        exchanges_first: train on images whose tags were exchanged once beforehand, instead of by a term.
        attention_gradient: whether the features of LAP learn through attention, see `interp_core.training.Recipe`.
    """

    name: str
    title: str
    method: str = "lap"
    terms: tuple[Term, ...] = ()
    options: Mapping[str, Any] = field(default_factory=dict)
    region: KnownRegion | None = None
    share: float = 1.0
    copies: int = 1
    clean: bool = False
    margin: int = 0
    uses_detector: bool = False
    refined: bool = False
    exchanges_first: bool = False
    attention_gradient: bool = False

    def network(self, classes: int, seed: int, size: int, *, detector: bool = False) -> nn.Module:
        """Build the network, or the detector, with random weights of `seed` for images of `size` pixels."""
        torch.manual_seed(seed)
        backbone = timm.create_model(BACKBONE, num_classes=classes, **NETWORK)
        if self.method == "plain":
            return backbone
        if self.method == "lap":
            refine: dict[str, Any] = {"refine": FINEST} if self.refined and not detector else {}
            return attach(backbone, image_size=size, concepts=CONCEPTS if detector else None, **refine)
        return build_rival(self.method, backbone, {"image_size": size, **self.options})

    def known_rows(self, train: TaggedImages, seed: int) -> Tensor:
        """Return indices (n,) of the training images whose mask the arm knows, evenly from all classes."""
        if self.region is None:
            return torch.empty(0, dtype=torch.int64)
        return sample_evenly(train.targets, round(self.share * len(train)), seed)

    def training_data(self, train: TaggedImages, seed: int) -> tuple[TaggedImages, Regions]:
        """Return the training images, copies at the end, and their regions."""
        rows = self.known_rows(train, seed)
        if self.region is None:
            return train, {}
        if self.exchanges_first:
            order = torch.randperm(len(train), generator=torch.Generator().manual_seed(seed))
            shuffled = train.take(order)
            masks = widen(shuffled.tags, self.margin).float()
            return replace(shuffled, images=exchange_regions(shuffled.images, masks, torch.ones(len(train)))), {}
        with_copies = torch.cat([torch.arange(len(train)), rows.repeat(self.copies - 1)])
        masked_rows = torch.cat([rows, torch.arange(len(train), len(with_copies))])
        images = train.take(with_copies)
        masks = images.tags if self.region == "irrelevant" else images.masks
        return images, {self.region: (masked_rows, widen(masks[masked_rows], self.margin))}

    def describe(self) -> dict[str, Any]:
        """Return the arm as plain data, for the provenance."""
        terms = [{"name": term.name, **term.model_dump(mode="json")} for term in self.terms]
        return {**vars(self), "terms": terms, "options": dict(self.options)}


def widen(masks: Tensor, margin: int) -> Tensor:
    """Dilate masks (N, 1, H, W) bool by `margin` pixels on every side."""
    return F.max_pool2d(masks.float(), 2 * margin + 1, stride=1, padding=margin) > 0 if margin else masks


_FEW: dict[str, Any] = {"share": FEW, "copies": COPIES}
_DETECTED: dict[str, Any] = {**_FEW, "uses_detector": True, "margin": MARGIN}
_TAG: dict[str, Any] = {"region": "irrelevant"}
_FORBID: tuple[Term, ...] = (Forbid(),)
_EXCHANGE: tuple[Term, ...] = (Forbid(), Exchange())

# In the order of the table.
ARMS: tuple[ShortcutArm, ...] = (
    ShortcutArm(name="plain_clean", title="Plain, trained without tags", method="plain", clean=True),
    ShortcutArm(name="plain", title="Plain", method="plain"),
    ShortcutArm(name="lap", title="LAP"),
    ShortcutArm(name="lap_refined", title="LAP, map refined", refined=True),
    ShortcutArm(name="lap_forbid", title="LAP + Forbid, all", terms=_FORBID, **_TAG),
    ShortcutArm(name="lap_forbid_few", title="LAP + Forbid, 1 %", terms=_FORBID, **_TAG, **_FEW),
    ShortcutArm(name="lap_forbid_found", title="LAP + Forbid, tags found from 1 %", terms=_FORBID, **_TAG, **_DETECTED),
    ShortcutArm(name="lap_region", title="LAP + Region, all", terms=(Region(),), region="object"),
    ShortcutArm(name="lap_region_few", title="LAP + Region, 1 %", terms=(Region(),), region="object", **_FEW),
    ShortcutArm(
        name="lap_exchange_found",
        title="LAP + Forbid + Exchange, tags found from 1 %",
        terms=_EXCHANGE,
        **_TAG,
        **_DETECTED,
    ),
    ShortcutArm(
        name="lap_forbid_contributions",
        title="LAP + Forbid on contributions, all",
        terms=(Forbid(evidence="contributions"),),
        **_TAG,
    ),
    ShortcutArm(name="lap_forbid_map", title="LAP + Forbid on the map, all", terms=(Forbid(evidence="map"),), **_TAG),
    ShortcutArm(
        name="lap_forbid_presence",
        title="LAP + Forbid + Presence, Absence, Area, all",
        terms=(*LABEL_TERMS, *_FORBID),
        **_TAG,
    ),
    ShortcutArm(
        name="plain_exchange",
        title="Plain, tags exchanged beforehand, all",
        method="plain",
        margin=MARGIN,
        exchanges_first=True,
        **_TAG,
    ),
    ShortcutArm(name="cam_energy", title="Energy on CAM (= on Grad-CAM), all", method="cam_energy", **_TAG),
    ShortcutArm(name="cam_energy_few", title="Energy on CAM, 1 %", method="cam_energy", **_TAG, **_FEW),
    ShortcutArm(name="gain", title="GAIN-like, all", method="gain", **_TAG),
    ShortcutArm(name="rrr", title="RRR, all", method="rrr", **_TAG),
    ShortcutArm(name="rrr_few", title="RRR, 1 %", method="rrr", **_TAG, **_FEW),
)
