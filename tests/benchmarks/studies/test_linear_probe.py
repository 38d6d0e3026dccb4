"""A linear probe gives a trained network new classes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from benchmarks.config.models import ModelConfig
from benchmarks.run.networks import build_network
from benchmarks.studies import linear_probe

pytestmark = pytest.mark.slow


def test_a_probe_changes_the_last_layer_alone(photographs: str, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "probe.safetensors"
    normalise = {"mean": [0.5] * 3, "std": [0.25] * 3}
    model = ModelConfig(name="plain", backbone="test_resnet", checkpoint=weights, normalise=normalise)
    assert linear_probe.run(model, 5, json.loads(photographs), out) == [out, out.with_suffix(".json")]
    facts = json.loads(out.with_suffix(".json").read_text())
    assert facts["val_accuracy"] >= 0.9
    assert facts["val_log_loss"][str(facts["strength"])] == min(facts["val_log_loss"].values())
    assert facts["normalise"] == {"mean": [0.5] * 3, "std": [0.25] * 3}
    probed = build_network(ModelConfig(name="plain", backbone="test_resnet", checkpoint=out), 2, 1)
    trained = build_network(ModelConfig(name="plain", backbone="test_resnet", checkpoint=weights), 5, 1)
    others = {name: value for name, value in trained.state_dict().items() if not name.startswith("fc.")}
    assert all(torch.equal(value, probed.state_dict()[name]) for name, value in others.items())
    assert probed.get_classifier().weight.shape[0] == 2  # type: ignore[operator]
