"""The blur is the exact Gaussian, up to a hundredth."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from interp_core.backbone.blur import blur


def random(*shape: int) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(0))


def exact_blur(images: Tensor, sigma: float) -> Tensor:
    """Every weight of a Gaussian renormalised at the border, pixel by pixel."""
    sides = []
    for side in images.shape[-2:]:
        position = torch.arange(side, dtype=torch.float64)
        weights = torch.exp(-((position[:, None] - position) / sigma).square() / 2)
        sides.append((weights / weights.sum(1, keepdim=True)).float())
    return sides[0] @ images @ sides[1].t()


@pytest.mark.parametrize("sigma", [0.8, 2.0, 3.0, 6.4, 20.0])
@pytest.mark.parametrize("size", [(40, 40), (33, 57), (7, 1)])
def test_a_blur_is_the_gaussian(sigma: float, size: tuple[int, int]) -> None:
    images = random(2, 3, *size).round()
    torch.testing.assert_close(blur(images, sigma), exact_blur(images, sigma), atol=0.01, rtol=0)


def test_a_blur_of_a_step_is_off_by_less_than_a_hundredth() -> None:
    step = torch.zeros(1, 1, 90, 90)
    step[..., 45:] = 1
    for sigma in (3.0, 5.9, 9.0, 14.9):
        torch.testing.assert_close(blur(step, sigma), exact_blur(step, sigma), atol=0.01, rtol=0)


def test_a_blur_does_not_darken_the_border() -> None:
    torch.testing.assert_close(blur(torch.full((1, 2, 20, 30), 0.7), 4.0), torch.full((1, 2, 20, 30), 0.7))


def test_a_tiny_blur_is_the_image_and_a_huge_one_its_mean() -> None:
    images = random(1, 3, 16, 16)
    torch.testing.assert_close(blur(images, 0.05), images)
    torch.testing.assert_close(
        blur(images, 500.0), images.mean((2, 3), keepdim=True).expand_as(images), atol=0.01, rtol=0
    )
