"""Check whether evidence lies outside the object, where masks or boxes are known.

Statistic, per answer: the mean share of the positive evidence outside the object's mask. It is compared with two nulls:

    area        the share of the image outside the mask, which evidence spread evenly has; p by flipping the signs of
                the images' differences
    other mask  the share outside masks of other images with the same answer, which evidence has that does not follow
                the object; p by permuting masks among these images

Evidence on a cue beside the object exceeds both, or the first alone where objects always lie at the same place. p
values are adjusted over answers and nulls together.

Source: the energy in the pointing game (Wang et al. 2020), with nulls.

Limits: evidence divided between object and cue may stay below both nulls. The second null needs the masks, which are
read again for at most `MASKS` images, on a grid of `GRID` cells. Only a place, not a cause: other checks name what lies
there.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from benchmarks.diagnosis.check import Check, CheckResult, Context, Suspect, checks
from benchmarks.diagnosis.evidence import GRID, Evidence
from benchmarks.diagnosis.finding import Condition, Status
from benchmarks.diagnosis.nulls import LEAST, permutations, step_down_p
from benchmarks.diagnosis.output.drawing import ACCENT, LINE, REST, draw, shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

MASKS = 2000  # that are read again
BATCH = 64
BARS = 12


@dataclass(frozen=True)
class Shares:
    """Evidence outside the object, for each answer with enough images.

    Attributes:
        answers: (A,) classes.
        outside: (A,) mean share of the evidence.
        area: (A,) mean share of the image.
        other: (A,) mean share outside masks of other images, NaN where masks cannot be read.
        p_area: (A,) adjusted, of more than the area.
        p_other: (A,) adjusted, of more than with other masks, NaN likewise.
    """

    answers: np.ndarray
    outside: np.ndarray
    area: np.ndarray
    other: np.ndarray
    p_area: np.ndarray
    p_other: np.ndarray

    @property
    def p(self) -> np.ndarray:
        """(A,) the smaller p."""
        return np.fmin(self.p_area, self.p_other)

    def excess(self, alpha: float) -> np.ndarray:
        """Return the largest significant difference (A,) to a null; 0 where none is significant."""
        above_area = np.where(self.p_area <= alpha, self.outside - self.area, 0)
        above_other = np.where(self.p_other <= alpha, self.outside - np.nan_to_num(self.other, nan=1.0), 0)
        return np.maximum(np.maximum(above_area, above_other), 0)


@checks.register("outside")
class Outside(Check):
    """Evidence outside the object.

    Fields:
        threshold: share of the evidence above a null from which an answer is suspected.
    """

    title = "Evidence outside the object"
    needs = ("masks",)
    source = "after Wang et al. 2020"

    threshold: float = Field(0.05, ge=0, le=1)

    def run(self, evidence: Evidence, context: Context) -> CheckResult:
        """Compare the evidence outside with both nulls, for each answer."""
        shares = compare(evidence, context, self.permutations)
        if not len(shares.answers):
            return CheckResult("", reason=f"no answer has {LEAST} images with a mask and positive evidence")
        excess = shares.excess(self.alpha)
        order = np.argsort(-excess, kind="stable")
        suspects = tuple(_suspect(shares, a, evidence) for a in order if excess[a] >= self.threshold)
        worst = int(order[0]) if excess.max() > 0 else int((shares.outside - shares.area).argmax())
        return CheckResult(
            sentence=f"{shares.outside.mean():.0%} of the evidence lies outside the objects, which leave "
            f"{shares.area.mean():.0%} of the images free; "
            f"{len(suspects)} of {len(shares.answers)} answers exceed chance.",
            conditions=(self._condition(shares, excess, evidence),),
            suspects=suspects,
            value=float(shares.outside[worst]),
            null=float(shares.area[worst]),
            p=float(shares.p[worst]),
            picture=draw(lambda figure: _paint(figure, shares, excess >= self.threshold, evidence)),
        )

    def _condition(self, shares: Shares, excess: np.ndarray, evidence: Evidence) -> Condition:
        worst = int(excess.argmax())
        status = Status.failed if excess[worst] >= self.threshold else Status.warned if excess[worst] else Status.passed
        name = evidence.classes[shares.answers[worst]]
        detail = f"{name!r}: {excess[worst]:.2f} above chance" if excess[worst] else "no answer exceeds chance"
        return Condition(name=f"evidence outside above chance < {self.threshold:.2f}", status=status, detail=detail)


def compare(evidence: Evidence, context: Context, count: int) -> Shares:
    """Compare the evidence outside the object with both nulls, for each answer with enough images."""
    usable = np.isfinite(evidence.inside) & np.isfinite(evidence.area)
    sizes = np.bincount(evidence.answers[usable], minlength=len(evidence.classes))
    answers = np.flatnonzero(sizes >= LEAST)
    members = [np.flatnonzero(usable & (evidence.answers == cls)) for cls in answers]
    rng, per_answer = context.generator, max(LEAST, MASKS // max(1, len(answers)))
    above_area = [flip_signs(evidence.area[rows] - evidence.inside[rows], count, rng) for rows in members]
    above_other = [
        exchange_masks(evidence, context, np.sort(rng.permutation(rows)[:per_answer]), count, rng) for rows in members
    ]
    tests = [*above_area, *above_other]
    valid = [test for test in tests if test is not None]
    p = np.full(len(tests), np.nan)
    if valid:
        p[[test is not None for test in tests]] = step_down_p(
            np.array([value for value, _ in valid]), np.column_stack([null for _, null in valid])
        )
    return Shares(
        answers,
        np.array([1 - evidence.inside[rows].mean() for rows in members]),
        np.array([1 - evidence.area[rows].mean() for rows in members]),
        np.array([np.nan if test is None else test[1].mean() for test in above_other]),
        p[: len(answers)],
        p[len(answers) :],
    )


def flip_signs(differences: np.ndarray, count: int, rng: np.random.Generator) -> tuple[float, np.ndarray]:
    """Return the mean of differences (n,), and its null (count,) under random signs."""
    null = [float((differences * (2 * rng.integers(0, 2, len(differences)) - 1)).mean()) for _ in range(count)]
    return float(differences.mean()), np.array(null)


def exchange_masks(
    evidence: Evidence, context: Context, positions: np.ndarray, count: int, rng: np.random.Generator
) -> tuple[float, np.ndarray] | None:
    """Return the mean share outside the masks, and its null with masks of other images; None without masks."""
    pairs = [
        (rows, pool_masks(batch.masks))
        for rows, batch in context.images.batches(_batches(evidence.rows[positions], len(context.images)))
    ]
    if not pairs:
        return None
    rows, masks = np.concatenate([rows for rows, _ in pairs]), np.concatenate([mask for _, mask in pairs])
    by_row = dict(zip(evidence.rows[positions].tolist(), positions.tolist(), strict=True))
    maps = np.maximum(evidence.maps[[by_row[int(row)] for row in rows]], 0).reshape(len(rows), -1)
    total = maps.sum(1)
    usable = (total > 0) & (masks.sum(1) > 0)
    if usable.sum() < LEAST:
        return None
    maps, masks = maps[usable] / total[usable, None], masks[usable]
    null = [1 - np.einsum("nc,nc->n", maps, masks[order]).mean() for order in permutations(count, len(maps), rng)]
    return float(1 - np.einsum("nc,nc->n", maps, masks).mean()), np.array(null)


def _batches(rows: np.ndarray, size: int) -> list[np.ndarray]:
    rows = rows[rows < size]
    return [rows[i : i + BATCH] for i in range(0, len(rows), BATCH)]


def pool_masks(masks: np.ndarray) -> np.ndarray:
    """Average masks (N, 1, H, W) over a grid of `GRID` cells a side, (N, GRID * GRID)."""
    import torch
    import torch.nn.functional as F

    return F.adaptive_avg_pool2d(torch.from_numpy(masks).float(), GRID).flatten(1).numpy()


def _suspect(shares: Shares, position: int, evidence: Evidence) -> Suspect:
    cls = int(shares.answers[position])
    rows = np.flatnonzero((evidence.answers == cls) & np.isfinite(evidence.inside))
    outside, area, other = (float(x[position]) for x in (shares.outside, shares.area, shares.other))
    with_other = "" if np.isnan(other) else f", {other:.0%} with masks of other images"
    ground = f"{outside:.0%} of the evidence lies outside the object, {area:.0%} of the image does{with_other}"
    return Suspect(
        key=f"outside-{evidence.classes[cls]}",
        title=f"{outside:.0%} of the evidence for {evidence.classes[cls]!r} lies outside the object",
        classes=(cls,),
        members=rows[np.argsort(evidence.inside[rows], kind="stable")],
        value=outside,
        null=area,
        p=float(shares.p[position]),
        in_maps=True,
        grounds=("not tested", f"{ground} (p {shares.p[position]:.3f})"),
        details={"area outside": area, **({} if np.isnan(other) else {"outside other masks": other})},
    )


def _paint(figure: Figure, shares: Shares, suspected: np.ndarray, evidence: Evidence) -> None:
    axes = figure.subplots()
    order = np.argsort(shares.area - shares.outside, kind="stable")[:BARS]
    rows = np.arange(len(order))[::-1]
    axes.barh(rows, shares.outside[order], color=np.where(suspected[order], ACCENT, REST), height=0.65)
    axes.plot(shares.area[order], rows, "|", color=LINE, markersize=10, label="share of the image")
    axes.plot(shares.other[order], rows, "x", color=LINE, markersize=5, label="with masks of other images")
    axes.set_yticks(rows, [shorten(evidence.classes[shares.answers[a]]) for a in order])
    axes.set_xlim(0, 1)
    axes.set_title("share of the evidence outside the object, by answer")
    axes.legend(fontsize=8)
