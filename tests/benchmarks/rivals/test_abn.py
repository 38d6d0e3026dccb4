"""ABN-lite on a network that can be solved by hand."""

from __future__ import annotations

import pytest
import torch
from helpers.rival_nets import HandNet, backbone, tiled, toy_batch

from benchmarks.rivals import build
from benchmarks.rivals.base import collect_notes

pytestmark = pytest.mark.slow

# Features X_1 and X_2 on the 2 x 2 grid; W_0 = (1, -2), W_1 = (0.5, 3).
IMAGE = tiled([[1.0, 0.0], [2.0, 4.0]], [[0.0, 1.0], [1.0, 1.0]])
SMALL = {"image_size": 8}


def test_abn_weighs_features_by_one_plus_the_map() -> None:
    rival = build("abn", HandNet(), SMALL).eval()
    with torch.no_grad():
        rival.look[0].weight.zero_()  # type: ignore[index]
        torch.testing.assert_close(rival(IMAGE), HandNet()(1.5 * IMAGE))  # sigmoid(0) everywhere
        rival.look[1].bias.fill_(-50.0)  # type: ignore[index]
        torch.testing.assert_close(rival(IMAGE), HandNet()(IMAGE))


def test_abn_s_map_knows_no_class_and_its_branch_learns_one() -> None:
    rival, (images, targets, _) = build("abn", backbone(), {"branch_weight": 0.5}), toy_batch()
    maps = rival.explain(images, targets)
    torch.testing.assert_close(maps, rival.explain(images, (targets + 1) % 3))
    assert maps.min() > 0
    assert maps.max() < 1
    with collect_notes() as notes:
        rival(images)
    branch = torch.nn.functional.cross_entropy(notes["auxiliary"], targets)
    torch.testing.assert_close(rival.losses(images, targets, {})["branch"], 0.5 * branch)
