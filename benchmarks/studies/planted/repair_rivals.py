"""Other repairs of a network with a planted cause, from the same start and with the same images.

    train on       as many more epochs, nothing changed
    erasing        the same with a random square of each image filled
    balanced       last layer fitted anew with balanced classes
    AFR            last layer reweighted by exp(-gamma p(label)) on held-out images (Qiu et al. 2023)
    JTT            trained again from random weights, errors of the first network five times (Liu et al. 2021)
    P-ClArC        the cue's direction projected out of the last features (Anders et al. 2022), cues known
    SELF           last layer tuned on held-out images on which dropout changes the answer most (LaBonte et al. 2023)
    RRR            trained on, input gradients kept small on the cue, which is known in 1 % of the images
    energy on CAM  trained on, CAM kept inside the object, which is known in 1 % of the images
    DFR            last layer on balanced groups (Kirichenko et al. 2023), groups known: an oracle
    Group DRO      trained on for the worst group (Sagawa et al. 2020), groups known: an oracle

RRR, energy on CAM and Group DRO lie in `guided_rivals`.

Known limits: AFR, SELF and DFR use the validation images, which the network has not seen. P-ClArC is told which images
show the cue, so it knows more than a diagnosis.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.diagnosis.amend import copy_subject
from benchmarks.diagnosis.repairs.support.edited_images import EditedImages
from benchmarks.diagnosis.repairs.support.pooled_features import collect_features, last_layer, write_last_layer
from benchmarks.diagnosis.subject import Subject
from benchmarks.studies.planted.causes import Planted
from benchmarks.studies.planted.guided_rivals import (
    fine_tune_recipe,
    guide_by_energy,
    guide_by_gradients,
    protect_groups,
)
from benchmarks.studies.planted.setting import Setting, normalise, subject_of, train_network
from interp_core.datasets import ImageSet
from interp_core.training import fit

SQUARE = 0.3  # side of an erased square
GAMMAS = (0.0, 1.0, 2.0, 4.0, 8.0)
UPWEIGHT = 5
DRAWS = 10  # balanced subsamples of DFR, and dropouts of SELF
SELECTED = (20, 100)  # images of SELF, chosen like AFR's gamma
DROPOUT, TUNE_STEPS, TUNE_RATE = 0.5, 250, 1e-2
Repair = Callable[[Subject, Planted, Planted, Setting], Subject]


def train_on(subject: Subject, train: Planted, _val: Planted, setting: Setting) -> Subject:
    """Train a copy on, with nothing changed."""
    return _fine_tune(subject, train.images.images, train.images.targets, setting)


def erase_squares(subject: Subject, train: Planted, _val: Planted, setting: Setting) -> Subject:
    """Train a copy on images of which a random square is filled with the mean colour."""
    pixels = train.images.images.copy()
    generator = np.random.default_rng(setting.seed)
    side = round(SQUARE * pixels.shape[-1])
    for image in pixels:
        top, left = generator.integers(0, pixels.shape[-1] - side + 1, 2)
        image[:, top : top + side, left : left + side] = image.mean((1, 2), keepdims=True).astype(np.uint8)
    return _fine_tune(subject, pixels, train.images.targets, setting)


def _fine_tune(subject: Subject, pixels: np.ndarray, targets: np.ndarray, setting: Setting) -> Subject:
    copy = copy_subject(subject)
    recipe = fine_tune_recipe(setting.seed)
    fit(copy.lap, normalise(pixels), torch.from_numpy(targets), recipe=recipe, terms=(), progress=None)
    return copy


def balance_classes(subject: Subject, train: Planted, _val: Planted, setting: Setting) -> Subject:
    """Fit the last layer of a copy anew, with classes of equal weight."""
    features = _features(subject, train.images)
    counts = np.bincount(train.images.targets, minlength=len(subject.classes))
    return _with_layer(subject, features, train.images.targets, 1 / counts[train.images.targets], setting.seed)


def reweight_failures(subject: Subject, _train: Planted, val: Planted, setting: Setting) -> Subject:
    """Reweight the last layer of a copy towards images with a low probability of their label."""
    half = np.arange(len(val.images)) % 2 == 0
    first, second = val.images.take(np.flatnonzero(half)), val.images.take(np.flatnonzero(~half))
    features, targets = _features(subject, first), first.targets
    p = subject.predict(first.images).numpy()[np.arange(len(first)), targets]
    candidates = [_with_layer(subject, features, targets, np.exp(-gamma * p), setting.seed) for gamma in GAMMAS]
    return max(candidates, key=lambda candidate: _worst_class(candidate, second))


def select_disagreements(subject: Subject, _train: Planted, val: Planted, setting: Setting) -> Subject:
    """Tune the last layer of a copy on images, as many of each class, whose answers dropout changes most."""
    half = np.arange(len(val.images)) % 2 == 0
    first, second = val.images.take(np.flatnonzero(half)), val.images.take(np.flatnonzero(~half))
    features, targets = torch.from_numpy(_features(subject, first)), torch.from_numpy(first.targets)
    weight, bias = (values.detach().reshape(len(values), -1).squeeze(1) for values in _layer(subject))
    disagreement = measure_disagreement(features, weight, bias, setting.seed)
    candidates = []
    for number in SELECTED:
        rows = _highest_of_each(disagreement, targets, max(1, number // len(subject.classes)))
        copy = copy_subject(subject)
        tuned_weight, tuned_bias = _tune(features[rows], targets[rows], weight, bias)
        write_last_layer(copy, tuned_weight.numpy(), tuned_bias.numpy(), list(range(len(bias))))
        candidates.append(copy)
    return max(candidates, key=lambda candidate: _worst_class(candidate, second))


def measure_disagreement(features: Tensor, weight: Tensor, bias: Tensor, seed: int) -> Tensor:
    """Compute the divergence (n,) of answers to features (n, D) from those with dropout, averaged over draws."""
    generator = torch.Generator().manual_seed(seed)
    logs = F.linear(features, weight, bias).log_softmax(1)
    total = torch.zeros(len(features))
    for _ in range(DRAWS):
        kept = torch.rand(features.shape, generator=generator) >= DROPOUT
        dropped = F.linear(features * kept / (1 - DROPOUT), weight, bias).log_softmax(1)
        total += (logs.exp() * (logs - dropped)).sum(1)
    return total / DRAWS


def _highest_of_each(values: Tensor, targets: Tensor, count: int) -> Tensor:
    """Return the positions of the `count` highest values (n,) of each class."""
    order = values.argsort(descending=True)
    return torch.cat([order[targets[order] == cls][:count] for cls in targets.unique()])


def _tune(features: Tensor, targets: Tensor, weight: Tensor, bias: Tensor) -> tuple[Tensor, Tensor]:
    """Tune weights (K, D) and biases (K,) from where they are."""
    layer = [values.clone().requires_grad_() for values in (weight, bias)]
    optimizer = torch.optim.Adam(layer, lr=TUNE_RATE)
    for _ in range(TUNE_STEPS):
        optimizer.zero_grad()
        F.cross_entropy(F.linear(features, *layer), targets).backward()  # type: ignore[no-untyped-call]
        optimizer.step()
    return layer[0].detach(), layer[1].detach()


def train_twice(subject: Subject, train: Planted, _val: Planted, setting: Setting) -> Subject:
    """Train a network from random weights, with the errors of the first several times."""
    answers = subject.predict(train.images.images).argmax(1).numpy()
    wrong = np.flatnonzero(answers != train.images.targets)
    rows = np.concatenate([np.arange(len(answers)), np.repeat(wrong, UPWEIGHT - 1)])
    return subject_of(train_network(setting, train.images.take(rows)))


def project_cue(subject: Subject, train: Planted, _val: Planted, _setting: Setting) -> Subject:
    """Project the directions of the known cues out of the last layer's weights of a copy."""
    features, copy = _features(subject, train.images), copy_subject(subject)
    weight, bias = (values.detach().flatten(1).numpy() if values.ndim > 1 else values.detach().numpy()
                    for values in _layer(subject))  # fmt: skip
    mean = features.mean(0)
    shown = [features[train.cues == cls].mean(0) - mean for cls in np.unique(train.cues[train.cues >= 0])]
    basis = np.linalg.qr(np.stack(shown, 1))[0]
    projected = weight - (weight @ basis) @ basis.T
    write_last_layer(copy, projected, bias + (weight - projected) @ mean, list(range(len(bias))))
    return copy


def balance_groups(subject: Subject, _train: Planted, val: Planted, setting: Setting) -> Subject:
    """Fit the last layer of a copy on balanced groups, averaged over draws."""
    features, targets = _features(subject, val.images), val.images.targets
    groups = 2 * targets + val.conflicts
    names, counts = np.unique(groups, return_counts=True)
    generator, layers = np.random.default_rng(setting.seed), []
    for _ in range(DRAWS):
        rows = np.concatenate([
            generator.choice(np.flatnonzero(groups == name), max(2, counts.min()), replace=True) for name in names
        ])  # fmt: skip
        layers.append(_fit(features[rows], targets[rows], np.ones(len(rows)), setting.seed, len(subject.classes)))
    copy = copy_subject(subject)
    weight, bias = (np.mean(values, 0) for values in zip(*layers, strict=True))
    write_last_layer(copy, weight, bias, list(range(len(bias))))
    return copy


def _features(subject: Subject, images: ImageSet) -> np.ndarray:
    return collect_features(subject, EditedImages(subject, images))[1]


def _layer(subject: Subject) -> tuple[torch.Tensor, torch.Tensor]:
    weight, bias = last_layer(subject)
    assert bias is not None
    return weight, bias


def _with_layer(subject: Subject, features: np.ndarray, targets: np.ndarray, weights: np.ndarray, seed: int) -> Subject:
    copy = copy_subject(subject)
    weight, bias = _fit(features, targets, weights, seed, len(subject.classes))
    write_last_layer(copy, weight, bias, list(range(len(bias))))
    return copy


def _fit(
    features: np.ndarray, targets: np.ndarray, weights: np.ndarray, seed: int, classes: int
) -> tuple[np.ndarray, np.ndarray]:
    """Fit a softmax regression: weights (K, D) and biases (K,)."""
    from sklearn.linear_model import LogisticRegression

    mean, scale = features.mean(0), features.std(0) + 1e-6
    model = LogisticRegression(C=0.1, max_iter=300, random_state=seed)
    model.fit((features - mean) / scale, targets, sample_weight=weights / weights.mean())
    weight, bias = np.zeros((classes, features.shape[1])), np.full(classes, -20.0)
    weight[model.classes_], bias[model.classes_] = model.coef_ / scale, model.intercept_
    return weight, bias - weight @ mean


def _worst_class(subject: Subject, images: ImageSet) -> float:
    correct = subject.predict(images.images).argmax(1).numpy() == images.targets
    return min(float(correct[images.targets == cls].mean()) for cls in np.unique(images.targets))


REPAIR_RIVALS: dict[str, Repair] = {
    "train on": train_on,
    "erasing": erase_squares,
    "balanced last layer": balance_classes,
    "AFR": reweight_failures,
    "SELF": select_disagreements,
    "JTT": train_twice,
    "P-ClArC, cues known": project_cue,
    "RRR, cue of 1 % known": guide_by_gradients,
    "energy on CAM, object of 1 % known": guide_by_energy,
    "DFR, groups known": balance_groups,
    "Group DRO, groups known": protect_groups,
}
