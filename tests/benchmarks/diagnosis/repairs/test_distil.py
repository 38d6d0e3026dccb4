from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.diagnosis.repairs.distil import SoftTargets, WeightAverage


@pytest.mark.parametrize("single", [True, False])
def test_hard_targets_give_the_usual_loss(single: bool) -> None:
    torch.manual_seed(0)
    network, images = nn.Sequential(nn.Flatten(), nn.Linear(12, 3)), torch.randn(5, 3, 2, 2)
    labels = torch.tensor([0, 2, 1, 1, 0])
    hard = nn.functional.one_hot(labels, 3).float()
    loss = SoftTargets(network, single=single).losses(images, hard, {})["cross_entropy"]
    logits = network(images)
    usual = nn.functional.cross_entropy(logits, labels)
    if not single:
        usual = nn.functional.binary_cross_entropy_with_logits(logits, hard)
    torch.testing.assert_close(loss, usual)


def test_the_loss_is_least_at_the_targets() -> None:
    targets = torch.tensor([[0.7, 0.2, 0.1]])
    network = nn.Identity()
    at_targets = SoftTargets(network, single=True).losses(targets.log(), targets, {})["cross_entropy"]
    elsewhere = SoftTargets(network, single=True).losses(torch.zeros(1, 3), targets, {})["cross_entropy"]
    torch.testing.assert_close(at_targets, -(targets * targets.log()).sum())
    assert elsewhere > at_targets


def test_the_average_is_that_of_the_added_weights() -> None:
    network = nn.Linear(2, 1)
    average = WeightAverage(network)
    for value in (1.0, 4.0, 7.0):
        nn.init.constant_(network.weight, value)
        average.add(network)
    average.write(network)
    torch.testing.assert_close(network.weight, torch.full((1, 2), 4.0))
