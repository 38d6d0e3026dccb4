"""Recurring decisive patches: cells that look alike, decide for a class, and go with its label.

The cells with the most evidence of the images that are answered with a class are clustered by their features. A linear
discriminant of each cluster says in which images of a sample it occurs. The statistic is the lift of the label,

    (P(label | patch) - P(label)) / (1 - P(label))

1 where the patch gives the label away, 0 where it says nothing. Its p is that of the largest z score of any patch under
permuted labels, so it holds for all of them together. A patch is seen in the maps if more evidence lies on it than on
the same places in maps of other images with the same answer. Weaker suspects are passed on to the interventions, which
decide, but do not fail the check.

Without labels the answers take their place. A patch that decides goes with them by itself, so the check then warns at
most, and interventions decide.

Known limits: the parts of the object recur and decide, too. Where masks of objects are known, patches inside them are
left out; elsewhere a person has to tell. A patch smaller than a cell of the level may drown in it.
"""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

import numpy as np
import torch
import torch.nn.functional as F
from pydantic import Field

from benchmarks.diagnosis.check import Check, CheckResult, Context, Need, Suspect, checks
from benchmarks.diagnosis.concepts import (
    Background,
    Cluster,
    discriminants,
    read_background,
    strongest_scores,
    train_region,
)
from benchmarks.diagnosis.evidence import Evidence
from benchmarks.diagnosis.finding import Condition, Status

EXACT = 10_000  # cells above which clusters are approximate
COMPONENTS = 24
LEAST_IMAGES = 8  # of a cluster
MOST_TRIED = 2  # times the number of suspects, since parts of known objects do not count
LEAST_Z = 1.64  # of the lift of a suspect, 5 % one-sided for one patch alone
MOST_BYTES = 400_000_000  # of the cells of the sample
ALIKE = 0.8  # correlation of the scores of two clusters above which the weaker is dropped
LEAST_AREA = 0.25  # of the usual area, below which an image does not show the patch
INSIDE = 0.5  # share of a region inside the object above which it is the object


@checks.register("patches")
class Patches(Check):
    """Recurring decisive patches.

    Fields:
        clusters: largest number of clusters a class.
        most_classes: classes that are examined, those with the most images.
        sample: images that all cells are read of.
        suspects: largest number of suspects.
        lift: lift of the label above which a certain suspect fails the check, in (0, 1].
        least_lift: lift of the label below which there is no suspect.
        most_area: share of the image above which a region is no patch, by the median of its images.
    """

    title: ClassVar[str] = "Recurring decisive patches"
    needs: ClassVar[tuple[Need, ...]] = ("several classes",)
    source: ClassVar[str] = "after SpRAy (Lapuschkin et al. 2019) and CRP, with contrast in place of density"

    clusters: int = Field(12, ge=2)
    most_classes: int = Field(20, ge=1)
    sample: int = Field(2000, ge=20)
    suspects: int = Field(12, ge=1)
    lift: float = Field(0.3, gt=0, le=1)
    least_lift: float = Field(0.1, ge=0, le=1)
    most_area: float = Field(0.4, gt=0, le=1)

    def run(self, evidence: Evidence, context: Context) -> CheckResult:
        """Look for patches; see the class."""
        clusters = [cluster for cls in self._classes(evidence) for cluster in self._cluster(evidence, cls, context)]
        if not clusters:
            return CheckResult("", reason=f"no class is answered for {2 * LEAST_IMAGES} images with evidence")
        background = self._background(evidence, context)
        scores = strongest_scores(background, *discriminants(clusters, background))
        lifts, z, p = self._test(scores > 0, clusters, evidence.labels[background.positions], context)
        chosen = self._choose(lifts, z, scores, clusters)
        suspects: list[Suspect] = []
        for i in chosen:
            suspect = self._suspect(evidence, context, clusters[i], background, (lifts[i], z[i], p[i]))
            suspects += [suspect] if suspect is not None else []
            if sum(not suspect.is_legitimate for suspect in suspects) == self.suspects:
                break
        return self._result(suspects, lifts, p, evidence)

    def _classes(self, evidence: Evidence) -> list[int]:
        classes, counts = np.unique(evidence.answers, return_counts=True)
        return [int(cls) for cls in classes[np.argsort(-counts, kind="stable")][: self.most_classes]]

    def _cluster(self, evidence: Evidence, cls: int, context: Context) -> list[Cluster]:
        """Cluster the decisive cells of the images that are answered `cls`."""
        positions = np.flatnonzero((evidence.answers == cls) & (evidence.weights.sum(1) > 0))
        if len(positions) < 2 * LEAST_IMAGES:
            return []
        weights = evidence.weights[positions]
        image, number = np.nonzero(weights > 0)
        cells = evidence.cells[positions[image], number].astype(np.float32)
        count = int(np.clip(len(positions) // 12, 2, self.clusters))
        assigned = cluster_cells(cells, count, context.seed)
        clusters = []
        for group in range(count):
            is_inside = assigned == group
            weight = np.bincount(image[is_inside], weights[image, number][is_inside], len(positions))
            order = np.argsort(-weight, kind="stable")[: int((weight > 0).sum())]
            clusters.append(Cluster(cls, cells[is_inside], positions[order]))
        return [cluster for cluster in clusters if len(cluster.members) >= LEAST_IMAGES]

    def _cell(self, evidence: Evidence, context: Context) -> int:
        """Return the side of a cell in pixels."""
        rows, columns = context.images.shape[-2:]
        return round(max(context.subject.grid_of(evidence.level, (rows, columns)).pitch))

    def _background(self, evidence: Evidence, context: Context) -> Background:
        rows, columns = context.images.shape[-2:]
        pitch = context.subject.grid_of(evidence.level, (rows, columns)).pitch
        bytes_each = 2 * evidence.cells.shape[-1] * (rows / pitch[0]) * (columns / pitch[1])
        count = min(self.sample, len(evidence), max(20, int(MOST_BYTES / bytes_each)))
        positions = np.sort(context.generator.choice(len(evidence), count, replace=False))
        return read_background(context.subject, context.images, evidence.rows[positions], positions, evidence.level)

    def _test(
        self, present: np.ndarray, clusters: list[Cluster], labels: np.ndarray, context: Context
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return lifts, their z scores, and p values of the largest z under permutation, each (M,)."""
        classes = np.array([cluster.cls for cluster in clusters])
        z = lift_z(present, labels[:, None] == classes)
        null = np.stack([
            lift_z(present, permuted[:, None] == classes)
            for permuted in _shuffle(labels, self.permutations, context.generator)
        ])  # fmt: skip
        p = (1 + (null.max(1)[:, None] >= z).sum(0)) / (1 + self.permutations)
        return label_lift(present, labels[:, None] == classes), z, p

    def _choose(self, lifts: np.ndarray, z: np.ndarray, scores: np.ndarray, clusters: list[Cluster]) -> list[int]:
        """Return numbers of the clusters with the highest z, without clusters that occur in the same images."""
        likeness = np.nan_to_num(np.corrcoef(scores, rowvar=False)).reshape(len(lifts), -1)
        chosen: list[int] = []
        for i in np.argsort(-z, kind="stable").tolist():
            is_new = all(likeness[i, j] < ALIKE or clusters[i].cls != clusters[j].cls for j in chosen)
            if lifts[i] >= self.least_lift and z[i] >= LEAST_Z and is_new and len(chosen) < MOST_TRIED * self.suspects:
                chosen.append(i)
        return chosen

    def _suspect(
        self, evidence: Evidence, context: Context, cluster: Cluster, background: Background,
        statistics: tuple[float, float, float],
    ) -> Suspect | None:  # fmt: skip
        """Train the region of a cluster, and see whether evidence lies on it."""
        region = train_region(cluster, background, evidence.level, context.seed)
        members = cluster.members
        sample = members[:48]
        batch = context.images.take(evidence.rows[sample])
        masks = region.masks(context.subject, batch.images)
        area = float(masks.float().mean((1, 2, 3)).median())
        if area > self.most_area:
            return None
        region = replace(region, least=LEAST_AREA * area)
        share, null = share_on(evidence.maps[sample], masks, context.generator)
        p_maps = permutation_test(share, null)
        lift, z, p = statistics
        name = evidence.classes[cluster.cls]
        in_object = share_inside(masks, torch.from_numpy(batch.masks), self._cell(evidence, context))
        return Suspect(
            key=f"patch-{name}-{len(cluster.members)}",
            title=f"A patch that recurs in {len(cluster.members)} images answered {name}",
            classes=(cluster.cls,),
            members=members,
            value=float(lift),
            null=0.0,
            p=float(p),
            region=region,
            in_data=True if evidence.has_labels else None,
            in_maps=p_maps <= self.alpha,
            grounds=(
                f"lift of the {_kind(evidence)} {name} {lift:.2f}, z {z:.1f}, p {p:.3f} over all patches",
                f"{share.mean():.2f} of the evidence lies on it, {null.mean():.2f} in maps of other images, "
                f"p {p_maps:.3f}",
            ),
            is_legitimate=in_object is not None and in_object >= INSIDE,
            details={
                "area": round(area, 3),
                "images": len(cluster.members),
                "evidence share": round(float(share.mean()), 3),
            },
        )

    def _result(self, suspects: list[Suspect], lifts: np.ndarray, p: np.ndarray, evidence: Evidence) -> CheckResult:
        beside = [suspect for suspect in suspects if not suspect.is_legitimate]
        certain = [s for s in beside if s.value >= self.lift and s.p is not None and s.p <= self.alpha]
        large, what = Status.failed if evidence.has_labels else Status.warned, _kind(evidence)
        status = large if certain else Status.warned if beside else Status.passed
        best = max(certain or beside, key=lambda suspect: suspect.value, default=None)
        value, least = (best.value, best.p) if best else (float(lifts.max()), float(p.min()))
        condition = Condition(
            name=f"no patch beside known objects has a lift of {self.lift} of a {what} with p <= {self.alpha}",
            status=status,
            detail=f"lift {value:.2f}, p {least:.3f}",
        )
        sentence = f"{len(certain)} of {len(lifts)} groups of decisive cells give a {what} away, {len(beside)} suspects"
        return CheckResult(sentence, (condition,), tuple(suspects), value=value, null=0.0, p=least)


def _kind(evidence: Evidence) -> str:
    return "label" if evidence.has_labels else "answer"


def cluster_cells(cells: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Cluster cells (n, C) by k-means of their principal components, (n,) numbers of the clusters."""
    from sklearn.cluster import KMeans, MiniBatchKMeans
    from sklearn.decomposition import PCA
    from sklearn.preprocessing import StandardScaler

    components = min(COMPONENTS, *cells.shape)
    reduced = PCA(components, whiten=True, random_state=seed).fit_transform(StandardScaler().fit_transform(cells))
    method = KMeans if len(cells) <= EXACT else MiniBatchKMeans
    return method(count, n_init=4, random_state=seed).fit_predict(reduced)


def label_lift(present: np.ndarray, is_label: np.ndarray) -> np.ndarray:
    """Compute (P(label | present) - P(label)) / (1 - P(label)), (M,), of presences and labels (n, M) bool.

    It is 0 where nothing is present, or where all images have the label.
    """
    base = is_label.mean(0)
    given = (present & is_label).sum(0) / np.maximum(present.sum(0), 1)
    return np.where((present.sum(0) > 0) & (base < 1), (given - base) / np.maximum(1 - base, 1e-9), 0.0)


def lift_z(present: np.ndarray, is_label: np.ndarray) -> np.ndarray:
    """Compute the lift in units of its standard deviation if labels are independent of presence, (M,).

    A patch in few images reaches a high lift by chance; z takes account of that.
    """
    base, count, total = is_label.mean(0), present.sum(0), len(present)
    given = (present & is_label).sum(0) / np.maximum(count, 1)
    finite = (total - count) / max(total - 1, 1)  # without replacement
    deviation = np.sqrt(base * (1 - base) * finite / np.maximum(count, 1))
    return np.where((count > 0) & (deviation > 0), (given - base) / np.maximum(deviation, 1e-12), 0.0)


def _shuffle(labels: np.ndarray, count: int, generator: np.random.Generator) -> list[np.ndarray]:
    """Return labels (n,) in `count` random orders."""
    return [generator.permutation(labels) for _ in range(count)]


def share_on(maps: np.ndarray, masks: torch.Tensor, generator: np.random.Generator) -> tuple[np.ndarray, np.ndarray]:
    """Compute the share of positive evidence on masks, and with the maps of other images, (n,) each.

    Args:
        maps: (n, g, g) signed.
        masks: (n, 1, H, W) bool.
        generator: of the pairing with other images.
    """
    cover = F.adaptive_avg_pool2d(masks.float(), maps.shape[-2:])[:, 0].numpy()
    positive = np.maximum(maps, 0)
    positive = positive / np.maximum(positive.sum((1, 2), keepdims=True), 1e-30)
    offset = int(generator.integers(1, max(2, len(maps))))
    return (positive * cover).sum((1, 2)), (np.roll(positive, offset, 0) * cover).sum((1, 2))


def permutation_test(values: np.ndarray, null: np.ndarray) -> float:
    """Compute the p of paired values (n,) being above `null` (n,), by Wilcoxon's signed-rank test, one-sided."""
    from scipy.stats import wilcoxon

    if len(values) < 2 or not np.any(values != null):
        return 1.0
    return float(wilcoxon(values, null, alternative="greater", zero_method="pratt").pvalue)


def share_inside(regions: torch.Tensor, objects: torch.Tensor, margin: int) -> float | None:
    """Compute the mean share of regions (n, 1, H, W) inside object masks; None where no image has both.

    Objects are widened by `margin` pixels, as regions are no finer than cells.
    """
    has_both = regions.flatten(1).any(1) & objects.flatten(1).any(1)
    if not bool(has_both.any()):
        return None
    near = F.max_pool2d(objects[has_both].float(), 2 * margin + 1, stride=1, padding=margin) > 0
    inside = (regions[has_both] & near).sum((1, 2, 3)) / regions[has_both].sum((1, 2, 3))
    return float(inside.mean())
