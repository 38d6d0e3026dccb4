"""Check for near-duplicates within the split and across splits.

Two images of a split are near-duplicates if their 64-bit hashes differ in at most 2 bits and their features point the
same way (cosine >= 0.98). Features of other splits are not known, so there the hashes may differ in 1 bit only.

Search: hashes that differ in at most 2 bits agree in at least one of 3 parts, so each image is compared only with those
that share a part (multi-index hashing). Images are sorted by each part and compared with the next ones of equal part,
at most `WINDOW` of them, so time is linear in the number of images.

Source: Norouzi, Punjani and Fleet (2012), multi-index hashing.

Limits: flat images have few bits set, and many flat images share a hash without being alike. Hashes of which fewer
than `LEAST_BITS` bits are set, or not set, are left out and counted. Where more than `WINDOW` images share a part, only
neighbours in the order of the whole hash are compared, so a few pairs may be missed. Crops, rotations and mirrored
copies are not found. Images taken alike, such as X-rays, may agree in their hash without being copies, so look at those
that are named across splits.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from PIL.Image import Image, fromarray
from pydantic import Field
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components

from benchmarks.diagnosis.check import Check, CheckResult, Context, Suspect, checks
from benchmarks.diagnosis.evidence import Evidence
from benchmarks.diagnosis.finding import Condition, Status

PARTS = (22, 21, 21)  # bits of the parts of a hash
WINDOW = 32
LEAST_BITS = 6
SHOWN = 4  # pairs in the picture
TILE = 110  # pixels


@checks.register("duplicates")
class Duplicates(Check):
    """Near-duplicates within the split and across splits.

    Fields:
        threshold: share of the images with a duplicate in another split at which the check fails.
        bits: in which hashes within the split may differ.
        other_bits: in which hashes of different splits may differ.
        cosine: least similarity of the features within the split.
    """

    title = "Near-duplicate images"
    source = "Norouzi et al. 2012"

    threshold: float = Field(0.01, ge=0, le=1)
    bits: int = Field(2, ge=0, le=2)
    other_bits: int = Field(1, ge=0, le=2)
    cosine: float = Field(0.98, ge=0, le=1)

    def run(self, evidence: Evidence, context: Context) -> CheckResult:
        """Find pairs within the split, with other splits, and with different labels."""
        usable = has_detail(evidence.hashes)
        pairs = find_pairs(evidence.hashes, np.zeros(len(evidence), np.int64), self.bits, usable)
        pairs = pairs[similarities(evidence.features, pairs) >= self.cosine]
        across = {name: self._across(evidence, hashes) for name, (_, hashes) in context.other.items()}
        leaked = np.unique(np.concatenate([*across.values(), np.empty(0, np.int64)]))
        contrary = (
            pairs[evidence.labels[pairs[:, 0]] != evidence.labels[pairs[:, 1]]] if evidence.has_labels else pairs[:0]
        )
        return CheckResult(
            sentence=self._sentence(evidence, pairs, across, contrary, int((~usable).sum())),
            conditions=self._conditions(evidence, context, pairs, leaked, contrary),
            suspects=_suspects(evidence, pairs, across, leaked, contrary),
            value=len(leaked) / len(evidence) if context.other else len(np.unique(pairs)) / len(evidence),
            picture=draw_pairs(pairs, evidence, context),
        )

    def _across(self, evidence: Evidence, hashes: np.ndarray) -> np.ndarray:
        """Return positions of images that have a duplicate in another split."""
        everything = np.concatenate([evidence.hashes, hashes.astype(np.uint64)])
        split = (np.arange(len(everything)) >= len(evidence)).astype(np.int64)
        pairs = find_pairs(everything, split, self.other_bits, has_detail(everything), between=True)
        return np.unique(pairs.min(1)) if len(pairs) else np.empty(0, np.int64)

    def _sentence(
        self,
        evidence: Evidence,
        pairs: np.ndarray,
        across: dict[str, np.ndarray],
        contrary: np.ndarray,
        flat: int,
    ) -> str:
        parts = [f"{len(np.unique(pairs))} of {len(evidence)} images have a near-duplicate in the split"]
        parts += [f"{len(rows)} in {name}" for name, rows in across.items()]
        if len(contrary):
            parts.append(f"{len(contrary)} pairs have different labels")
        if flat:
            parts.append(f"{flat} images without detail were left out")
        return ", ".join(parts) + "."

    def _conditions(
        self, evidence: Evidence, context: Context, pairs: np.ndarray, leaked: np.ndarray, contrary: np.ndarray
    ) -> tuple[Condition, ...]:
        share = len(leaked) / len(evidence)
        inside = Condition(
            name="no duplicates in the split",
            status=Status.warned if len(pairs) else Status.passed,
            detail=f"{len(pairs)} pairs, {len(contrary)} of them with different labels",
        )
        if not context.other:
            return (inside,)
        status = Status.failed if share >= self.threshold else Status.warned if len(leaked) else Status.passed
        detail = f"{len(leaked)} images, {share:.2%} of the split"
        return Condition(name=f"duplicates across splits < {self.threshold:.0%}", status=status, detail=detail), inside


def has_detail(hashes: np.ndarray) -> np.ndarray:
    """Return whether hashes (N,) have enough bits of both kinds to tell images apart, (N,) bool."""
    ones = count_bits(hashes)
    return (ones >= LEAST_BITS) & (ones <= 64 - LEAST_BITS)


def count_bits(hashes: np.ndarray) -> np.ndarray:
    """Count the bits (N,) that are set in hashes (N,) uint64."""
    octets = np.ascontiguousarray(hashes.astype(np.uint64)).view(np.uint8).reshape(-1, 8)
    return np.unpackbits(octets, axis=1).sum(1).astype(np.int64)


def find_pairs(
    hashes: np.ndarray, split: np.ndarray, bits: int, usable: np.ndarray, *, between: bool = False
) -> np.ndarray:
    """Return pairs (m, 2) of positions, the smaller first, whose hashes differ in at most `bits` bits.

    Args:
        hashes: (N,) uint64.
        split: (N,) indices of splits.
        bits: at most 2.
        usable: (N,) bool, the hashes to compare.
        between: whether to return pairs of different splits, in place of those of one split.
    """
    positions = np.flatnonzero(usable)
    kept, groups = hashes[positions].astype(np.uint64), split[positions]
    pairs = [np.empty((0, 2), np.int64)]
    for part in _parts(kept):
        order = np.lexsort((kept, part))
        for step in range(1, min(WINDOW, len(order) - 1) + 1):
            first, second = order[:-step], order[step:]
            same_part = part[first] == part[second]
            if not same_part.any():
                break
            first, second = first[same_part], second[same_part]
            near = count_bits(kept[first] ^ kept[second]) <= bits
            near &= (groups[first] != groups[second]) == between
            pairs.append(np.sort(np.column_stack([first[near], second[near]]), axis=1))
    return positions[np.unique(np.concatenate(pairs), axis=0)]


def _parts(hashes: np.ndarray) -> Iterator[np.ndarray]:
    shift = 0
    for width in PARTS:
        yield (hashes >> np.uint64(shift)) & np.uint64(2**width - 1)
        shift += width


def similarities(features: np.ndarray, pairs: np.ndarray) -> np.ndarray:
    """Compute the cosine (m,) of the features of pairs (m, 2); of two zero vectors it is 1."""
    first, second = (features[pairs[:, side]].astype(np.float32) for side in (0, 1))
    norms = np.linalg.norm(first, axis=1) * np.linalg.norm(second, axis=1)
    both_zero = (np.abs(first).sum(1) + np.abs(second).sum(1)) == 0
    return np.where(both_zero, 1.0, (first * second).sum(1) / np.maximum(norms, 1e-12))


def count_groups(pairs: np.ndarray, size: int) -> int:
    """Count the groups of images that pairs (m, 2) connect."""
    graph = coo_matrix((np.ones(len(pairs)), (pairs[:, 0], pairs[:, 1])), shape=(size, size))
    return size - int(connected_components(graph, directed=False)[0]) if len(pairs) else 0


def _suspects(
    evidence: Evidence, pairs: np.ndarray, across: dict[str, np.ndarray], leaked: np.ndarray, contrary: np.ndarray
) -> tuple[Suspect, ...]:
    n, suspects = len(evidence), []
    if len(leaked):
        where = ", ".join(f"{len(rows)} in {name}" for name, rows in across.items() if len(rows))
        title = f"{len(leaked)} images have a near-duplicate in another split: {where}"
        suspects.append(Suspect("across-splits", title, (), leaked, len(leaked) / n))
    if len(contrary):
        title = f"{len(contrary)} pairs of near-duplicates have different labels"
        classes = tuple(int(cls) for cls in np.unique(evidence.labels[contrary]))
        members = np.unique(contrary)
        suspects.append(Suspect("contrary-labels", title, classes, members, len(members) / n, in_data=True))
    if len(pairs):
        surplus = count_groups(pairs, n)
        title = f"{surplus} image{'s repeat' if surplus > 1 else ' repeats'} another image of the split"
        suspects.append(Suspect("within-split", title, (), np.unique(pairs), len(np.unique(pairs)) / n))
    return tuple(suspects)


def draw_pairs(pairs: np.ndarray, evidence: Evidence, context: Context) -> Image | None:
    """Draw the first pairs one above the other; None where there are none."""
    chosen = pairs[: SHOWN * 2]
    rows = evidence.rows[chosen].reshape(-1)
    if not len(rows):
        return None
    images = context.images.take(rows).images
    if len(images) != len(rows):
        return None
    tiles = [np.asarray(fromarray(image.transpose(1, 2, 0)).resize((TILE, TILE))) for image in images]
    columns = [np.concatenate(tiles[i : i + 2], axis=0) for i in range(0, len(tiles), 2)]
    return fromarray(np.concatenate(columns, axis=1))
