r"""Give a trained network new classes by a linear probe on its frozen features.

Command:

    interp-bench study linear-probe --backbone mobilenetv2_100 --kwargs '{"pad_type": "same"}' --weights w.pt \
        --normalise '{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}' \
        --classes 1000 --data '{"name": "folder", "root": "pets600", "image_size": 224}' --out pets.safetensors

The probe is a logistic regression on the pooled features of the training images. Its strength is chosen by log loss on
the validation images: accuracy does not distinguish strengths, and the weakest would leave a network without
confidence.

The file written has the probe as the network's last layer and is a `checkpoint` of a model of a run. A stopped study
starts again from the beginning, which takes one pass over the images.

Known limit: the last layer must be linear.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from safetensors.torch import save_model
from torch import nn

from benchmarks.config.choice import DatasetChoice
from benchmarks.config.load import parse
from benchmarks.config.models import ModelConfig
from benchmarks.run.images import RunImages
from benchmarks.run.networks import build_network, statistics_for
from benchmarks.store.atomic import atomic_file
from benchmarks.store.provenance import write_provenance
from benchmarks.studies.progress import track
from interp_core.datasets import DatasetConfig, SplitName

COMMAND = "interp-bench study linear-probe"
STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)
BATCH = 32


class ProbeResult(NamedTuple):
    """A network with a probe as its last layer.

    Attributes:
        network: in evaluation mode.
        accuracy: on the validation images.
        strength: inverse regularisation of the probe.
        log_losses: on the validation images, by strength.
    """

    network: nn.Module
    accuracy: float
    strength: float
    log_losses: dict[str, float]


@torch.no_grad()
def pool_features(
    network: nn.Module, model: ModelConfig, data: RunImages, split: SplitName
) -> tuple[np.ndarray, np.ndarray]:
    """Return the input of the last layer (N, C) for all images of a split, and their targets (N,)."""
    features, targets = [], []
    for images, labels, _ in data.batches(data.split(split), statistics_for(model, network, data), BATCH):
        maps = network.forward_features(images)  # type: ignore[operator]
        features.append(network.forward_head(maps, pre_logits=True).numpy())  # type: ignore[operator]
        targets.append(labels.numpy())
    return np.concatenate(features), np.concatenate(targets)


def fit_probe(model: ModelConfig, classes: int, data: RunImages) -> ProbeResult:
    """Replace the last layer of a network by the best probe.

    Args:
        model: the trained network.
        classes: that it was trained for.
        data: of the new classes.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    network = build_network(model, classes, 0).eval()
    splits: dict[str, tuple[np.ndarray, np.ndarray]] = {}
    for split in track(("train", "val"), "Reading features"):
        splits[split] = pool_features(network, model, data, split)  # type: ignore[arg-type]
    features, targets = splits["val"]
    probes = [LogisticRegression(C=c, max_iter=5000).fit(*splits["train"]) for c in track(STRENGTHS, "Fitting")]
    losses = [float(log_loss(targets, probe.predict_proba(features), labels=probe.classes_)) for probe in probes]
    best = probes[int(np.argmin(losses))]
    network.reset_classifier(len(data.dataset.classes))  # type: ignore[operator]
    last: nn.Linear = network.get_classifier()  # type: ignore[operator]
    with torch.no_grad():
        last.weight.copy_(torch.from_numpy(best.coef_))
        last.bias.copy_(torch.from_numpy(best.intercept_))
    log_losses = dict(zip(map(str, STRENGTHS), losses, strict=True))
    return ProbeResult(network, float(best.score(features, targets)), best.C, log_losses)


def run(model: ModelConfig, classes: int, dataset: Mapping[str, Any], out: Path) -> list[Path]:
    """Fit a probe and write the network and its description.

    Args:
        model: the trained network.
        classes: that it was trained for.
        dataset: the data set of the new classes, as a configuration names it.
        out: safetensors file to write.
    """
    config: DatasetConfig = parse(DatasetChoice, dict(dataset), "--data").build()
    result = fit_probe(model, classes, RunImages(config))
    with atomic_file(out) as temporary:
        save_model(result.network, str(temporary))
    facts = {
        "val_accuracy": result.accuracy,
        "strength": result.strength,
        "val_log_loss": result.log_losses,
        "data": dataset,
        **model.model_dump(mode="json", include={"normalise"}),
    }
    return [out, write_provenance(out.with_suffix(".json"), facts, command=COMMAND)]
