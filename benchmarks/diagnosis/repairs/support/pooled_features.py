"""Features at the input of the last layer, and the weights of that layer.

A linear head computes logits W f + b from f, the mean of the last feature map as attention weighs it.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np
import torch
from torch import Tensor

from benchmarks.diagnosis.repairs.support.edited_images import EditedImages
from benchmarks.diagnosis.repairs.support.image_parts import slices
from benchmarks.diagnosis.subject import Subject
from interp_core.backbone.linear_head import classifier_weights
from interp_core.errors import ContractError
from interp_core.lap.recording import Recording


@torch.no_grad()
def pooled_features(subject: Subject, normalised: Tensor) -> Tensor:
    """Compute features (N, D) at the input of a linear last layer, for normalised images."""
    recording = Recording()
    subject.lap(normalised.to(subject.device), recording)
    return (recording.head.features * recording.head.gate).mean((2, 3)).float().cpu()


def collect_features(subject: Subject, images: EditedImages) -> tuple[np.ndarray, np.ndarray]:
    """Compute features of all images that can be read, after their change.

    Returns:
        Indices (n,) of the images and features (n, D).
    """
    batches = [torch.from_numpy(rows) for rows in slices(len(images))]
    parts = [(rows, pooled_features(subject, pixels)) for rows, pixels in images.batches(batches) if len(rows)]
    return _stack(rows for rows, _ in parts), _stack(features for _, features in parts)


def _stack(parts: Iterable[Tensor]) -> np.ndarray:
    return torch.cat(list(parts)).numpy()


def last_layer(subject: Subject) -> tuple[Tensor, Tensor | None]:
    """Return weights (K, D) or (K, D, 1, 1) and biases (K,) of the last layer, to read or to write.

    Raises:
        ContractError: the head is not linear.
    """
    lap = subject.lap
    weights = classifier_weights(lap.backbone, lap.info.partition) if lap.info.linear_head else None
    if weights is None:
        raise ContractError(
            f"the last layer of {type(lap.backbone).__name__} does not follow the pooling directly: choose a repair "
            "that trains the whole network"
        )
    return weights


@torch.no_grad()
def write_last_layer(subject: Subject, weight: np.ndarray, bias: np.ndarray, classes: Sequence[int]) -> None:
    """Replace rows of the last layer.

    Args:
        subject: the network, changed in place.
        weight: (k, D).
        bias: (k,).
        classes: (k,) rows of the layer.

    Raises:
        ContractError: the head is not linear, or has no biases.
    """
    weights, biases = last_layer(subject)
    if biases is None:
        raise ContractError("the last layer has no biases: choose a repair that trains the whole network")
    rows = torch.tensor(list(classes), device=weights.device)
    weights[rows] = torch.from_numpy(weight).to(weights).reshape(len(rows), *weights.shape[1:])
    biases[rows] = torch.from_numpy(bias).to(biases)
