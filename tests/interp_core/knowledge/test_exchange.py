"""Exchange: who gets whose region, and what the decision on it costs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from interp_core.knowledge import Exchange, View
from interp_core.knowledge.exchange import exchanged


def bright(*values: float) -> Tensor:
    """Images of one colour each, 8 pixels a side."""
    return torch.tensor(values)[:, None, None, None].expand(-1, 3, 8, 8).clone()


def corner(count: int, *rows: int) -> Tensor:
    """Masks of the upper left quarter in some rows."""
    masks = torch.zeros(count, 1, 8, 8)
    masks[list(rows), :, :4, :4] = 1
    return masks


def test_a_region_comes_from_the_next_image_that_has_one() -> None:
    images, masks = bright(1.0, 2.0, 3.0, 4.0), corner(4, 0, 2, 3)
    made = exchanged(images, masks, torch.tensor([1.0, 0.0, 1.0, 1.0]))
    assert made[[0, 2, 3], 0, 0, 0].tolist() == [3.0, 4.0, 1.0]
    assert made[:, 0, 7, 7].tolist() == [1.0, 2.0, 3.0, 4.0]


def test_what_lay_in_the_region_is_gone_where_the_other_lies_elsewhere() -> None:
    images = bright(0.0, 0.0)
    masks = torch.zeros(2, 1, 8, 8)
    masks[0, :, :2, :2], masks[1, :, 6:, 6:] = 1, 1
    images[0, :, :2, :2], images[1, :, 6:, 6:] = 5, 7
    made = exchanged(images, masks, torch.ones(2))
    assert made[0, :, :2, :2].abs().max() < 1e-5
    assert (made[0, :, 6:, 6:] == 7).all()
    assert (made[1, :, :2, :2] == 5).all()


def test_alone_an_image_keeps_its_region() -> None:
    images, masks = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), corner(2, 1)
    assert torch.allclose(exchanged(images, masks, torch.tensor([0.0, 1.0])), images, atol=1e-6)


def reader(labels: Tensor, masks: Tensor, several: bool = False) -> View:
    """A network that reads the upper left pixel: the class of sign."""
    images = bright(1.0, -1.0)

    def again(shown: Tensor, _look: bool) -> tuple[Tensor, None]:
        return torch.stack([shown[:, 0, 0, 0], -shown[:, 0, 0, 0]], 1), None

    return View(images, labels, torch.zeros(2, 2, 2, 2), None, torch.zeros(2, 2), several=several,
                regions={"irrelevant": masks}, again=again)  # fmt: skip


@pytest.mark.parametrize("several", [False, True])
def test_who_reads_the_region_pays(several: bool) -> None:
    masks = corner(2, 0, 1)
    # The other's sign: wrong by a margin of 2 for a softmax, each sigmoid wrong by 1.
    expected = 2.126928 if not several else 1.313262
    assert Exchange().loss(reader(torch.eye(2), masks, several)).item() == pytest.approx(expected, abs=1e-4)
    masks = torch.zeros(2, 1, 8, 8)
    masks[:, :, 4:, 4:] = 1
    expected = 0.126928 if not several else 0.313262
    assert Exchange().loss(reader(torch.eye(2), masks, several)).item() == pytest.approx(expected, abs=1e-4)


def test_nothing_known_costs_nothing() -> None:
    masks = torch.full((2, 1, 8, 8), torch.nan)
    assert Exchange().loss(reader(torch.eye(2), masks)).item() == 0
