"""Other ways to find a planted cause, on the same networks and images.

    cleanlab       its score of properties against labels, flagged below .3, as released
    PPS            deepchecks' predictive power score of properties, flagged above .2 (Wetschoreck 2020)
    Domino         Gaussian mixture of features, labels and answers (Eyuboglu et al. 2022), on the network's features
    SpRAy          spectral clusters of maps within a class (Lapuschkin et al. 2019), of Grad-CAM and of LRP
    highest loss   the images of a class with the highest loss
    random         images of a class at random

Groups of images are ranked as each method ranks them; where it leaves that to a person, smaller clusters come first. A
property is flagged or not; no method intervenes, so a flag counts as its verdict.

Known limits: deepchecks and Domino do not install beside current libraries, so their published formulas are used here,
on the properties and features of the diagnosis.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from sklearn.cluster import SpectralClustering
from sklearn.decomposition import PCA
from sklearn.metrics import f1_score
from sklearn.mixture import GaussianMixture
from sklearn.model_selection import cross_val_predict
from sklearn.tree import DecisionTreeClassifier

from baselines import explainers
from benchmarks.diagnosis.evidence import GRID, Evidence, collect_evidence
from benchmarks.diagnosis.subject import Subject
from benchmarks.studies.planted.causes import PROPERTIES, Planted
from benchmarks.studies.planted.judge import Named, precision_of
from benchmarks.studies.planted.setting import Setting

MOST = 10  # groups that a method names
CLEANLAB_LIMIT, PPS_LIMIT = 0.3, 0.2
SLICES, LABEL_WEIGHT, COMPONENTS = 10, 10.0, 24
CLUSTERS = 3  # of a class
LEAST = 12  # images of a class that is clustered

Groups = list[np.ndarray]


def name_groups(groups: Groups, evidence: Evidence, planted: Planted) -> list[Named]:
    """Judge groups of positions in the evidence, the most suspicious first."""
    ids = [[evidence.ids[i] for i in group] for group in groups[:MOST]]
    return [Named(precision=precision_of(names, planted)) for names in ids]


def name_properties(names: Sequence[str], scores: np.ndarray, is_flagged: np.ndarray, setting: Setting) -> list[Named]:
    """Judge properties, those with the highest score first."""
    right = PROPERTIES.get(setting.cause, frozenset()) if setting.role != "nothing" else frozenset()
    return [
        Named(is_property=names[i] in right and bool(is_flagged[i]), is_cause=bool(is_flagged[i]))
        for i in np.argsort(-scores, kind="stable")
    ]


def score_by_cleanlab(evidence: Evidence, setting: Setting) -> list[Named]:
    """Score properties as cleanlab does."""
    from cleanlab.datalab.internal.spurious_correlation import SpuriousCorrelations

    table = pd.DataFrame(evidence.properties, columns=list(evidence.property_names))
    scores = SpuriousCorrelations(table, evidence.labels).calculate_correlations()["score"].to_numpy()
    return name_properties(evidence.property_names, -scores, scores < CLEANLAB_LIMIT, setting)


def score_by_pps(evidence: Evidence, setting: Setting) -> list[Named]:
    """Score properties by (F1 of a tree - F1 of the better naive guess) / (1 - that)."""
    labels = evidence.labels
    generator = np.random.default_rng(setting.seed)
    common = np.full(len(labels), np.bincount(labels).argmax())
    naive = max(f1_score(labels, guess, average="weighted") for guess in (common, generator.permutation(labels)))
    scores = []
    for column in evidence.properties.T:
        tree = DecisionTreeClassifier(random_state=setting.seed)
        answers = cross_val_predict(tree, column[:, None], labels, cv=4)
        scores.append(max(0.0, (f1_score(labels, answers, average="weighted") - naive) / (1 - naive)))
    values = np.array(scores)
    return name_properties(evidence.property_names, values, values > PPS_LIMIT, setting)


def slice_by_mixture(evidence: Evidence, setting: Setting) -> Groups:
    """Group images by a mixture of features, labels and answers, those with most errors first."""
    features = evidence.features.astype(np.float64)
    reduced = PCA(min(COMPONENTS, *features.shape), whiten=True, random_state=setting.seed).fit_transform(features)
    one_hot = np.eye(len(evidence.classes))[evidence.labels]
    joint = np.concatenate([reduced, LABEL_WEIGHT * one_hot, LABEL_WEIGHT * evidence.probabilities], 1)
    mixture = GaussianMixture(SLICES, covariance_type="diag", reg_covar=1e-3, random_state=setting.seed).fit(joint)
    shares = mixture.predict_proba(joint)
    errors = [(shares[:, k] * ~evidence.correct).sum() / max(shares[:, k].sum(), 1e-9) for k in range(SLICES)]
    return [np.argsort(-shares[:, k], kind="stable") for k in np.argsort(errors)[::-1]]


def cluster_maps(maps: np.ndarray, answers: np.ndarray, seed: int) -> Groups:
    """Cluster the maps (N, g, g) of each answered class spectrally, smaller clusters first."""
    flat = np.maximum(maps, 0).reshape(len(maps), -1)
    flat = flat / np.maximum(flat.sum(1, keepdims=True), 1e-30)
    groups: Groups = []
    for cls in np.unique(answers):
        rows = np.flatnonzero(answers == cls)
        if len(rows) >= LEAST:
            clustering = SpectralClustering(CLUSTERS, affinity="nearest_neighbors", n_neighbors=8, random_state=seed)
            numbers = clustering.fit_predict(flat[rows])
            groups += [rows[numbers == number] for number in range(CLUSTERS) if (numbers == number).any()]
    return sorted(groups, key=len)


def explain_grid(subject: Subject, planted: Planted, name: str, evidence: Evidence) -> np.ndarray:
    """Compute maps (N, GRID, GRID) of the answers by another explainer."""
    maps = []
    for rows in np.array_split(evidence.rows, max(1, len(evidence) // 64)):
        pixels = subject.normalise(planted.images.images[rows])
        targets = torch.from_numpy(evidence.answers[np.searchsorted(evidence.rows, rows)])
        values = explainers[name]()(subject.lap, pixels, targets)
        maps.append(torch.nn.functional.adaptive_avg_pool2d(values, GRID)[:, 0].numpy())
    return np.nan_to_num(np.concatenate(maps))


def highest_losses(evidence: Evidence) -> Groups:
    """Group images by label, highest loss first, the class with the highest losses first."""
    loss = -np.log(np.maximum(evidence.probabilities[np.arange(len(evidence)), evidence.labels], 1e-12))
    groups = [np.flatnonzero(evidence.labels == cls) for cls in np.unique(evidence.labels)]
    groups = [group[np.argsort(-loss[group], kind="stable")] for group in groups]
    return sorted(groups, key=lambda group: -float(loss[group[:10]].mean()))


def random_groups(evidence: Evidence, setting: Setting) -> Groups:
    """Group images by label in random order."""
    generator = np.random.default_rng(setting.seed)
    classes = generator.permutation(np.unique(evidence.labels))
    return [generator.permutation(np.flatnonzero(evidence.labels == cls)) for cls in classes]


def _on_evidence(look: Callable[[Evidence, Subject, Planted, Setting], list[Named]]) -> Callable[..., list[Named]]:
    """Make a method of the study from a function of the evidence."""

    def find(subject: Subject, planted: Planted, setting: Setting, folder: Path) -> list[Named]:
        evidence = collect_evidence(subject, planted.images, folder)
        return look(evidence, subject, planted, setting)

    return find


def _grouping(make: Callable[[Evidence, Subject, Planted, Setting], Groups]) -> Callable[..., list[Named]]:
    return _on_evidence(lambda e, subject, planted, s: name_groups(make(e, subject, planted, s), e, planted))


def _spray(name: str) -> Callable[..., list[Named]]:
    return _grouping(
        lambda e, subject, planted, s: cluster_maps(explain_grid(subject, planted, name, e), e.answers, s.seed)
    )


FINDING_RIVALS: dict[str, Callable[..., list[Named]]] = {
    "cleanlab": _on_evidence(lambda e, _subject, _planted, s: score_by_cleanlab(e, s)),
    "PPS": _on_evidence(lambda e, _subject, _planted, s: score_by_pps(e, s)),
    "Domino": _grouping(lambda e, _subject, _planted, s: slice_by_mixture(e, s)),
    "SpRAy, Grad-CAM": _spray("grad_cam"),
    "SpRAy, LRP": _spray("lrp"),
    "highest loss": _grouping(lambda e, _subject, _planted, _setting: highest_losses(e)),
    "random": _grouping(lambda e, _subject, _planted, s: random_groups(e, s)),
}
