"""Explainers that are modules beside a network: fitted to a frozen one, they leave its answers as they are."""

from __future__ import annotations

import pytest
import torch
from helpers.rival_nets import backbone, toy_batch

from benchmarks.rivals import build
from interp_core.training import Recipe, fit

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("name", ["tame", "fast_shap"])
def test_it_is_fitted_to_a_frozen_network(name: str) -> None:
    rival, (images, targets, _) = build(name, backbone()).eval(), toy_batch(16)
    with torch.no_grad():
        logits, maps = rival(images), rival.explain(images, targets)
    fit(rival, images, targets, recipe=Recipe(mode="frozen", epochs=2, batch_size=8, learning_rate=3e-3, shift=0))
    with torch.no_grad():
        assert torch.equal(rival(images), logits)
    assert not torch.allclose(rival.explain(images, targets), maps)
