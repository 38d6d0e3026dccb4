"""In-painted backgrounds: what they keep, what they invent, and cases worked out by hand."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from interp_core.backbone.blur import blur
from interp_core.knowledge.backgrounds import Background, fill, make_background


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.rand(*shape, generator=torch.Generator().manual_seed(seed))


@pytest.mark.parametrize("size", [(8, 8), (7, 13), (1, 5), (64, 48)])
def test_a_fill_keeps_what_is_kept(size: tuple[int, int]) -> None:
    images, keep = random(2, 3, *size) - 0.5, random(2, 1, *size, seed=1).round()
    filled = fill(images, keep)
    torch.testing.assert_close(filled * keep, images * keep)
    torch.testing.assert_close(fill(images, torch.ones_like(keep)), images)
    assert not fill(images, torch.zeros_like(keep)).any()


def test_a_fill_invents_no_colour() -> None:
    keep = random(1, 1, 21, 21).round()
    torch.testing.assert_close(fill(torch.full((1, 3, 21, 21), 0.3), keep), torch.full((1, 3, 21, 21), 0.3))
    images = random(1, 3, 21, 21)
    filled, visible = fill(images, keep), images[keep.bool().expand_as(images)]
    assert visible.min() - 1e-6 <= filled.min()
    assert filled.max() <= visible.max() + 1e-6


def test_a_fill_does_not_know_what_was_removed() -> None:
    images, keep = random(1, 3, 16, 16), torch.ones(1, 1, 16, 16)
    keep[..., 4:12, 5:9] = 0
    replaced = torch.where(keep.bool(), images, torch.full_like(images, 9.0))
    torch.testing.assert_close(fill(images, keep), fill(replaced, keep))


def test_a_hole_between_two_colours_is_filled_from_both_sides() -> None:
    images = torch.zeros(1, 1, 16, 16)
    images[..., 8:] = 1
    keep = torch.ones(1, 1, 16, 16)
    keep[..., 6:10] = 0
    row = fill(images, keep)[0, 0, 8]
    assert (row.diff() >= -1e-6).all()
    assert row[6] < 0.5 < row[9]


def test_two_pixels_by_hand() -> None:
    """Of 0.8, kept by half, and 0.2, not kept: v' = 0.8; each becomes w v + (1 - w) v'."""
    images, keep = torch.tensor([[[[0.8, 0.2]]]]), torch.tensor([[[[0.5, 0.0]]]])
    torch.testing.assert_close(fill(images, keep), torch.tensor([[[[0.8, 0.8]]]]))
    both = torch.tensor([[[[0.5, 0.25]]]])
    mean = (0.5 * 0.8 + 0.25 * 0.2) / 0.75
    expected = [0.5 * 0.8 + 0.5 * mean, 0.25 * 0.2 + 0.75 * mean]
    torch.testing.assert_close(fill(images, both), torch.tensor([[[expected]]]))


def test_an_image_kept_a_little_everywhere_is_filled_from_afar() -> None:
    images = random(1, 1, 64, 64)
    filled = fill(images, torch.full((1, 1, 64, 64), 0.05))
    assert filled.std() < 0.15 * images.std()


def test_a_fill_is_linear_in_the_image() -> None:
    first, second, keep = random(1, 3, 12, 9), random(1, 3, 12, 9, seed=1), random(1, 1, 12, 9, seed=2)
    torch.testing.assert_close(fill(2 * first - second, keep), 2 * fill(first, keep) - fill(second, keep))


@pytest.mark.parametrize("name", ["blur", "fill", "mean"])
def test_backgrounds_by_name(name: Background) -> None:
    images, keep = random(2, 3, 10, 20), random(2, 1, 10, 20, seed=1)
    expected = {"blur": blur(images, 4.0), "fill": fill(images, keep)}.get(name)
    if expected is None:
        expected = images.mean((2, 3), keepdim=True).expand_as(images)
    torch.testing.assert_close(make_background(name, images, keep, 0.2), expected)
