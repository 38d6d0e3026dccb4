"""Random crops: what they show, how large they are, and that regions go with their images."""

from __future__ import annotations

import pytest
import torch
from pydantic import ValidationError
from torch import nn

from interp_core.training import Recipe, fit
from interp_core.training.augment import MAX_STRETCH, Moves, crop_and_resize, sample_boxes, sample_moves

pytestmark = pytest.mark.slow


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def ramp(height: int, width: int) -> torch.Tensor:
    """(1, 2, height, width): row and column of each pixel."""
    rows, columns = torch.meshgrid(torch.arange(height), torch.arange(width), indexing="ij")
    return torch.stack([rows, columns]).float()[None]


def test_a_box_of_the_whole_image_changes_nothing() -> None:
    images = torch.rand(2, 3, 7, 9, generator=generator())
    crops = crop_and_resize(images, torch.tensor([[0.0, 0.0, 1.0, 1.0]]).expand(2, 4))
    assert torch.allclose(crops, images, atol=1e-5)


def test_a_crop_by_hand() -> None:
    # Rows 2 to 6 and columns 4 to 8 of 8 x 16 pixels: output pixel i lies at 2 + (i + 1/2) / 2 - 1/2.
    crops = crop_and_resize(ramp(8, 16), torch.tensor([[0.25, 0.25, 0.5, 0.25]]))
    assert torch.allclose(crops[0, 0, :, 3], 2 + (torch.arange(8) + 0.5) / 2 - 0.5, atol=1e-4)
    assert torch.allclose(crops[0, 1, 3], 4 + (torch.arange(16) + 0.5) / 4 - 0.5, atol=1e-4)


def test_boxes_lie_in_the_image_and_are_as_large_as_asked() -> None:
    boxes = sample_boxes(2000, 0.4, generator())
    top, left, height, width = boxes.unbind(1)
    assert bool((boxes >= 0).all())
    assert bool((top + height <= 1 + 1e-6).all())
    assert bool((left + width <= 1 + 1e-6).all())
    inside = (height < 1) & (width < 1)
    area, ratio = (height * width)[inside], (width / height)[inside]
    assert 0.4 <= area.min() + 1e-6 < 0.45
    assert area.max() > 0.9
    assert 1 / MAX_STRETCH - 1e-5 <= ratio.min() < 0.85
    assert 1.2 < ratio.max() <= MAX_STRETCH + 1e-5


def test_masks_go_with_their_images_and_stay_masks() -> None:
    images = (torch.rand(4, 1, 12, 12, generator=generator()) > 0.5).float()
    moves = sample_moves(4, 3, True, generator(1), 0.5)
    moved_images, masks = moves(images), moves(images.clone())
    assert torch.equal(moved_images, masks)
    assert not torch.equal(moved_images, images)
    assert 0 <= masks.min() <= masks.max() <= 1 + 1e-6
    masks[2] = torch.nan
    assert moves(masks).flatten(1).isnan().all(1).tolist() == [False, False, True, False]


def test_some_of_the_crops_are_those_of_these_images() -> None:
    moves, images = sample_moves(5, 2, True, generator(), 0.5), torch.rand(5, 3, 8, 8, generator=generator(1))
    which = torch.tensor([4, 1])
    assert torch.equal(moves.select(which)(images[which]), moves(images)[which])


def test_shifts_and_flips_are_drawn_as_without_crops() -> None:
    plain, cropped = sample_moves(6, 3, True, generator()), sample_moves(6, 3, True, generator(), 0.5)
    assert plain.boxes is None
    assert cropped.boxes is not None
    assert torch.equal(plain.offsets, cropped.offsets)  # type: ignore[arg-type]
    assert torch.equal(plain.flips, cropped.flips)  # type: ignore[arg-type]


def test_crops_come_after_shift_and_flip() -> None:
    images, boxes = torch.rand(2, 3, 8, 8, generator=generator()), sample_boxes(2, 0.5, generator(1))
    moves = sample_moves(2, 2, True, generator(2))
    together = Moves(moves.offsets, moves.flips, boxes)(images)
    assert torch.equal(together, crop_and_resize(moves(images), boxes))


class Watching(nn.Module):
    """A network that keeps what it is shown."""

    def __init__(self) -> None:
        super().__init__()
        self.last = nn.Linear(3, 2)
        self.shown: list[torch.Tensor] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.shown.append(images.detach())
        return self.last(images.mean((2, 3)))


def test_fit_shows_crops() -> None:
    network = Watching()
    # Each row and column of its own value: a crop spans fewer of them.
    images = ramp(16, 16).repeat(8, 1, 1, 1)
    images = torch.cat([images, images[:, :1]], 1)
    recipe = Recipe(epochs=1, batch_size=4, shift=0, crop=0.3)
    fit(network, images, torch.arange(8) % 2, recipe=recipe)
    batches = [shown[:, 0].flatten(1) for shown in network.shown if len(shown) == 4]  # one image is passed before
    spans = torch.cat([batch.amax(1) - batch.amin(1) for batch in batches])
    assert len(spans) == 8
    assert spans.max() < 15.1
    assert spans.min() < 13
    assert len(spans.unique()) > 4


@pytest.mark.parametrize("share", [0.0, 1.5])
def test_a_crop_is_a_share(share: float) -> None:
    with pytest.raises(ValidationError, match="crop"):
        Recipe(crop=share)
