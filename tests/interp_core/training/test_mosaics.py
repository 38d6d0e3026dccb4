"""Mosaics of training images: what stands in their quarters, and what they refuse."""

from __future__ import annotations

import pytest
import timm
import torch
from torch import Tensor

from interp_core import fit
from interp_core.errors import ContractError
from interp_core.lap.attach import attach
from interp_core.training import Recipe
from interp_core.training.augment import make_mosaics

pytestmark = pytest.mark.slow


def plain_images(targets: Tensor, size: tuple[int, int] = (8, 8)) -> Tensor:
    """Image i is everywhere i + 1."""
    return (torch.arange(len(targets)) + 1.0)[:, None, None, None].expand(-1, 3, *size).contiguous()


def quarters(images: Tensor) -> Tensor:
    """What stands in the middle of each quarter, (N, 4)."""
    h, w = images.shape[-2:]
    rows, columns = torch.tensor([h // 4, 3 * h // 4]), torch.tensor([w // 4, 3 * w // 4])
    return images[:, 0][:, rows][:, :, columns].flatten(1)


def generator(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_four_images_of_four_classes_all_take_part() -> None:
    targets = torch.arange(4)
    mosaics = make_mosaics(plain_images(targets), targets, 1.0, generator())
    assert (quarters(mosaics).sort(1).values == torch.tensor([1.0, 2, 3, 4])).all()


def test_own_quarter_alone_is_of_the_class_where_there_are_enough_others() -> None:
    targets = torch.tensor([0, 0, 0, 1, 1, 1])
    for seed in range(20):
        found = quarters(make_mosaics(plain_images(targets), targets, 1.0, generator(seed)))
        assert ((found == (torch.arange(6) + 1.0)[:, None]).sum(1) == 1).all()
        classes = targets[(found - 1).long()]
        assert ((classes == targets[:, None]).sum(1) == 1).all()


def test_own_quarter_lies_anywhere() -> None:
    targets = torch.arange(4)
    first = [quarters(make_mosaics(plain_images(targets), targets, 1.0, generator(s)))[0].tolist() for s in range(40)]
    assert {classes.index(1.0) for classes in first} == {0, 1, 2, 3}


def test_each_quarter_is_the_whole_image_halved() -> None:
    images = torch.rand(4, 3, 8, 6, generator=generator(1))
    mosaics = make_mosaics(images, torch.arange(4), 1.0, generator())
    halves = images.unflatten(2, (4, 2)).unflatten(4, (3, 2)).mean((3, 5))
    corners = mosaics[0].unflatten(1, (2, 4)).unflatten(3, (2, 3)).permute(1, 3, 0, 2, 4).flatten(0, 1)
    for half in halves:
        assert min((corner - half).abs().max().item() for corner in corners) < 1e-6


@pytest.mark.parametrize("size", [(7, 8), (8, 7), (9, 9)])
def test_odd_sizes_are_kept(size: tuple[int, int]) -> None:
    targets = torch.arange(5)
    images = plain_images(targets, size)
    mosaics = make_mosaics(images, targets, 1.0, generator())
    assert mosaics.shape == images.shape
    assert all(len(set(row)) == 4 for row in quarters(mosaics).tolist())


def test_a_share_of_the_images() -> None:
    targets = torch.arange(1000)
    images = plain_images(targets, (2, 2))
    changed = (make_mosaics(images, targets, 0.3, generator()) != images).flatten(1).any(1).float().mean()
    assert 0.24 < changed < 0.36
    assert make_mosaics(images, targets, 0.0, generator()) is images


def test_fewer_than_four_stay() -> None:
    images = plain_images(torch.arange(3))
    assert make_mosaics(images, torch.arange(3), 1.0, generator()) is images


def test_one_number_is_drawn_however_many_images() -> None:
    states = []
    for count in (2, 5, 9):
        used = generator()
        make_mosaics(plain_images(torch.arange(count)), torch.arange(count), 0.5, used)
        states.append(used.get_state())
    assert all(torch.equal(states[0], state) for state in states)


def test_fit_shows_mosaics_to_the_network_and_refuses_what_they_cannot_carry() -> None:
    torch.manual_seed(0)
    lap = attach(timm.create_model("test_resnet", num_classes=3), image_size=32, refine=8)
    images, targets = torch.rand(8, 3, 32, 32), torch.arange(8) % 3
    batches: list[Tensor] = []
    lap.backbone.register_forward_pre_hook(lambda _, given: batches.append(given[0].detach().clone()))
    recipe = Recipe(mode="frozen", epochs=1, batch_size=4, shift=0, mosaics=1.0)
    history = fit(lap, images, targets, recipe=recipe)
    assert torch.tensor([epoch.loss for epoch in history]).isfinite().all()
    assert not any((images == image).flatten(1).all(1).any() for batch in batches[:1] for image in batch)
    with pytest.raises(ContractError, match="mosaics"):
        fit(lap, images, targets.float()[:, None].expand(-1, 3).clamp(max=1), recipe=recipe)
    with pytest.raises(ContractError, match="mosaics"):
        fit(lap, images, targets, recipe=recipe, regions={"object": (torch.arange(2), torch.ones(2, 1, 32, 32))})
