"""GAIN's losses by hand."""

from __future__ import annotations

import pytest
import torch
from helpers.rival_nets import HandNet, tiled
from torch import Tensor

from benchmarks.rivals import build
from benchmarks.rivals.gain import mean_probability, region_loss

pytestmark = pytest.mark.slow

SMALL = {"image_size": 8}


def left_half() -> Tensor:
    masks = torch.zeros(1, 1, 8, 8, dtype=torch.float64)
    masks[..., :4] = 1
    return masks


def test_gain_erases_what_grad_cam_attends_to() -> None:
    net = HandNet()
    rival = build("gain", net, SMALL | {"sharpness": 1e4, "threshold": 0.3})
    # Only the lower right patch speaks for class 0, so only the places near it are erased.
    image = tiled([[0.0, 0.0], [0.0, 4.0]], [[1.0, 0.0], [0.0, 0.0]])
    maps = build("cam", HandNet(), SMALL).explain(image, torch.tensor([0]))
    erased = image * (maps <= 0.3 * maps.max())
    assert 0 < (erased != image).float().mean() < 0.25
    losses = rival.losses(image, torch.tensor([0]), {})
    torch.testing.assert_close(losses["erased"], net(erased).softmax(1)[0, 0], rtol=1e-4, atol=1e-5)
    assert set(losses) == {"cross_entropy", "erased"}


def test_what_is_left_is_the_mean_probability_of_present_classes() -> None:
    logits = torch.tensor([[0.0, 0.0], [100.0, -100.0]])
    assert mean_probability(logits, torch.eye(2), multi_label=False).item() == pytest.approx(0.25)
    assert mean_probability(logits, torch.tensor([[1.0, 1.0], [1.0, 1.0]]), multi_label=True).item() == pytest.approx(
        0.5
    )
    assert mean_probability(logits, torch.zeros(2, 2), multi_label=True).item() == 0


def test_gain_s_region_term_by_hand() -> None:
    maps = torch.full((2, 1, 8, 8), 0.5, dtype=torch.float64)
    regions = torch.cat([left_half(), torch.full_like(left_half(), float("nan"))])
    assert region_loss(maps, {"object": regions}).item() == pytest.approx(0.25)
    assert region_loss(maps, {"irrelevant": regions}).item() == pytest.approx(0.25)
    assert region_loss(maps * regions.nan_to_num(0), {"object": regions}).item() == pytest.approx(0.125)
    assert region_loss(maps, {"object": torch.full_like(regions, float("nan"))}).item() == 0
