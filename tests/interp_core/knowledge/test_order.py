"""Order: where a map is cut, and what the parts on either side say to a network that can be worked out by hand."""

from __future__ import annotations

import math

import pytest
import timm
import torch
from torch import Tensor

import interp_core
from interp_core.errors import ContractError
from interp_core.knowledge import ModelAccess, Order, View, observe
from interp_core.knowledge.order import MARGIN, cut_at, draw_evenly, scale_penalty, spread_of

pytestmark = pytest.mark.slow

SIDE = 32


def make_view(effects: Tensor, weights: Tensor, count: int = 1, multi_label: bool = False) -> View:
    """Images of ones and a network whose logits are +- the sum of image times `weights` (H, W)."""
    images = torch.ones(count, 1, *weights.shape)

    def forward_again(batch: Tensor, _maps: bool, _learn: bool) -> tuple[Tensor, None]:
        total = (batch[:, 0] * weights).sum((1, 2)) / 2
        return torch.stack([total, -total], 1), None

    maps = torch.full((count, 2, *weights.shape), 0.5, requires_grad=True)

    return View(
        images, torch.tensor([[1.0, 0.0]]).expand(count, 2), maps, None, forward_again(images, False, True)[0],
        multi_label=multi_label, generator=torch.Generator().manual_seed(0),
        model=ModelAccess(
            forward_again,
            region=lambda _view, _columns: maps[:, :1],
            effects=lambda _view, _columns: effects.expand(count, 1, *weights.shape),
        ),
    )  # fmt: skip


def ramp() -> Tensor:
    """Values 0 to 1 from left to right, (1, 1, SIDE, SIDE), none twice."""
    return torch.linspace(0, 1, SIDE * SIDE).view(1, 1, SIDE, SIDE).mT.contiguous()


def test_draws_are_spread_evenly_over_the_batch() -> None:
    draws = draw_evenly(48, torch.Generator().manual_seed(0))
    assert (draws - (torch.arange(48) + 0.5) / 48).abs().max() <= 1 / 96
    assert not torch.equal(draws, draw_evenly(48, torch.Generator().manual_seed(1)))


def test_cuts_take_the_shares_they_are_given() -> None:
    expected = torch.linspace(MARGIN, 1 - MARGIN, 48)
    masks = cut_at(ramp().expand(48, 1, SIDE, SIDE), expected, 1e-4)
    assert (masks.mean((1, 2, 3)) - expected).abs().max() < 2 / SIDE**2
    rising = masks.flatten(1)[:, :: SIDE + 1]
    assert bool((masks[:, 0, :, 1:] >= masks[:, 0, :, :-1] - 1e-6).all())
    assert bool((rising.amax(1) > 0.99).all())


def test_scale_and_offset_of_a_map_do_not_matter() -> None:
    maps = torch.randn(4, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    shares = torch.tensor([0.1, 0.4, 0.6, 0.9])
    first, second = (cut_at(m, shares, 0.3 * spread_of(m)) for m in (maps, 7 * maps - 3))
    torch.testing.assert_close(first, second, atol=1e-3, rtol=0)


def test_the_edge_is_as_soft_as_asked() -> None:
    # Half the distance from the 16 % to the 84 % quantile of a ramp to 1 is 0.34.
    assert spread_of(ramp()).item() == pytest.approx(0.34, rel=0.01)
    masks = cut_at(ramp(), torch.tensor([0.4]), 0.3 * spread_of(ramp()))
    sharp = torch.logit(masks.clamp(1e-6, 1 - 1e-6).double())
    inside = (masks > 0.01) & (masks < 0.99)
    slope = (sharp[inside].max() - sharp[inside].min()) / (ramp()[inside].max() - ramp()[inside].min())
    assert slope.item() == pytest.approx(1 / (0.3 * 0.34), rel=0.02)


@pytest.mark.parametrize("multi_label", [False, True])
def test_the_loss_is_that_of_both_parts(multi_label: bool) -> None:
    weights = torch.zeros(SIDE, SIDE)
    # 16 pixels decide, fewer than any cut leaves on either side: by log odds of 64, 32 as a sigmoid's own.
    weights[SIDE // 2 :, -1] = 4.0
    term = Order(background="zero", softness=1e-4)
    best = term.loss(make_view(ramp(), weights, 64, multi_label)).item()
    worst = term.loss(make_view(1 - ramp(), weights, 64, multi_label)).item()
    # The right map keeps it all, softplus(-64), and leaves softplus(0); the wrong one keeps nothing and leaves all.
    assert best == pytest.approx(math.log(2), rel=1e-3)
    assert worst == pytest.approx(math.log(2) + 64 / (2 if multi_label else 1), rel=1e-3)


def test_only_effects_learn_and_towards_the_right_order() -> None:
    weights = torch.zeros(SIDE, SIDE)
    weights[:, -8:] = 0.05
    effects = torch.zeros(1, 1, SIDE, SIDE) + 0.01 * torch.randn(
        1, 1, SIDE, SIDE, generator=torch.Generator().manual_seed(0)
    )
    effects.requires_grad_()
    view = make_view(effects, weights, 32)
    Order(background="zero").loss(view).backward()
    assert effects.grad is not None
    assert effects.grad[..., -8:].mean() < 0
    assert effects.grad[..., -8:].mean() < effects.grad[..., :-8].mean()
    assert view.maps.grad is None


def test_the_scale_of_effects_is_free_within_a_factor_of_ten_and_no_further() -> None:
    # Far above 0 softplus changes nothing: means of 0.5, 5 and 0.5e-3 where the range is 0.01 to 1.
    assert scale_penalty(torch.full((1, 1, 4, 4), 0.5)).item() == 0
    assert scale_penalty(torch.full((1, 1, 4, 4), 5.0)).item() == pytest.approx(math.log(5) ** 2, rel=1e-4)
    low = math.log(math.expm1(20 * 0.5e-3)) / 20
    assert scale_penalty(torch.full((1, 1, 4, 4), low)).item() == pytest.approx(math.log(20) ** 2, rel=5e-3)


def test_without_a_refiner_it_says_what_to_do() -> None:
    lap = interp_core.attach(timm.create_model("test_resnet", num_classes=3))
    with pytest.raises(ContractError, match="refine=True"):
        Order().loss(observe(lap, torch.randn(2, 3, 64, 64), torch.tensor([0, 1])))
