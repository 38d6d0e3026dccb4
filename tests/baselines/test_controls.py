"""Controls against what is known of them, and edges against scipy."""

from __future__ import annotations

import numpy as np
import pytest
import scipy.ndimage
import torch
from torch import Tensor, nn

from baselines import explainers
from baselines.controls import SmoothedRandom, gaussian, gradient_magnitude

TARGETS = torch.tensor([0, 1])


def neighbour_difference(maps: Tensor) -> Tensor:
    """Mean step between neighbours over the standard deviation, (N,)."""
    return (maps[..., 1:] - maps[..., :-1]).abs().mean((1, 2, 3)) / maps.std((1, 2, 3))


def test_random_is_uniform_and_different_for_each_image(plain: nn.Module) -> None:
    maps = explainers["random"]()(plain, torch.zeros(2, 3, 64, 64), TARGETS, seed=3)
    assert maps.min() >= 0
    assert maps.max() < 1
    assert abs(float(maps.mean()) - 0.5) < 0.02
    assert abs(float(maps.std()) - 12**-0.5) < 0.01
    assert not torch.equal(maps[0], maps[1])


def test_smoothed_random_is_smooth(plain: nn.Module) -> None:
    rough, smooth = (
        explainers[name]()(plain, torch.zeros(2, 3, 64, 64), TARGETS) for name in ("random", "smoothed_random")
    )
    assert (neighbour_difference(smooth) < 0.2 * neighbour_difference(rough)).all()


def test_smoothed_random_has_the_grid_it_was_given(plain: nn.Module, images: Tensor) -> None:
    assert SmoothedRandom(grid=5).explain(plain, images, TARGETS).shape == (2, 1, 5, 5)


@pytest.mark.parametrize("size", [(32, 32), (33, 47)])
def test_centre_is_symmetric_and_highest_in_the_middle(size: tuple[int, int]) -> None:
    centre = gaussian(*size, 0.25)
    torch.testing.assert_close(centre, centre.flip(0))
    torch.testing.assert_close(centre, centre.flip(1))
    assert centre[size[0] // 2, size[1] // 2] == centre.max()


def test_centre_falls_by_the_root_of_e_at_one_sigma() -> None:
    centre = gaussian(101, 101, 25 / 101)
    assert centre[50, 75] == pytest.approx(np.exp(-0.5))
    assert centre[25, 50] == pytest.approx(np.exp(-0.5))


def test_centre_is_the_same_for_every_image_and_model(plain: nn.Module, images: Tensor) -> None:
    maps = explainers["centre_gaussian"]()(plain, images, TARGETS)
    assert torch.equal(maps[0], maps[1])


@pytest.mark.parametrize("horizontal", [False, True])
@pytest.mark.parametrize("sign", [1.0, -1.0])
def test_edges_see_steps_in_both_directions_and_of_either_sign(horizontal: bool, sign: float) -> None:
    step = torch.zeros(1, 3, 16, 16)
    step[..., 8:] = sign
    step = step.mT if horizontal else step
    strength = gradient_magnitude(step)[0, 0]
    strength = strength.T if horizontal else strength
    torch.testing.assert_close(strength[:, 7:9], torch.full((16, 2), 0.5))
    assert strength[:, :7].abs().max() == 0
    assert strength[:, 9:].abs().max() == 0


def test_edges_are_scipy_s(images: Tensor) -> None:
    grey = images.mean(1).numpy()
    expected = [np.hypot(*(scipy.ndimage.sobel(x, axis, mode="nearest") / 8 for axis in (0, 1))) for x in grey]
    np.testing.assert_allclose(gradient_magnitude(images)[:, 0].numpy(), np.stack(expected), rtol=1e-4, atol=1e-6)


def test_mask_is_the_mask(plain: nn.Module, images: Tensor) -> None:
    masks = torch.rand(2, 1, 32, 32, generator=torch.Generator().manual_seed(0)) > 0.7
    maps = explainers["mask"]()(plain, images, TARGETS, masks=masks)
    assert torch.equal(maps, masks.float())
