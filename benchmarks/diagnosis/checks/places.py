"""Evidence at fixed places or borders: where it lies more often than at the mirrored places, or than in other classes.

For each answered class, the share of positive evidence in each cell is compared with the mean over the mirror images of
the map (left-right, top-bottom, both),

    z(c) = mean_i (m_i(c) - mean_g m_i(g c)) / standard error

whose null flips the map of each image at random. The largest z of any cell and class gives p, so it holds for all of
them together. A frame is its own mirror image: its share is compared with that of images answered otherwise, with
permuted answers as null.

Known limits: objects that always lie at the same place off the centre are suspected too; interventions decide. A place
that moves is found by `patches` only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field
from scipy import ndimage

from benchmarks.diagnosis.check import Check, CheckResult, Context, Need, Suspect, checks, permutation_p
from benchmarks.diagnosis.evidence import Evidence
from benchmarks.diagnosis.finding import Condition, Status
from benchmarks.diagnosis.properties import frame_mask
from benchmarks.diagnosis.region import FixedRegion

LEAST_IMAGES = 8
FRAME = 0.07  # share of each side, one cell of the maps
EXCESS = 2.0  # times an even share of the evidence, which a cell of a place must have
SAME = 0.3  # intersection over union above which two places of a class are one
INSIDE = 0.5  # share of its evidence on or beside objects above which a place is the object's
MOST_PLACES = 3  # of a class
MOST_FRAMES = 10  # classes whose frame is examined


@dataclass(frozen=True)
class Place:
    """A place where evidence of a class lies too often.

    Attributes:
        cls: the class.
        mask: (g, g) bool.
        z: largest of its cells.
        p: of the largest z under its null.
        share: mean share of the evidence on it.
        null: share at the mirrored places, or in other classes.
        name: in titles.
    """

    cls: int
    mask: np.ndarray
    z: float
    p: float
    share: float
    null: float
    name: str


@checks.register("places")
class Places(Check):
    """Evidence at fixed places or borders.

    Fields:
        most_classes: classes that are examined, those with the most images.
        suspects: largest number of suspects.
    """

    title: ClassVar[str] = "Evidence at fixed places or borders"
    needs: ClassVar[tuple[Need, ...]] = ("several classes",)

    most_classes: int = Field(20, ge=1)
    suspects: int = Field(6, ge=1)

    def run(self, evidence: Evidence, context: Context) -> CheckResult:
        """Look for places; see the class."""
        shares = evidence_shares(evidence.maps)
        usable = shares.any((1, 2))
        classes, counts = np.unique(evidence.answers[usable], return_counts=True)
        order = np.argsort(-counts, kind="stable")[: self.most_classes]
        chosen = [int(cls) for cls, n in zip(classes[order], counts[order], strict=True) if n >= LEAST_IMAGES]
        if not chosen:
            return CheckResult("", reason=f"no class is answered for {LEAST_IMAGES} images with evidence")
        members = {cls: np.flatnonzero(usable & (evidence.answers == cls)) for cls in chosen}
        places = [*self._places(shares, members, context), *self._frames(shares, members, evidence, context)]
        certain = [place for place in places if place.p <= self.alpha]
        distinct = merge(sorted(certain, key=lambda place: -place.z))[: self.suspects]
        distinct += [place for place in places if place.p > self.alpha]
        suspects = tuple(self._suspect(place, evidence, context) for place in distinct)
        return self._result(suspects, certain)

    def _places(self, shares: np.ndarray, members: dict[int, np.ndarray], context: Context) -> list[Place]:
        """Return places of all classes whose largest z is beyond the null of the largest of all."""
        generator = context.generator
        observed = {cls: asymmetry(shares[rows]) for cls, rows in members.items()}
        null = np.array([
            max(float(asymmetry(flip_at_random(shares[rows], generator)).max()) for rows in members.values())
            for _ in range(self.permutations)
        ])  # fmt: skip
        limit = float(np.quantile(null, 1 - self.alpha))
        places = []
        for cls, z in observed.items():
            mean = shares[members[cls]].mean(0)
            for mask in regions_of((z > limit) & (mean * mean.size > EXCESS), z):
                mirrored = np.mean([mean[flipped].sum() for flipped in mirror_masks(mask)])
                peak, share = float(z[mask].max()), float(mean[mask].sum())
                p = permutation_p(peak, null)
                places.append(Place(cls, mask, peak, p, share, float(mirrored), place_name(mask)))
        return places

    def _frames(
        self, shares: np.ndarray, members: dict[int, np.ndarray], evidence: Evidence, context: Context
    ) -> list[Place]:
        """Return the frame for the classes that have most evidence on it, also where that is no more than in others.

        An intervention on the frame is cheap and decides.
        """
        frame = frame_mask(shares.shape[1], shares.shape[2], FRAME)
        on_frame = shares[:, frame].sum(1)
        usable = shares.any((1, 2))
        values, answers = on_frame[usable], evidence.answers[usable]
        z = {cls: contrast_z(values, answers == cls) for cls in members}
        generator = context.generator
        null = np.array([
            max(contrast_z(values, permuted == cls) for cls in members)
            for permuted in (generator.permutation(answers) for _ in range(self.permutations))
        ])  # fmt: skip
        frames = []
        for cls, value in z.items():
            p = permutation_p(value, null)
            share = float(on_frame[members[cls]].mean())
            if value >= sorted(z.values())[-MOST_FRAMES:][0]:
                others = values[answers != cls]
                rest = float(others.mean()) if len(others) else 0.0
                frames.append(Place(cls, frame, value, p, share, rest, "the border"))
        return frames

    def _suspect(self, place: Place, evidence: Evidence, context: Context) -> Suspect:
        name = evidence.classes[place.cls]
        shares = evidence_shares(evidence.maps)[:, place.mask].sum(1)
        members = np.flatnonzero(evidence.answers == place.cls)
        members = members[np.argsort(-shares[members], kind="stable")]
        region = FixedRegion(place.mask)
        return Suspect(
            key=f"place-{name}-{place.name}",
            title=f"Evidence for {name} lies at {place.name} of many images",
            classes=(place.cls,),
            members=members,
            value=place.z,
            null=0.0,
            p=place.p,
            region=region,
            in_data=None,
            in_maps=place.p <= self.alpha,
            grounds=(
                "not tested",
                f"{place.share:.2f} of the evidence lies there, {place.null:.2f} under its null, p {place.p:.3f}",
            ),
            is_legitimate=_is_object(place.mask, members, evidence, context),
            is_screening=place.p > self.alpha,
            details={
                "area": round(float(place.mask.mean()), 3),
                "evidence share": round(place.share, 3),
                "null share": round(place.null, 3),
            },
        )

    def _result(self, suspects: tuple[Suspect, ...], places: list[Place]) -> CheckResult:
        certain = [s for s in suspects if s.p is not None and s.p <= self.alpha and not s.is_legitimate]
        best = max(places, key=lambda place: place.z, default=None)
        condition = Condition(
            name=f"no fixed place or border beside known objects has evidence beyond its null at {self.alpha}",
            status=Status.warned if certain else Status.passed,
            detail=f"highest z {best.z:.1f} at {best.name}, p {best.p:.3f}" if best else "none is suspected",
        )
        sentence = f"{len(certain)} fixed places have more evidence than expected"
        value, p = (best.z, best.p) if best else (None, None)
        return CheckResult(sentence, (condition,), suspects, value=value, null=0.0, p=p)


def evidence_shares(maps: np.ndarray) -> np.ndarray:
    """Return the positive part of maps (N, g, g) as shares of its sum; zeros where nothing is positive."""
    positive = np.maximum(maps, 0)
    return positive / np.maximum(positive.sum((1, 2), keepdims=True), 1e-30)


def asymmetry(shares: np.ndarray) -> np.ndarray:
    """Compute z of shares (n, g, g) against their mirror images, (g, g)."""
    mirrored = (shares + shares[:, ::-1] + shares[:, :, ::-1] + shares[:, ::-1, ::-1]) / 4
    difference = shares - mirrored
    error = difference.std(0) / np.sqrt(len(shares))
    return difference.mean(0) / np.maximum(error, 1e-6)


def flip_at_random(shares: np.ndarray, generator: np.random.Generator) -> np.ndarray:
    """Mirror each of the maps (n, g, g) left-right and top-bottom by chance."""
    rows, columns = generator.random((2, len(shares), 1, 1)) < 0.5
    shares = np.where(rows, shares[:, ::-1], shares)
    return np.where(columns, shares[:, :, ::-1], shares)


def contrast_z(values: np.ndarray, is_member: np.ndarray) -> float:
    """Compute the difference of means of members and others in standard errors; 0 where one side is empty."""
    inside, outside = values[is_member], values[~is_member]
    if len(inside) < 2 or len(outside) < 2:
        return 0.0
    error = np.sqrt(inside.var() / len(inside) + outside.var() / len(outside))
    return float((inside.mean() - outside.mean()) / max(error, 1e-9))


def regions_of(cells: np.ndarray, z: np.ndarray, most: int = MOST_PLACES) -> list[np.ndarray]:
    """Return connected parts of cells (g, g) bool, those with the highest z first."""
    labels, count = ndimage.label(cells, structure=np.ones((3, 3)))
    parts = [labels == number for number in range(1, count + 1)]
    return sorted(parts, key=lambda part: -float(z[part].max()))[:most]


def mirror_masks(mask: np.ndarray) -> list[np.ndarray]:
    """Return the three mirror images of a mask (g, g)."""
    return [mask[::-1], mask[:, ::-1], mask[::-1, ::-1]]


def place_name(mask: np.ndarray) -> str:
    """Name the place of a mask (g, g): one of nine parts of the image."""
    rows, columns = (np.flatnonzero(mask.any(axis)).mean() / len(mask) for axis in (1, 0))
    vertical = ("top", "middle", "bottom")[min(2, int(3 * rows))]
    horizontal = ("left", "centre", "right")[min(2, int(3 * columns))]
    return f"the {vertical} {horizontal}"


def merge(places: list[Place]) -> list[Place]:
    """Drop places that coincide with one of the same class before them."""
    kept: list[Place] = []
    for place in places:
        overlaps = [
            (place.mask & earlier.mask).sum() / (place.mask | earlier.mask).sum()
            for earlier in kept
            if earlier.cls == place.cls
        ]
        if all(overlap <= SAME for overlap in overlaps):
            kept.append(place)
    return kept


def _is_object(mask: np.ndarray, members: np.ndarray, evidence: Evidence, context: Context) -> bool:
    """Return whether most of the evidence at a place (g, g) lies on objects, whose masks are known."""
    rows = members[:48]
    batch = context.images.take(evidence.rows[rows])
    if len(batch) != len(rows) or not batch.masks.any():
        return False
    cover = F.adaptive_max_pool2d(torch.from_numpy(batch.masks).float(), mask.shape)
    near = F.max_pool2d(cover, 3, stride=1, padding=1)[:, 0].numpy() > 0  # evidence is smooth over a cell
    at_place = evidence_shares(evidence.maps[rows]) * mask
    return bool((at_place * near).sum() >= INSIDE * at_place.sum())
