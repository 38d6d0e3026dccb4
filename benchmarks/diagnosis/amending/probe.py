"""Probe of the last layer: is the true feature there, once the cue says nothing?

A logistic regression of the label on pooled features, cross-validated, on images whose cues are exchanged. Where it
tells the classes nearly as well as on the images as they are, a new last layer may suffice. Where it does not, the
network has not learned the true feature and has to learn it: no last layer can help.

Known limits: the images are those that the network was trained on, so the probe is optimistic about features that were
learned by heart.
"""

from __future__ import annotations

import numpy as np
from pydantic import Field

from benchmarks.diagnosis.finding import Facts
from benchmarks.diagnosis.repairs.support.cue_exchange import CueExchange, plan_exchange
from benchmarks.diagnosis.repairs.support.cues import Cues, collect_donors
from benchmarks.diagnosis.repairs.support.edited_images import EditedImages
from benchmarks.diagnosis.repairs.support.image_parts import part_of
from benchmarks.diagnosis.repairs.support.pooled_features import collect_features
from benchmarks.diagnosis.subject import Subject
from interp_core.datasets import Images

ENOUGH = 0.9  # share of the recovery above chance from which the true feature counts as there


class Probe(Facts):
    """What the last features say about the label.

    Fields:
        exchanged: cross-validated balanced accuracy on images with exchanged cues; None where a class has too few.
        original: the same on the images as they are.
        chance: balanced accuracy of guessing.
        linear_head: whether the last layer follows the pooling directly.
        area: mean share of the image that a cue covers.
        present: share of the images that show the cue.
        n: number of images.
    """

    exchanged: float | None
    original: float | None
    chance: float
    linear_head: bool
    area: float = Field(ge=0, le=1)
    present: float = Field(ge=0, le=1)
    n: int

    @property
    def recovery(self) -> float:
        """Share of the accuracy above chance that is left without the cue, in [0, 1]; 0 where it is unknown."""
        if self.exchanged is None or self.original is None or self.original <= self.chance:
            return 0.0
        return float(np.clip((self.exchanged - self.chance) / (self.original - self.chance), 0, 1))


def probe_last_layer(
    subject: Subject, images: Images, cues: Cues, groups: np.ndarray, *, most: int = 2000, seed: int = 0
) -> Probe:
    """Probe the last features of a network.

    Args:
        subject: the network.
        images: N labelled images.
        cues: their masks of the suspected region.
        groups: (N,) int64 labels.
        most: largest number of images that are used.
        seed: of the choice of images, of their changes and of the folds.
    """
    donors = collect_donors(images, cues, groups, seed)
    rows = np.sort(np.random.default_rng(seed).permutation(len(images))[:most])
    part = part_of(images, rows)
    part_cues = Cues(cues.present[rows], cues.size, cues.index[rows], cues.packed)
    exchange = CueExchange(part_cues, groups[rows], donors, plan_exchange(groups, cues.present, share=1.0))
    scores = []
    for source in (EditedImages(subject, part, exchange, seed=seed), EditedImages(subject, part)):
        read, features = collect_features(subject, source)
        scores.append(cross_validate(features, groups[rows][read], seed))
    return Probe(
        exchanged=scores[0],
        original=scores[1],
        chance=1 / max(1, len(np.unique(groups))),
        linear_head=subject.lap.info.linear_head,
        area=cues.area,
        present=float(cues.present.mean()),
        n=len(rows),
    )


def cross_validate(features: np.ndarray, labels: np.ndarray, seed: int, folds: int = 5) -> float | None:
    """Compute the balanced accuracy of a logistic regression by cross-validation.

    Args:
        features: (n, D).
        labels: (n,).
        seed: of the folds.
        folds: their number; fewer where a class has fewer images.

    Returns:
        None where there is one class, or a class has fewer than two images.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.model_selection import StratifiedKFold, cross_val_predict
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    classes, counts = np.unique(labels, return_counts=True)
    folds = min(folds, int(counts.min()))
    if len(classes) < 2 or folds < 2:
        return None
    model = make_pipeline(StandardScaler(), LogisticRegression(C=0.1, max_iter=200, class_weight="balanced"))
    splits = StratifiedKFold(folds, shuffle=True, random_state=seed)
    answers = cross_val_predict(model, features, labels, cv=splits)
    return float(np.mean([(answers[labels == cls] == cls).mean() for cls in classes]))
