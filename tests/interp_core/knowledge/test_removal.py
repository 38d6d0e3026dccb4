"""Removal: patches, what they cost a network that can be worked out by hand, and what a refiner learns from it."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from torch import Tensor

import interp_core
from interp_core.errors import ContractError
from interp_core.knowledge import ModelAccess, Removal, View, observe
from interp_core.knowledge.removal import compress, sample_patches

pytestmark = pytest.mark.slow

WHOLE = Removal(side=1.0, patches=1, tau=1.0)


def make_view(effects: Tensor, weights: Tensor, multi_label: bool = False) -> View:
    """Images of ones and a network whose logits are +- the sum of image times `weights` (H, W)."""
    images = torch.ones(1, 1, *weights.shape)

    def forward_again(batch: Tensor, _maps: bool, _learn: bool) -> tuple[Tensor, None]:
        total = (batch[:, 0] * weights).sum((1, 2))
        return torch.stack([total, -total], 1), None

    maps = torch.full((1, 2, *weights.shape), 0.5)
    return View(
        images, torch.tensor([[1.0, 0.0]]), maps, None, forward_again(images, False, True)[0],
        multi_label=multi_label, generator=torch.Generator().manual_seed(0),
        model=ModelAccess(forward_again, region=lambda *_: maps[:, :1], effects=lambda *_: effects),
    )  # fmt: skip


def test_patches_are_squares_of_which_half_of_each_side_lies_inside() -> None:
    images = torch.zeros(50, 3, 16, 24)
    patches = sample_patches(images, 20, 0.25, torch.Generator().manual_seed(0))
    assert patches.shape == (50, 20, 16, 24)
    rows, columns = patches.amax(3).sum(2), patches.amax(2).sum(2)
    assert set(rows.unique().tolist()) == set(columns.unique().tolist()) == {2.0, 3.0, 4.0}
    torch.testing.assert_close(patches.sum((2, 3)), rows * columns)
    assert patches.amax((0, 1)).all()
    assert sample_patches(images[:1], 1, 1.0, None).shape == (1, 1, 16, 24)


def test_small_effects_are_linear_and_large_ones_logarithmic() -> None:
    values = torch.tensor([-1.0, 0.0, 1e-3, 1.0, 1e3])
    expected = [-1.0, 0.0, 1e-2 / math.asinh(10), 1.0, math.log(2e4) / math.asinh(10)]
    assert compress(values, 0.1).tolist() == pytest.approx(expected, rel=1e-3, abs=1e-6)


def test_the_loss_is_how_far_what_is_said_is_from_what_is_lost() -> None:
    weights = torch.tensor([[2.0, 0.0], [0.0, -1.0]])
    view = make_view(torch.zeros(1, 1, 2, 2), weights)
    term = Removal(side=0.5, patches=400, tau=1.0)
    # One pixel at a time: it costs 2, 0, 0 or -1; smooth L1 of asinh(v) / asinh(1).
    losses = [abs(math.asinh(v) / math.asinh(1)) for v in (2.0, -1.0)]
    expected = ((losses[0] - 0.5) + (losses[1] - 0.5)) / 4
    assert term.loss(view).item() == pytest.approx(expected, rel=0.1)
    right = compress(weights, 1.0)[None, None]
    assert term.loss(make_view(right, weights)).item() == pytest.approx(0, abs=1e-6)


def test_what_stands_in_is_what_was_asked_for() -> None:
    weights = torch.ones(8, 8)
    view = make_view(torch.zeros(1, 1, 8, 8), weights)
    sample, patches = view.sample_class(), torch.zeros(1, 1, 8, 8)
    patches[..., 2:4, 2:4] = 1
    assert Removal().logit_drop(view, sample, patches).item() == pytest.approx(4)
    for name in ("blur", "fill", "mean"):  # of a flat image, each is the image
        assert Removal(background=name).logit_drop(view, sample, patches).item() == pytest.approx(0, abs=1e-4)


def test_without_a_refiner_it_says_what_to_do() -> None:
    lap = interp_core.attach(timm.create_model("test_resnet", num_classes=3))
    with pytest.raises(ContractError, match="refine=True"):
        Removal().loss(observe(lap, torch.randn(2, 3, 64, 64), torch.tensor([0, 1])))
