"""Check for groups of alike explanations, within one answer, in which errors gather.

Idea: images with one answer are clustered by what decided (features of their decisive cells) and where (their maps),
without a look at the labels, at several numbers of clusters. A cluster is suspected if errors are more frequent in it
than among the other images with this answer. Contrast decides, not density: dense groups without errors are left
alone. Statistic: P(error | cluster) - P(error | other images with the answer), in units of its standard deviation
under permutation of errors among images with the answer; p values are adjusted over clusters and answers together.

Without labels doubt takes the place of errors: 1 less the probability of the answer. It names what a network is less
sure of, so the check then warns and never fails.

Source: after SpRAy (Lapuschkin et al. 2019), with contrast; Domino (Eyuboglu et al. 2022) for the use of errors.

Limits: a group of a few images among thousands is in no cluster of its own. Images that lie between two classes also
gather errors: the labels in the group are given, so that one can tell. At most `SAMPLE` images are clustered, the rest
are assigned.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field
from scipy.sparse import csr_matrix

from benchmarks.diagnosis.check import Check, CheckResult, Context, Suspect, checks
from benchmarks.diagnosis.evidence import Evidence
from benchmarks.diagnosis.finding import Condition, Status
from benchmarks.diagnosis.nulls import LEAST, permutations, step_down_p
from benchmarks.diagnosis.output.drawing import draw, draw_bars

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SAMPLE = 20_000  # images that are clustered
NUMBERS = (2, 4, 8, 16)  # of clusters
PER_CLUSTER = 15  # images with an answer for each cluster, at least
COMPONENTS = 20
MAP_SIDE = 7  # cells of a map that are compared
OVERLAP = 0.5  # Jaccard index from which clusters count as one
BARS = 10
DOUBT = "doubt"


@dataclass(frozen=True)
class Group:
    """Images with one answer that are explained alike.

    Attributes:
        answer: class.
        members: (m,) positions in the evidence, the most central first.
        others: (n,) positions of the other images with the answer.
    """

    answer: int
    members: np.ndarray
    others: np.ndarray


@dataclass(frozen=True)
class Scored:
    """A group with its error rate, or its doubt, that of the other images with the answer, and the adjusted p."""

    group: Group
    errors: float
    base: float
    null: float
    p: float

    @property
    def excess(self) -> float:
        """Error rate above that of the others."""
        return self.errors - self.base


@checks.register("groups")
class Groups(Check):
    """Groups of alike explanations in which errors, or doubt, gather.

    Fields:
        threshold: excess of the error rate, or of the doubt, from which a group is suspected and the check fails.
        notable: excess of a warning.
    """

    title = "Groups of alike explanations with errors"
    needs = ("errors",)
    source = "after Lapuschkin et al. 2019 and Eyuboglu et al. 2022"

    threshold: float = Field(0.2, ge=0, le=1)
    notable: float = Field(0.1, ge=0, le=1)

    def run(self, evidence: Evidence, context: Context) -> CheckResult:
        """Cluster the explanations of each answer, and compare error rates, or doubt."""
        groups = find_groups(evidence, context.seed)
        if not groups:
            kinds = ", hits and errors among them" if evidence.has_labels else ""
            return CheckResult("", reason=f"no answer has {2 * PER_CLUSTER} images{kinds}")
        scored = compare_errors(groups, evidence, self.permutations, context.generator)
        distinct = without_overlap(sorted(scored, key=lambda s: (s.p, -s.excess)))
        significant = [s for s in distinct if s.p <= self.alpha and s.excess >= self.notable]
        suspects = tuple(_suspect(s, evidence) for s in significant if s.excess >= self.threshold)
        first = significant[0] if significant else distinct[0]
        return CheckResult(
            sentence=self._sentence(suspects, first, evidence),
            conditions=(self._condition(significant, evidence),),
            suspects=suspects,
            value=first.excess,
            null=first.null,
            p=first.p,
            picture=draw(lambda figure: self._paint(figure, distinct, evidence)),
        )

    def _sentence(self, suspects: tuple[Suspect, ...], first: Scored, evidence: Evidence) -> str:
        gather = "Errors gather" if evidence.has_labels else "Doubt gathers"
        if not suspects:
            return f"{gather} in no group of explanations (largest excess {first.excess:.0%}, p {first.p:.2f})."
        return (
            f"{gather} in {len(suspects)} groups; the first, of answers {evidence.classes[first.group.answer]!r}, has "
            f"{describe_fault(first.errors, evidence)}, {first.base:.0%} elsewhere."
        )

    def _condition(self, significant: list[Scored], evidence: Evidence) -> Condition:
        excess = max((s.excess for s in significant), default=0.0)
        large = Status.failed if evidence.has_labels else Status.warned
        status = large if excess >= self.threshold else Status.warned if significant else Status.passed
        detail = f"{excess:.0%} above the other images with the answer" if significant else "no excess is significant"
        name = f"significant excess of {name_fault(evidence)} < {self.threshold:.0%}"
        return Condition(name=name, status=status, detail=detail)

    def _paint(self, figure: Figure, scored: list[Scored], evidence: Evidence) -> None:
        axes, first = figure.subplots(), scored[:BARS]
        names = [f"{evidence.classes[s.group.answer]}, {len(s.group.members)} images" for s in first]
        alarming = np.array([s.p <= self.alpha and s.excess >= self.threshold for s in first])
        draw_bars(axes, names, np.array([max(0.0, s.excess) for s in first]), alarming, self.threshold)
        axes.set_title(f"excess of {name_fault(evidence)} in groups of explanations")


def measure_fault(evidence: Evidence) -> np.ndarray:
    """Return 1 for errors and 0 for hits, (N,); without labels the doubt, 1 less the probability of the answer."""
    if evidence.has_labels:
        return (~evidence.correct).astype(np.float64)
    return 1 - evidence.probabilities.max(1).astype(np.float64)


def name_fault(evidence: Evidence) -> str:
    """Return the word for what `measure_fault` measures."""
    return "errors" if evidence.has_labels else DOUBT


def describe_fault(rate: float, evidence: Evidence) -> str:
    """Describe a mean of `measure_fault`."""
    return f"{rate:.0%} errors" if evidence.has_labels else f"a mean doubt of {rate:.0%}"


def find_groups(evidence: Evidence, seed: int) -> list[Group]:
    """Cluster the explanations of each answer that has hits and errors; without labels those of each answer."""
    rng = np.random.default_rng(seed)
    groups: list[Group] = []
    share = min(1.0, SAMPLE / len(evidence))
    for answer in np.unique(evidence.answers):
        positions = np.flatnonzero(evidence.answers == answer)
        correct = evidence.correct[positions]
        has_both = not evidence.has_labels or LEAST <= correct.sum() <= len(correct) - LEAST
        if len(positions) >= 2 * PER_CLUSTER and has_both:
            explanations = describe(evidence, positions, seed)
            fitted = rng.permutation(len(positions))[: max(2 * PER_CLUSTER, round(share * len(positions)))]
            groups += _cluster(explanations, fitted, positions, int(answer), seed)
    return groups


def describe(evidence: Evidence, positions: np.ndarray, seed: int) -> np.ndarray:
    """Describe explanations (m, D) by what decided and where, both with the same total variance."""
    weights = evidence.weights[positions].astype(np.float32)
    weights = weights / np.maximum(weights.sum(1, keepdims=True), 1e-12)
    what = np.einsum("nd,ndc->nc", weights, evidence.cells[positions].astype(np.float32))
    maps = np.maximum(evidence.maps[positions], 0)
    side = maps.shape[1] // MAP_SIDE if maps.shape[1] % MAP_SIDE == 0 else 1
    rows = maps.shape[1] // side
    where = maps.reshape(len(maps), rows, side, rows, side).sum((2, 4)).reshape(len(maps), -1)
    where = np.sqrt(where / np.maximum(where.sum(1, keepdims=True), 1e-12))
    return np.concatenate([_reduce(what, seed), _reduce(where, seed)], axis=1)


def _reduce(values: np.ndarray, seed: int) -> np.ndarray:
    """Return the first principal components (n, <= COMPONENTS) with total variance 1; none if nothing varies."""
    from sklearn.decomposition import PCA

    spread = values.std(0)
    varying = values[:, spread > 1e-6] / spread[spread > 1e-6]
    if not varying.shape[1]:
        return np.zeros((len(values), 1), np.float32)
    reduced = PCA(min(COMPONENTS, *varying.shape), random_state=seed).fit_transform(varying)
    return reduced / np.sqrt(reduced.var(0).sum() + 1e-12)


def _cluster(
    explanations: np.ndarray, fitted: np.ndarray, positions: np.ndarray, answer: int, seed: int
) -> list[Group]:
    """Cluster explanations (m, D) at several numbers of clusters, fitted to some and assigned to all."""
    from sklearn.cluster import KMeans

    groups = []
    distinct = len(np.unique(explanations[fitted].round(6), axis=0))
    for number in NUMBERS:
        if number > min(len(fitted) // PER_CLUSTER, distinct):
            break
        model = KMeans(number, n_init=3, random_state=seed).fit(explanations[fitted])
        distances = model.transform(explanations)
        assigned = distances.argmin(1)
        for cluster in range(number):
            members = np.flatnonzero(assigned == cluster)
            order = np.argsort(distances[members, cluster], kind="stable")
            if LEAST <= len(members) <= len(positions) - LEAST:
                groups.append(Group(answer, positions[members[order]], positions[assigned != cluster]))
    return groups


def compare_errors(groups: list[Group], evidence: Evidence, count: int, rng: np.random.Generator) -> list[Scored]:
    """Compare error rates, or doubt, of groups with those of other images with the answer."""
    wrong = measure_fault(evidence)
    sizes = np.array([len(group.members) for group in groups])
    others = np.array([len(group.others) for group in groups])
    columns = np.concatenate([group.members for group in groups])
    rows = np.repeat(np.arange(len(groups)), sizes)
    inside = csr_matrix((np.ones(len(rows)), (rows, columns)), shape=(len(groups), len(evidence)))
    total = np.array([wrong[group.members].sum() + wrong[group.others].sum() for group in groups])

    def rates(errors: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        within = inside @ errors
        return within / sizes, (total - within) / others

    errors, base = rates(wrong)
    orders = permutations(count, len(wrong), rng, evidence.answers)
    null = np.stack([np.subtract(*rates(wrong[order])) for order in orders])
    p = step_down_p(errors - base, null)
    numbers = zip(groups, errors.tolist(), base.tolist(), null.mean(0).tolist(), p.tolist(), strict=True)
    return [Scored(*values) for values in numbers]


def without_overlap(scored: list[Scored]) -> list[Scored]:
    """Keep groups (in their order) that do not consist mostly of images of an earlier one."""
    chosen: list[Scored] = []
    for candidate in scored:
        members = set(candidate.group.members.tolist())
        earlier = (set(s.group.members.tolist()) for s in chosen if s.group.answer == candidate.group.answer)
        if all(len(members & other) < OVERLAP * len(members | other) for other in earlier):
            chosen.append(candidate)
    return chosen


def _suspect(scored: Scored, evidence: Evidence) -> Suspect:
    group, name = scored.group, evidence.classes[scored.group.answer]
    fault = describe_fault(scored.errors, evidence)
    rate, elsewhere = ("error rate", "error rate elsewhere") if evidence.has_labels else (DOUBT, "doubt elsewhere")
    return Suspect(
        key=f"group-{name}-{evidence.ids[group.members[0]]}",
        title=f"{len(group.members)} images answered {name!r} are explained alike, with {fault}",
        classes=(group.answer,),
        members=group.members,
        value=scored.excess,
        null=scored.null,
        p=scored.p,
        in_data=None,
        in_maps=True,
        grounds=(
            _describe_labels(group, evidence),
            f"{fault} in the group, {scored.base:.0%} in the other answers {name!r} (p {scored.p:.3f})",
        ),
        details={"images": len(group.members), rate: scored.errors, elsewhere: scored.base},
    )


def _describe_labels(group: Group, evidence: Evidence) -> str:
    if not evidence.has_labels:
        return "not tested: there are no labels"
    sizes = np.bincount(evidence.labels[group.members], minlength=len(evidence.classes)) / len(group.members)
    most = np.argsort(-sizes, kind="stable")[:3]
    labels = ", ".join(f"{sizes[cls]:.0%} {evidence.classes[cls]!r}" for cls in most if sizes[cls] > 0)
    return f"labels in the group: {labels}"
