"""Repair of the last layer alone: logistic regression on features of images whose cues are exchanged.

Deep feature reweighting (Kirichenko et al., ICLR 2023) trains the last layer anew on data in which the groups are
balanced, and averages several such layers. There the groups are annotated. Here images are changed so that the cue
says nothing about the label, and each layer sees another draw of the changes and a part of the images.

Limit: where the true feature is not in the last features, no last layer can find it, as
`benchmarks.diagnosis.amending.probe` tells.
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
from pydantic import Field

from benchmarks.diagnosis.repairs.base import Need, Repair, RepairTask, repairs
from benchmarks.diagnosis.repairs.support.edited_images import EditedImages
from benchmarks.diagnosis.repairs.support.pooled_features import collect_features, last_layer, write_last_layer
from interp_core.errors import ContractError


@repairs.register("last_layer")
class ReweightLastLayer(Repair):
    """Last layer fitted anew on features of images with exchanged cues, averaged over several draws.

    Fields:
        layers: number of layers that are averaged; each costs a pass over the training images.
        part: share of the images that one layer is fitted on.
        strengths: candidates of the inverse strength C of the L2 penalty; validation images choose.
    """

    title: ClassVar[str] = "last layer on exchanged cues"
    source: ClassVar[str] = "deep feature reweighting (Kirichenko et al., ICLR 2023)"
    needs: ClassVar[tuple[Need, ...]] = ("region", "linear head")

    layers: int = Field(5, ge=1)
    part: float = Field(0.8, gt=0, le=1)
    strengths: tuple[float, ...] = (0.01, 0.1, 1.0, 10.0)

    def apply(self, task: RepairTask) -> dict[str, Any]:
        """Replace the last layer; see the class."""
        draws = self._draw_features(task)
        validation = EditedImages(task.subject, task.validation, task.validation_edit, seed=task.seed, fresh=False)
        rows, features = collect_features(task.subject, validation)
        labels = _as_columns(task.validation.targets[rows], len(task.subject.classes))
        best, losses = None, {}
        for strength in self.strengths:
            layer = average_layers([fit_layer(x, y, strength, task.seed) for x, y in draws])
            losses[strength] = _loss(layer, features, labels, task.subject.multi_label)
            if losses[strength] == min(losses.values()):
                best = layer
        assert best is not None
        _write(task, best)
        strength = min(losses, key=losses.__getitem__)
        return {"layers": self.layers, "C": strength, "validation loss": losses[strength]}

    def _draw_features(self, task: RepairTask) -> list[tuple[np.ndarray, np.ndarray]]:
        """Return features (n, D) and targets of each layer's images."""
        images = EditedImages(task.subject, task.images, task.exchange(), seed=task.seed)
        generator, draws = np.random.default_rng(task.seed), []
        for number in range(self.layers):
            rows, features = collect_features(task.subject, images)
            chosen = generator.permutation(len(rows))[: max(2, round(self.part * len(rows)))]
            draws.append((features[chosen], _as_columns(task.images.targets[rows[chosen]], len(task.subject.classes))))
            if task.report is not None:
                task.report(number + 1, self.layers)
        return draws


Layer = tuple[np.ndarray, np.ndarray]


def fit_layer(features: np.ndarray, labels: np.ndarray, strength: float, seed: int) -> Layer:
    """Fit a logistic regression, one column against the others.

    Args:
        features: (n, D).
        labels: (n, K) of 0 and 1.
        strength: C of scikit-learn.
        seed: of the solver.

    Returns:
        Weights (K, D) and biases (K,). One-label data with two classes or more are fitted by softmax. Columns without
        both values have NaN.
    """
    from sklearn.linear_model import LogisticRegression

    mean, scale = features.mean(0), features.std(0) + 1e-6
    standard, count = (features - mean) / scale, labels.shape[1]
    weight, bias = np.full((count, features.shape[1]), np.nan), np.full(count, np.nan)
    model = LogisticRegression(C=strength, max_iter=300, random_state=seed)
    if (labels.sum(1) == 1).all():
        model.fit(standard, labels.argmax(1))
        coefficients, intercepts = model.coef_, model.intercept_
        if len(coefficients) == 1:
            coefficients, intercepts = np.array([-1, 1])[:, None] * coefficients / 2, np.array([-1, 1]) * intercepts / 2
        weight[model.classes_], bias[model.classes_] = coefficients, intercepts
    else:
        for column in np.flatnonzero((labels.min(0) == 0) & (labels.max(0) == 1)):
            model.fit(standard, labels[:, column])
            weight[column], bias[column] = model.coef_[0], model.intercept_[0]
    return weight / scale, bias - (weight / scale) @ mean


def average_layers(layers: list[Layer]) -> Layer:
    """Average the weights and biases of several layers."""
    return np.mean([weight for weight, _ in layers], 0), np.mean([bias for _, bias in layers], 0)


def _write(task: RepairTask, layer: Layer) -> None:
    weight, bias = layer
    if task.subject.lap.num_classes == 1:  # the logit of one class is the difference of two
        weight, bias = weight[-1:] - weight[:1], bias[-1:] - bias[:1]
    elif not task.subject.multi_label:
        weight, bias = _around_old_mean(task, weight, bias)
    known = np.flatnonzero(np.isfinite(bias))
    if not len(known):
        raise ContractError("all training images are of one class: a repair needs at least two")
    write_last_layer(task.subject, weight[known], bias[known], known.tolist())


def _around_old_mean(task: RepairTask, weight: np.ndarray, bias: np.ndarray) -> Layer:
    """Move all rows together, so that their mean is that of the old layer.

    Softmax does not see it, but maps of single logits do.
    """
    weights, biases = last_layer(task.subject)
    old = weights.detach().flatten(1).mean(0).cpu().numpy()
    offset = 0.0 if biases is None else float(biases.detach().mean())
    known = np.isfinite(bias)
    return weight - weight[known].mean(0) + old, bias - bias[known].mean() + offset


def _as_columns(targets: np.ndarray, count: int) -> np.ndarray:
    """Return labels (n, K) of 0 and 1."""
    return targets.astype(int) if targets.ndim == 2 else np.eye(count, dtype=int)[targets]


def _loss(layer: Layer, features: np.ndarray, labels: np.ndarray, multi_label: bool) -> float:
    """Compute the mean loss of a layer, in nats; columns without a fit are left out."""
    known = np.isfinite(layer[1])
    logits = features @ layer[0][known].T + layer[1][known]
    if multi_label:
        return float((np.logaddexp(0, logits) - labels[:, known] * logits).mean())
    log_shares = logits - np.logaddexp.reduce(logits, 1, keepdims=True)
    return float(-(log_shares * labels[:, known]).sum(1).mean())
