"""Turn clusters of cells into regions: linear classifiers of a level's features.

First all clusters at once by linear discriminants with one shared covariance, to see which occur where. Then a logistic
regression for each cluster that is worth it, whose region is used on images that the diagnosis has not seen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch

from benchmarks.diagnosis.region import ConceptRegion
from benchmarks.diagnosis.subject import Subject
from interp_core.datasets import Images

BATCH = 64
POOL = 8000  # background cells a classifier is trained against
SHRINKAGE = 0.1  # of the covariance towards its diagonal
STRENGTH = 0.01  # of the classifier, the inverse of its regularisation


@dataclass(frozen=True)
class Cluster:
    """Cells that look alike and decide for one class.

    Attributes:
        cls: the class.
        cells: (m, C) their features.
        members: (n,) positions in the evidence of the images they lie in, those with most evidence on them first.
    """

    cls: int
    cells: np.ndarray
    members: np.ndarray


@dataclass(frozen=True)
class Background:
    """All cells of a sample of images.

    Attributes:
        positions: (n,) positions in the evidence.
        cells: (n, h * w, C) features.
    """

    positions: np.ndarray
    cells: np.ndarray

    @property
    def flat(self) -> np.ndarray:
        """All cells, (n * h * w, C)."""
        return self.cells.reshape(-1, self.cells.shape[-1])


@torch.no_grad()
def read_background(
    subject: Subject, images: Images, rows: np.ndarray, positions: np.ndarray, level: str
) -> Background:
    """Read the features of all cells of images at `rows`, whose positions in the evidence are `positions`."""
    position_of = dict(zip(rows.tolist(), positions.tolist(), strict=True))
    parts: list[np.ndarray] = []
    order: list[int] = []
    for indices, batch in images.batches(np.array_split(rows, -(-len(rows) // BATCH))):
        cells = subject.cells(batch.images, level).float().flatten(2).transpose(1, 2)
        parts.append(cells.cpu().numpy().astype(np.float16))
        order.extend(position_of[int(index)] for index in indices)
    return Background(np.array(order), np.concatenate(parts))


def discriminants(clusters: list[Cluster], background: Background) -> tuple[np.ndarray, np.ndarray]:
    """Compute weights (M, C) and offsets (M,) of linear discriminants of clusters against the background.

    A score of 0 lies half way between the cluster's mean and the background's.
    """
    pool = background.flat.astype(np.float32)
    mean = pool.mean(0)
    covariance = np.cov(pool, rowvar=False).reshape(pool.shape[1], -1)
    covariance = (1 - SHRINKAGE) * covariance + SHRINKAGE * np.diag(np.diag(covariance) + 1e-6)
    centres = np.stack([cluster.cells.mean(0) for cluster in clusters]) - mean
    weights = np.linalg.solve(covariance, centres.T).T
    return weights, -(weights * (mean + centres / 2)).sum(1)


def strongest_scores(background: Background, weights: np.ndarray, offsets: np.ndarray) -> np.ndarray:
    """Compute the highest score of any cell of each image, (n, M)."""
    return np.stack([(image.astype(np.float32) @ weights.T + offsets).max(0) for image in background.cells])


def train_region(cluster: Cluster, background: Background, level: str, seed: int) -> ConceptRegion:
    """Train a classifier of a cluster's cells against cells of other images.

    Args:
        cluster: the cells to recognise.
        background: cells of other images; those of the cluster's images are left out.
        level: name of the level.
        seed: of the sample of background cells.
    """
    from sklearn.linear_model import LogisticRegression

    generator = np.random.default_rng(seed)
    elsewhere = background.cells[~np.isin(background.positions, cluster.members)]
    elsewhere = (elsewhere if len(elsewhere) else background.cells).reshape(-1, background.cells.shape[-1])
    chosen = generator.choice(len(elsewhere), min(POOL, len(elsewhere)), replace=False)
    cells = np.concatenate([cluster.cells, elsewhere[chosen]]).astype(np.float32)
    is_inside = np.arange(len(cells)) < len(cluster.cells)
    mean, std = cells.mean(0), cells.std(0) + 1e-6
    model = LogisticRegression(C=STRENGTH, class_weight="balanced", max_iter=300)
    model.fit((cells - mean) / std, is_inside)
    return ConceptRegion(level, model.coef_[0].astype(np.float32), float(model.intercept_[0]), mean, std)
