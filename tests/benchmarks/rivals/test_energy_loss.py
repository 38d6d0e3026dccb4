"""The energy loss on maps made by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from benchmarks.rivals.energy_loss import energy_inside, energy_loss, forbidden_pixels, select_known

NAN = float("nan")


def half(value: float = 1.0) -> Tensor:
    masks = torch.zeros(1, 1, 8, 8)
    masks[..., :4] = value
    return masks


def uneven_map() -> Tensor:
    """Positive energy 4 in the left half, 12 in the right, and negative values that do not count."""
    maps = torch.zeros(1, 1, 8, 8)
    maps[0, 0, 0, :4], maps[0, 0, 1, 4:], maps[0, 0, 5] = 1.0, 3.0, -9.0
    return maps


def test_energy_of_an_uneven_map() -> None:
    assert energy_inside(uneven_map(), half()).item() == pytest.approx(4 / 16)
    assert energy_inside(-uneven_map().abs(), half()).item() == 0


def test_the_energy_loss_sums_both_regions_and_skips_images_without() -> None:
    maps = torch.cat([uneven_map(), 5 * torch.ones(1, 1, 8, 8)])
    one_unknown = torch.cat([half(), torch.full_like(half(), NAN)])
    assert energy_loss(maps, {"object": one_unknown}).item() == pytest.approx(12 / 16)
    assert energy_loss(maps, {"irrelevant": one_unknown}).item() == pytest.approx(4 / 16)
    assert energy_loss(maps, {"object": one_unknown, "irrelevant": one_unknown}).item() == pytest.approx(1)
    assert energy_loss(maps, {"object": torch.full_like(one_unknown, NAN)}).item() == 0
    assert select_known({"object": one_unknown}, "irrelevant") is None


def test_forbidden_pixels_are_outside_the_object_or_inside_the_irrelevant() -> None:
    nothing = torch.full_like(half(), NAN)
    top = half().transpose(2, 3)
    forbidden = forbidden_pixels(
        {"object": torch.cat([nothing, half(), half()]), "irrelevant": torch.cat([nothing, nothing, top])}
    )
    assert forbidden is not None
    rows, masks = forbidden
    assert rows.tolist() == [1, 2]
    torch.testing.assert_close(masks[:1], 1 - half())
    torch.testing.assert_close(masks[1:], torch.maximum(1 - half(), top))
    assert forbidden_pixels({}) is None
    assert forbidden_pixels({"object": nothing}) is None
