"""Agreement between levels and under moves, on maps of a few cells."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from interp_core.knowledge import Agreement, ModelAccess, Uniqueness, View, view_of
from interp_core.knowledge.agreement import move

HEAD = [[[0.8, 0.0]], [[0.1, 0.9]]]  # two classes on one row of two cells
FINE = [[[0.6, 0.2, 0.4, 0.0], [0.0, 0.0, 0.0, 0.2]]]
FINER = [[[0.6, 0.2, 0.4, 0.0]] * 2 + [[0.0, 0.1, 0.0, 0.2]] * 2]


def make_view(labels: list[float]) -> View:
    below = {"fine": torch.tensor([FINE]).requires_grad_()}
    return view_of(torch.tensor([HEAD]).requires_grad_(), torch.tensor([labels]), below=below)


@pytest.mark.parametrize(
    ("labels", "pool", "first", "second"),
    [
        ([1.0, 0.0], "max", 0.6 - 0.8, 0.4 - 0.0),
        ([0.0, 1.0], "max", 0.6 - 0.1, 0.4 - 0.9),
        ([1.0, 1.0], "max", 0.6 - 0.8, 0.4 - 0.9),
        ([0.0, 0.0], "max", 0.6, 0.4),
        ([1.0, 0.0], "mean", 0.2 - 0.8, 0.15 - 0.0),
    ],
)
def test_the_level_below_is_held_to_the_present_classes(
    labels: list[float], pool: str, first: float, second: float
) -> None:
    loss = Agreement(moves=False, pool=pool).loss(make_view(labels))  # type: ignore[arg-type]
    assert loss.item() == pytest.approx((first**2 + second**2) / 2, abs=1e-6)


def test_the_lower_level_follows_the_upper() -> None:
    view = make_view([1.0, 0.0])
    Agreement(moves=False).loss(view).backward()
    assert view.maps.grad is None
    slope = view.below["fine"].grad
    assert slope is not None
    assert slope[0, 0, 0].tolist() == pytest.approx([-0.2, 0, 0.4, 0])


def test_neighbours_are_compared_pair_by_pair() -> None:
    view = make_view([1.0, 0.0])
    view.below = {"finer": torch.tensor([FINER]), **view.below}
    upper = (0.2**2 + 0.4**2) / 2
    lower = (0.1**2) / 8  # the finer level has 0.1 where the fine has 0
    assert Agreement(moves=False).loss(view).item() == pytest.approx((upper + lower) / 2, abs=1e-6)


def test_a_network_with_a_head_alone_agrees_with_itself() -> None:
    assert Agreement(moves=False).loss(view_of(torch.rand(1, 2, 3, 3), torch.ones(1, 2))).item() == 0


def pixels(images: Tensor, _maps: bool, _learn: bool) -> tuple[Tensor, Tensor]:
    """A network whose map is its image: it moves with it."""
    return images.mean((2, 3)), images[:, :2]


def columns(images: Tensor, _maps: bool, _learn: bool) -> tuple[Tensor, Tensor]:
    """A network whose map is a ramp over the columns, whatever it sees."""
    ramp = torch.linspace(0, 1, images.shape[-1]).expand(len(images), 2, images.shape[-2], -1)
    return images.mean((2, 3)), ramp


@pytest.mark.parametrize("seed", range(6))
def test_maps_that_move_with_the_image_agree(seed: int) -> None:
    images = torch.rand(3, 2, 12, 16, generator=torch.Generator().manual_seed(9))
    generator = torch.Generator().manual_seed(seed)
    view = view_of(images, torch.ones(3, 2), images=images, model=ModelAccess(pixels), generator=generator)
    assert Agreement(shift=0.3).loss(view).item() == pytest.approx(0, abs=1e-12)


def test_maps_that_stay_are_charged_for_it() -> None:
    images = torch.zeros(2, 2, 10, 11)
    labels = torch.tensor([[1.0, 0.0], [0.0, 0.0]])  # an image without a class counts nothing
    losses = set()
    for seed in range(12):
        generator = torch.Generator().manual_seed(seed)
        view = view_of(
            columns(images, True, True)[1], labels, images=images, model=ModelAccess(columns), generator=generator
        )
        losses.add(round(Agreement(shift=0).loss(view).item(), 6))
    ramp = torch.linspace(0, 1, 11)
    assert losses == {0.0, round((ramp - ramp.flip(0)).square().mean().item(), 6)}


def test_a_shift_of_a_ramp_by_hand() -> None:
    images = torch.zeros(1, 2, 10, 11)
    losses = set()
    for seed in range(30):
        generator = torch.Generator().manual_seed(seed)
        view = view_of(
            columns(images, True, True)[1],
            torch.ones(1, 2),
            images=images,
            model=ModelAccess(columns),
            generator=generator,
        )
        losses.add(round(Agreement(shift=0.2, flip=False).loss(view).item(), 4))
    # A ramp of a tenth a column, moved by up to two columns; what comes in over the edge is not judged.
    assert losses == {0.0, 0.01, 0.04}


def test_a_share_of_the_images_is_moved() -> None:
    images, sizes = torch.zeros(4, 2, 10, 11), []

    def forward_again(images: Tensor, needs_maps: bool, _learn: bool) -> tuple[Tensor, Tensor]:
        sizes.append(len(images))
        return columns(images, needs_maps, True)

    view = view_of(columns(images, True, True)[1], torch.ones(4, 2), images=images, model=ModelAccess(forward_again))
    Agreement(share=0.5).loss(view)
    assert sizes == [2]


def test_moved_images_repeat_their_edges() -> None:
    image = torch.arange(6.0).reshape(1, 1, 2, 3)
    assert move(image, torch.tensor([1, 1]), torch.tensor([2, 1, 0])).tolist() == [[[[5, 4, 3], [5, 4, 3]]]]


def brute_pairs(maps: Tensor, chosen: list[int]) -> Tensor:
    pairs = [(j, k) for j in chosen for k in chosen if j < k]
    return torch.stack([(maps[:, j] * maps[:, k]).mean() for j, k in pairs]).sum() / (len(chosen) - 1)


@pytest.mark.parametrize(("of", "chosen"), [("all", [0, 1, 2, 3, 4]), ((1, 3), [1, 3]), ((0, 2, 4), [0, 2, 4])])
def test_uniqueness_is_the_mean_over_pairs(of: str | tuple[int, ...], chosen: list[int]) -> None:
    maps = torch.rand(3, 5, 4, 6, generator=torch.Generator().manual_seed(0))
    labels = torch.eye(5)[:3]
    torch.testing.assert_close(Uniqueness(of=of).loss(view_of(maps, labels)), brute_pairs(maps, chosen))


def test_uniqueness_by_hand() -> None:
    both = torch.tensor([[[[0.9, 0.1]], [[0.5, 0.0]]]])
    assert Uniqueness().loss(view_of(both, torch.ones(1, 2))).item() == pytest.approx(0.45 / 2)
    assert Uniqueness(of=0).loss(view_of(both, torch.ones(1, 2))).item() == 0


def test_uniqueness_between_concepts_of_one_level() -> None:
    below = {"stem": torch.tensor([[[[0.5, 0.0]], [[0.4, 1.0]], [[1.0, 1.0]]]])}
    view = view_of(torch.zeros(1, 2, 1, 2), torch.ones(1, 2), below=below, concepts={"stem": ("fur", "fin", "eye")})
    assert Uniqueness(of=("fur", "fin")).loss(view).item() == pytest.approx(0.1)
