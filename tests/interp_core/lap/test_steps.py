"""Gradient steps on one image's map: what they keep, what they find, and what they leave alone."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import interp_core
from interp_core import LapModel
from interp_core.errors import ContractError
from interp_core.lap.steps import constant_weights, grid_of, normal_scores, share_of, soft_cut, step_map

SIZE, REGION = 32, (slice(8, 16), slice(20, 28))


def random(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed))


def region_logits(images: Tensor) -> Tensor:
    """Class 1 lies in one region alone, in how much it differs from its left neighbour."""
    patch = images[..., REGION[0], REGION[1]]
    logit = 16 * patch.diff(dim=-1).abs().mean((1, 2, 3))
    return torch.stack([torch.full_like(logit, 12), logit], 1)


def inside(maps: Tensor) -> Tensor:
    """The share of a map's four highest cells that are the region's four."""
    mask = torch.zeros(SIZE, SIZE)
    mask[REGION] = 1
    cells = F.adaptive_avg_pool2d(maps, 8).flatten(1)
    return F.adaptive_avg_pool2d(mask[None], 8).flatten()[cells.topk(4).indices].mean(1)


@pytest.fixture
def lap() -> LapModel:
    torch.manual_seed(0)
    options = {"output_stride": 8, "avg_down": False, "zero_init_last": False}
    return interp_core.attach(timm.create_model("test_resnet", num_classes=4, **options)).eval()


@pytest.mark.parametrize("multi_label", [False, True])
def test_steps_find_the_region_that_decides(multi_label: bool) -> None:
    images, targets = random(2, 3, SIZE, SIZE), torch.tensor([1, 1])
    start = random(2, 1, SIZE, SIZE, seed=1)
    before, after = (
        inside(step_map(region_logits, images, targets, start, steps, cells=8, multi_label=multi_label))
        for steps in (0, 30)
    )
    assert (after >= before + 0.25).all()
    assert after.mean() > 0.6


def test_no_step_gives_the_order_of_the_start() -> None:
    start = random(2, 1, 8, 8)
    maps = step_map(region_logits, random(2, 3, 8, 8), torch.tensor([1, 1]), start, 0)
    assert torch.equal(maps.flatten(1).argsort(1), start.flatten(1).argsort(1))
    coarse = step_map(
        region_logits, random(2, 3, SIZE, SIZE), torch.tensor([1, 1]), random(2, 1, SIZE, SIZE), 0, cells=8
    )
    assert coarse.shape == (2, 1, SIZE, SIZE)


def test_steps_move_values_and_make_none(lap: LapModel) -> None:
    explanation = lap.explain(random(2, 3, 32, 48), steps=2)
    assert explanation.stepped is not None
    assert not torch.equal(explanation.stepped, explanation.map)
    assert torch.equal(explanation.stepped.flatten(1).sort().values, explanation.map.flatten(1).sort().values)


def test_few_steps_change_the_order_little() -> None:
    images, targets, start = random(2, 3, SIZE, SIZE), torch.tensor([1, 1]), random(2, 1, SIZE, SIZE)
    maps = (step_map(region_logits, images, targets, start, steps, cells=8) for steps in (0, 1, 20))
    first, *later = (normal_scores(each).flatten(1) for each in maps)
    near, far = (torch.cosine_similarity(first, scores, dim=1) for scores in later)
    assert (near > 0.98).all()
    assert (far < near).all()


def test_a_map_does_not_depend_on_its_batch(lap: LapModel) -> None:
    images, targets = random(3, 3, 32, 48), torch.tensor([1, 2, 0])
    together = lap.explain(images, targets, steps=3).stepped
    assert together is not None
    assert together.shape == (3, 1, 32, 48)
    for i in range(3):
        alone = lap.explain(images[i : i + 1], targets[i : i + 1], steps=3).stepped
        torch.testing.assert_close(alone, together[i : i + 1], rtol=1e-3, atol=1e-5)


def test_steps_are_deterministic_and_draw_nothing(lap: LapModel) -> None:
    images = random(2, 3, 32, 32)
    first = lap.explain(images, 1, steps=3).stepped
    before = torch.get_rng_state()
    torch.manual_seed(7)
    assert torch.equal(lap.explain(images, 1, steps=3).stepped, first)  # type: ignore[arg-type]
    torch.manual_seed(0)
    state = torch.get_rng_state()
    lap.explain(images, 1, steps=3)
    assert torch.equal(torch.get_rng_state(), state)
    torch.set_rng_state(before)


def test_steps_change_nothing_but_the_stepped_map(lap: LapModel) -> None:
    images = random(2, 3, 32, 32)
    plain, stepped = lap.explain(images), lap.explain(images, steps=2)
    assert plain.stepped is None
    assert stepped.stepped is not None
    assert torch.equal(plain.map, stepped.map)
    assert torch.equal(plain.bias, stepped.bias)
    assert stepped.gap < 1e-5


@pytest.mark.parametrize("around", [torch.no_grad, torch.inference_mode, torch.enable_grad])
def test_flags_and_gradients_are_left_as_they_were(lap: LapModel, around: Callable[[], torch.no_grad]) -> None:
    lap.train()
    parameters = list(lap.parameters())
    parameters[0].requires_grad_(False)
    parameters[-1].grad = torch.ones_like(parameters[-1])
    modes = [module.training for module in lap.modules()]
    flags = [parameter.requires_grad for parameter in parameters]
    with around():
        maps = lap.explain(random(2, 3, 32, 32), steps=2).stepped
    assert maps is not None
    assert not maps.requires_grad
    assert [module.training for module in lap.modules()] == modes
    assert [parameter.requires_grad for parameter in parameters] == flags
    assert [parameter.grad is None for parameter in parameters] == [True] * (len(parameters) - 1) + [False]


def test_flags_are_restored_when_a_step_fails() -> None:
    net = nn.Linear(2, 2)

    def fail() -> None:
        with constant_weights(net):
            assert not net.weight.requires_grad
            raise RuntimeError("no answer")

    with pytest.raises(RuntimeError, match="no answer"):
        fail()
    assert net.weight.requires_grad


def test_a_network_with_one_logit_is_judged_by_its_sigmoid() -> None:
    torch.manual_seed(0)
    lap = interp_core.attach(timm.create_model("test_resnet", num_classes=1, output_stride=8, avg_down=False)).eval()
    images = random(2, 3, 32, 32)
    by_default, by_sigmoid = (lap.explain(images, 0, steps=2, multi_label=flag).stepped for flag in (False, True))
    assert by_default is not None
    assert torch.isfinite(by_default).all()
    assert torch.equal(by_default, by_sigmoid)  # type: ignore[arg-type]


def test_a_negative_number_of_steps_is_refused(lap: LapModel) -> None:
    with pytest.raises(ContractError, match="steps >= 0, got -1"):
        lap.explain(random(1, 3, 32, 32), steps=-1)


def test_shares_spread_evenly_and_favour_small_ones() -> None:
    shares = [share_of(step) for step in range(24)]
    assert min(shares) > 0.02
    assert max(shares) < 0.72
    assert sum(share < 0.37 for share in shares) > 12
    levels = sorted(((share - 0.02) / 0.7) ** (1 / 1.5) for share in shares)
    assert max(after - before for before, after in pairwise(levels)) < 0.09


def test_a_cut_keeps_the_share_it_says() -> None:
    scores = normal_scores(random(2, 1, 28, 28))
    for share in (0.1, 0.5):
        assert soft_cut(scores, share).mean((1, 2, 3)).tolist() == pytest.approx([share, share], abs=0.02)


def test_normal_scores_depend_on_ranks_alone() -> None:
    maps = random(2, 1, 6, 6)
    torch.testing.assert_close(normal_scores(maps), normal_scores(maps.exp()))
    scores = normal_scores(maps)
    assert scores.amin().item() == pytest.approx(-2.326, abs=0.01)
    assert scores.amax().item() == pytest.approx(2.326, abs=0.01)


def test_cells_are_nearly_square_and_never_smaller_than_a_pixel() -> None:
    assert grid_of(224, 224, 28) == (28, 28)
    assert grid_of(8, 120, 28) == (2, 28)
    assert grid_of(5, 7, 28) == (5, 7)
    assert grid_of(1, 400, 28) == (1, 28)
