"""Exchange: who gets whose region, and what the decision on it costs."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from interp_core.knowledge import Exchange, ModelAccess, View
from interp_core.knowledge.exchange import exchange_regions


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
    exchanged = exchange_regions(images, masks, torch.tensor([1.0, 0.0, 1.0, 1.0]))
    assert exchanged[[0, 2, 3], 0, 0, 0].tolist() == [3.0, 4.0, 1.0]
    assert exchanged[:, 0, 7, 7].tolist() == [1.0, 2.0, 3.0, 4.0]


def test_what_lay_in_the_region_is_gone_where_the_other_lies_elsewhere() -> None:
    images = bright(0.0, 0.0)
    masks = torch.zeros(2, 1, 8, 8)
    masks[0, :, :2, :2], masks[1, :, 6:, 6:] = 1, 1
    images[0, :, :2, :2], images[1, :, 6:, 6:] = 5, 7
    exchanged = exchange_regions(images, masks, torch.ones(2))
    assert exchanged[0, :, :2, :2].abs().max() < 1e-5
    assert (exchanged[0, :, 6:, 6:] == 7).all()
    assert (exchanged[1, :, :2, :2] == 5).all()


def test_alone_an_image_keeps_its_region() -> None:
    images, masks = torch.rand(2, 3, 8, 8, generator=torch.Generator().manual_seed(0)), corner(2, 1)
    assert torch.allclose(exchange_regions(images, masks, torch.tensor([0.0, 1.0])), images, atol=1e-6)


def reader(labels: Tensor, masks: Tensor, multi_label: bool = False) -> View:
    """A network that reads the upper left pixel: the class of sign."""
    images = bright(1.0, -1.0)

    def forward_again(batch: Tensor, _maps: bool, _learn: bool) -> tuple[Tensor, None]:
        return torch.stack([batch[:, 0, 0, 0], -batch[:, 0, 0, 0]], 1), None

    return View(images, labels, torch.zeros(2, 2, 2, 2), None, torch.zeros(2, 2), multi_label=multi_label,
                regions={"irrelevant": masks}, model=ModelAccess(forward_again))  # fmt: skip


@pytest.mark.parametrize("multi_label", [False, True])
def test_who_reads_the_region_pays(multi_label: bool) -> None:
    masks = corner(2, 0, 1)
    # The other's sign: wrong by a margin of 2 for a softmax, each sigmoid wrong by 1.
    expected = 2.126928 if not multi_label else 1.313262
    assert Exchange().loss(reader(torch.eye(2), masks, multi_label)).item() == pytest.approx(expected, abs=1e-4)
    masks = torch.zeros(2, 1, 8, 8)
    masks[:, :, 4:, 4:] = 1
    expected = 0.126928 if not multi_label else 0.313262
    assert Exchange().loss(reader(torch.eye(2), masks, multi_label)).item() == pytest.approx(expected, abs=1e-4)


def test_nothing_known_costs_nothing() -> None:
    masks = torch.full((2, 1, 8, 8), torch.nan)
    assert Exchange().loss(reader(torch.eye(2), masks)).item() == 0
