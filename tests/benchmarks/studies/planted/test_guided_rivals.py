"""Repairs with masks or groups: what they weigh, and what they are told."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.studies.planted import guided_rivals
from benchmarks.studies.planted.guided_rivals import STEP, WorstGroup
from benchmarks.studies.planted.repair_rivals import measure_disagreement, select_disagreements
from benchmarks.studies.planted.setting import Setting, subject_of, untrained_network

pytestmark = pytest.mark.slow


def constant_network(probability: float) -> nn.Module:
    """Build a network of two classes that gives class 1 a probability whatever it sees."""
    network = nn.Sequential(nn.Flatten(), nn.Linear(3, 2))
    with torch.no_grad():
        network[1].weight.zero_()
        network[1].bias.copy_(torch.tensor([1 - probability, probability]).log())
    return network


def test_weights_move_to_the_group_with_the_highest_loss() -> None:
    network = WorstGroup(constant_network(0.8), 2)
    groups = torch.tensor([0, 0, 2, 3])  # class 0 twice, class 1 with and without a conflict
    loss = network.losses(torch.zeros(4, 3, 1, 1), groups, {})["worst_group"]
    easy, hard = -np.log(0.8), -np.log(0.2)
    raised = np.exp(STEP * np.array([hard, 0.0, easy, easy])) / 4
    weights = raised / raised.sum()
    np.testing.assert_allclose(network.weights.numpy(), weights, rtol=1e-5)
    assert loss.item() == pytest.approx(float((weights * [hard, 0, easy, easy]).sum()), rel=1e-5)
    assert network.weights.argmax() == 0
    with torch.no_grad():
        network.losses(torch.zeros(4, 3, 1, 1), groups, {})
    np.testing.assert_allclose(network.weights.numpy(), weights, rtol=1e-5)  # evaluation leaves them


def test_dropout_changes_answers_that_hang_on_few_features() -> None:
    weight, bias = torch.zeros(2, 8), torch.zeros(2)
    weight[1, 0] = 4.0
    features = torch.zeros(3, 8)
    features[1, 0], features[2, 1] = 1.0, 1.0
    values = measure_disagreement(features, weight, bias, 0)
    assert values[1] > 0.1
    torch.testing.assert_close(values[[0, 2]], torch.zeros(2))


@pytest.mark.parametrize(("repair", "region"), [("guide_by_gradients", "irrelevant"), ("guide_by_energy", "object")])
def test_masks_of_one_percent_are_told(repair: str, region: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: dict[str, Any] = {}

    def fit(network: nn.Module, images: torch.Tensor, targets: torch.Tensor, **options: Any) -> None:
        calls.update(options, images=images, targets=targets)

    monkeypatch.setattr(guided_rivals, "fit", fit)
    setting = Setting("tag", "planted", 0.9, "all", 1)
    train = setting.images("train", diagnosed=True)
    subject = subject_of(untrained_network(setting))
    getattr(guided_rivals, repair)(subject, train, train, setting)
    ((name, (rows, masks)),) = calls["regions"].items()
    assert name == region
    count = round(0.01 * len(train.images))
    assert len(torch.unique(calls["images"][rows].flatten(1), dim=0)) == count
    assert len(rows) == len(masks) == count * guided_rivals.COPIES
    assert masks.flatten(1).any(1).all()
    assert len(calls["images"]) == len(train.images) + count * (guided_rivals.COPIES - 1)
    original = torch.from_numpy(train.images.targets[rows[:count].numpy()])
    torch.testing.assert_close(calls["targets"][rows[:count]], original)


def test_a_layer_is_tuned_on_few_images_and_the_network_stays() -> None:
    setting = Setting("tag", "planted", 0.9, "all", 1)
    subject, val = subject_of(untrained_network(setting)), setting.images("val", diagnosed=True)
    pixels = val.images.images[:8]
    before = subject.predict(pixels)
    tuned = select_disagreements(subject, val, val, setting)
    assert torch.equal(subject.predict(pixels), before)
    changed = {
        name for name, value in tuned.lap.state_dict().items() if not torch.equal(value, subject.lap.state_dict()[name])
    }
    assert 0 < len(changed) <= 2  # weights and biases of the last layer
