"""Check for pairs of classes whose evidence overlaps: confused more often than others, and decided by alike features.

Statistic, per pair of classes: the number of images of one that are answered as the other. Null: quasi-independence,
in which a wrong answer depends on how often a class is confused and answered at all, but not on the pair. Counts are
drawn from it, and p values adjusted over pairs. Each pair is given the similarity of its evidence: the cosine of the
mean features of the decisive cells of right answers, less the mean of all classes.

Source: Goodman (1968) for quasi-independence.

Limits: for information only, a pair may be alike by nature. With two classes there is only one pair and nothing to
compare it with.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from benchmarks.diagnosis.check import Check, CheckResult, Context, Suspect, checks
from benchmarks.diagnosis.evidence import Evidence
from benchmarks.diagnosis.finding import Condition, Status
from benchmarks.diagnosis.nulls import LEAST, step_down_p
from benchmarks.diagnosis.output.drawing import draw, draw_bars, shorten

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FITS = 100  # steps of iterative proportional fitting
BARS = 8


@dataclass(frozen=True)
class Pairs:
    """Pairs of classes that are confused.

    Attributes:
        first: (m,) classes.
        second: (m,) classes.
        confused: (m,) numbers of images.
        expected: (m,) under quasi-independence.
        similarity: (m,) of the evidence, in [-1, 1], NaN where a class is never answered rightly.
        p: (m,) adjusted.
    """

    first: np.ndarray
    second: np.ndarray
    confused: np.ndarray
    expected: np.ndarray
    similarity: np.ndarray
    p: np.ndarray


@checks.register("overlap")
class Overlap(Check):
    """Classes whose evidence overlaps; for information, it warns at most.

    Fields:
        similarity: of the evidence from which a confused pair overlaps.
        suspects: largest number of pairs that are named.
    """

    title = "Classes whose evidence overlaps"
    needs = ("labels", "several classes", "errors")
    source = "Goodman 1968"

    similarity: float = Field(0.3, ge=-1, le=1)
    suspects: int = Field(5, ge=1)

    def run(self, evidence: Evidence, context: Context) -> CheckResult:
        """Compare the pairs of classes that are confused with chance."""
        pairs = compare_pairs(evidence, self.permutations, context.generator)
        if not len(pairs.first):
            return CheckResult("", reason=f"no pair of classes is confused in {LEAST} images")
        overlaps = (pairs.p <= self.alpha) & (np.nan_to_num(pairs.similarity, nan=-1) >= self.similarity)
        order = np.lexsort((-pairs.confused, pairs.p, ~overlaps))
        first = int(order[0])
        names = " and ".join(repr(evidence.classes[cls[first]]) for cls in (pairs.first, pairs.second))
        return CheckResult(
            sentence=f"{int(overlaps.sum())} of {len(overlaps)} confused pairs overlap in their evidence; first "
            f"{names}, confused in {pairs.confused[first]} images, {pairs.expected[first]:.0f} by chance.",
            conditions=(
                Condition(
                    name=f"no pair is confused beyond chance with a similarity >= {self.similarity:.2f}",
                    status=Status.warned if overlaps.any() else Status.passed,
                    detail=f"{int(overlaps.sum())} pairs",
                ),
            ),
            suspects=tuple(_suspect(pairs, i, evidence) for i in order[: self.suspects] if overlaps[i]),
            value=float(pairs.confused[first]),
            null=float(pairs.expected[first]),
            p=float(pairs.p.min()),
            picture=draw(lambda figure: _paint(figure, pairs, order[:BARS], overlaps, evidence)),
        )


def compare_pairs(evidence: Evidence, count: int, rng: np.random.Generator) -> Pairs:
    """Compare the numbers of confused images with quasi-independence, for pairs of at least `LEAST` images."""
    classes = len(evidence.classes)
    wrong = np.flatnonzero(~evidence.correct)
    codes = evidence.labels[wrong] * classes + evidence.answers[wrong]
    table = np.bincount(codes, minlength=classes**2).reshape(classes, classes)
    first, second = np.nonzero(np.triu(table + table.T >= LEAST, 1))
    rows = table.sum(1)
    chances = quasi_independence(table)
    null = np.empty((count, len(first)))
    for number in range(count):
        drawn = rng.multinomial(rows, chances)
        null[number] = (drawn + drawn.T)[first, second]
    confused = (table + table.T)[first, second]
    p = step_down_p(confused.astype(np.float64), null) if len(first) else np.empty(0)
    centres = evidence_centres(evidence)
    return Pairs(first, second, confused, null.mean(0), (centres[first] * centres[second]).sum(1), p)


def quasi_independence(table: np.ndarray) -> np.ndarray:
    """Fit the chances (K, K) of wrong answers, one row a label, that do not depend on the pair, to counts (K, K)."""
    fitted = 1.0 - np.eye(len(table))
    for _ in range(FITS):
        fitted *= (table.sum(1) / np.maximum(fitted.sum(1), 1e-12))[:, None]
        fitted *= table.sum(0) / np.maximum(fitted.sum(0), 1e-12)
    fitted = np.where(table.sum(1, keepdims=True) > 0, fitted, 1.0 - np.eye(len(table)))
    total = fitted.sum(1, keepdims=True)
    return np.where(total > 0, fitted / np.maximum(total, 1e-12), 1 / len(table))


def evidence_centres(evidence: Evidence) -> np.ndarray:
    """Compute unit vectors (K, C) of the decisive features of right answers, less the mean; NaN without any."""
    weights = evidence.weights / np.maximum(evidence.weights.sum(1, keepdims=True), 1e-12)
    features = np.einsum("nd,ndc->nc", weights, evidence.cells.astype(np.float32))
    features = features / np.maximum(features.std(0), 1e-6)
    centres = np.full((len(evidence.classes), features.shape[1]), np.nan)
    for cls in np.unique(evidence.labels[evidence.correct]):
        centres[cls] = features[evidence.correct & (evidence.labels == cls)].mean(0)
    seen_any = np.isfinite(centres).all(1)
    centres -= centres[seen_any].mean(0) if seen_any.any() else 0
    return centres / np.maximum(np.linalg.norm(centres, axis=1, keepdims=True), 1e-12)


def _suspect(pairs: Pairs, position: int, evidence: Evidence) -> Suspect:
    classes = int(pairs.first[position]), int(pairs.second[position])
    names = [evidence.classes[cls] for cls in classes]
    is_pair = np.isin(evidence.labels, classes) & np.isin(evidence.answers, classes) & ~evidence.correct
    members = np.flatnonzero(is_pair)
    certainty = evidence.probabilities[members, evidence.answers[members]]
    confused, expected = int(pairs.confused[position]), float(pairs.expected[position])
    likeness, p = float(pairs.similarity[position]), float(pairs.p[position])
    return Suspect(
        key=f"{names[0]} / {names[1]}",
        title=f"{names[0]!r} and {names[1]!r} are confused, and decided by alike features",
        classes=classes,
        members=members[np.argsort(-certainty, kind="stable")],
        value=float(confused),
        null=expected,
        p=p,
        in_maps=True,
        grounds=(
            f"confused in {confused} images, {expected:.0f} by chance (p {p:.3f})",
            f"the decisive features of the two have a cosine of {likeness:.2f}",
        ),
        details={"similarity": likeness},
    )


def _paint(figure: Figure, pairs: Pairs, order: np.ndarray, overlaps: np.ndarray, evidence: Evidence) -> None:
    axes = figure.subplots()
    names = [
        f"{shorten(evidence.classes[pairs.first[i]], 11)} / {shorten(evidence.classes[pairs.second[i]], 11)}"
        for i in order
    ]
    draw_bars(axes, names, pairs.confused[order].astype(np.float64), overlaps[order], 0)
    axes.plot(pairs.expected[order], np.arange(len(order))[::-1], "k|", markersize=10)
    axes.set_title("images confused between two classes, with the number expected by chance")
