r"""A linear probe: new classes for a trained network whose features stay as they are.

    python -m benchmarks.studies.linear_probe --backbone mobilenetv2_100 --kwargs '{"pad_type": "same"}' --weights \
        w.pt \
        --normalise '{"mean": [0.5, 0.5, 0.5], "std": [0.5, 0.5, 0.5]}' \
        --classes 1000 --data '{"name": "folder", "root": "pets600", "image_size": 224}' --out pets.safetensors

Logistic regression on the pooled features of the training images; its strength is chosen on the validation images, by
log loss: accuracy does not tell strengths apart, and the weakest would leave a network that is sure of nothing.
The file written has the probe as the network's last layer: it is a `checkpoint` of a model of a run.
Known limit: the last layer must be linear.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import save_model
from torch import nn

from benchmarks.config.choice import DatasetChoice
from benchmarks.config.load import parse
from benchmarks.config.models import ModelConfig
from benchmarks.run.images import RunImages
from benchmarks.run.malloc import keep_freed_memory
from benchmarks.run.networks import build_network, statistics_for
from benchmarks.store.provenance import git_state, system, versions
from interp_core.datasets import DatasetConfig, SplitName

STRENGTHS = (0.001, 0.003, 0.01, 0.03, 0.1, 0.3, 1.0)


@torch.no_grad()
def pooled(network: nn.Module, model: ModelConfig, data: RunImages, split: SplitName) -> tuple[np.ndarray, np.ndarray]:
    """What the last layer is given, (N, C), of all images of a split, and their targets (N,)."""
    found, targets = [], []
    for images, labels, _ in data.batches(data.split(split), statistics_for(model, network, data), 32):
        features = network.forward_features(images)  # type: ignore[operator]
        found.append(network.forward_head(features, pre_logits=True).numpy())  # type: ignore[operator]
        targets.append(labels.numpy())
    return np.concatenate(found), np.concatenate(targets)


def probed(model: ModelConfig, classes: int, data: RunImages) -> tuple[nn.Module, dict[str, Any]]:
    """The network with a probe as its last layer, and what validation images say of it.

    Args:
        model: the trained network.
        classes: that it was trained for.
        data: of the new classes.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    network = build_network(model, classes, 0).eval()
    images, targets = pooled(network, model, data, "train")
    judges = pooled(network, model, data, "val")
    fitted = [LogisticRegression(C=strength, max_iter=5000).fit(images, targets) for strength in STRENGTHS]
    losses = [float(log_loss(judges[1], one.predict_proba(judges[0]), labels=one.classes_)) for one in fitted]
    best = fitted[int(np.argmin(losses))]
    network.reset_classifier(len(data.dataset.classes))  # type: ignore[operator]
    last: nn.Linear = network.get_classifier()  # type: ignore[operator]
    with torch.no_grad():
        last.weight.copy_(torch.from_numpy(best.coef_))
        last.bias.copy_(torch.from_numpy(best.intercept_))
    told = {"val_accuracy": float(best.score(*judges)), "strength": best.C}
    return network, told | {"val_log_loss": dict(zip(map(str, STRENGTHS), losses, strict=True))}


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--backbone", required=True, help="timm name")
    parser.add_argument("--kwargs", type=json.loads, default={}, help="arguments of timm.create_model, as JSON")
    parser.add_argument("--normalise", type=json.loads, help="mean and std of the weights' images, as JSON")
    parser.add_argument("--weights", type=Path, required=True, help="trained weights")
    parser.add_argument("--classes", type=int, default=1000, help="that the weights are for")
    parser.add_argument("--data", type=json.loads, required=True, help="data set of the new classes, as JSON")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file to write")
    given = parser.parse_args(arguments)
    keep_freed_memory()
    model = ModelConfig(
        name="plain", backbone=given.backbone, kwargs=given.kwargs, checkpoint=given.weights,
        normalise=given.normalise,
    )  # fmt: skip
    dataset: DatasetConfig = parse(DatasetChoice, given.data, "--data").build()
    network, told = probed(model, given.classes, RunImages(dataset))
    save_model(network, str(given.out))
    about = {**told, "data": given.data, "normalise": given.normalise}
    about |= {"versions": versions(), "system": system(), "git": git_state(Path(__file__))}
    given.out.with_suffix(".json").write_text(json.dumps(about, indent=1) + "\n")


if __name__ == "__main__":
    main()
