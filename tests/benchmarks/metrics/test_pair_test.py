from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.cases import SIDE, Linear

from benchmarks.metrics import Batch
from benchmarks.metrics.base import Explain
from benchmarks.metrics.pair_test import PairTest, log_ratio, share_inside
from interp_core.errors import ContractError

CUE = np.zeros((1, SIDE, SIDE))
CUE[:, :4, :4] = 1


def contributions(network: torch.nn.Module, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Compute w x of a `Linear`, signed for its class 1."""
    assert isinstance(network, Linear)
    sign = np.where(targets == 1, 1, -1)[:, None, None, None]
    return (sign * (images * network.weight.detach().numpy()).sum(1, keepdims=True)).astype(np.float32)


def pair_case(on_cue: float, explain: Explain = contributions, n: int = 4) -> Batch:
    """Build a linear user with a share `on_cue` of its evidence on the cue, and a twin that reads all pixels alike.

    Every pixel is 1, so that maps are the weights.
    """
    images = np.ones((n, 1, SIDE, SIDE), np.float32)
    outside = np.ones_like(CUE) - CUE
    user = Linear(on_cue * CUE / CUE.sum() + (1 - on_cue) * outside / outside.sum()).eval()
    stripes = 1 + 0.5 * (-1.0) ** np.arange(SIDE)  # a constant map would be degenerate
    twin, targets = Linear(np.ones_like(CUE) * stripes).eval(), np.ones(n, np.int64)
    maps = explain(user, images, targets)
    return Batch(user, images, targets, maps, np.repeat(CUE[None] > 0, n, 0), seed=5, explain=explain, twin=twin)


@pytest.mark.parametrize("on_cue", [0.0, 0.25, 0.5, 1.0])
def test_the_ratio_of_two_linear_networks_is_known(on_cue: float) -> None:
    values = PairTest(floor=0.01)(pair_case(on_cue))
    area = CUE.mean()
    assert np.allclose(values["pair_user"], on_cue, atol=1e-4)
    assert np.allclose(values["pair_twin"], area, atol=1e-4)
    assert np.allclose(values["pair_test"], np.log2((on_cue + 0.01) / (area + 0.01)), atol=1e-3)
    assert not values["pair_empty"].any()


def test_higher_is_better_for_a_map_that_follows_the_network() -> None:
    reading, ignoring = (PairTest()(pair_case(share))["pair_test"] for share in (0.9, 0.0))
    assert (reading > 0).all()
    assert (ignoring < 0).all()


def test_a_map_that_ignores_the_network_has_exactly_chance() -> None:
    def picture(_: torch.nn.Module, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        del targets
        return np.random.default_rng(0).random((len(images), 1, SIDE, SIDE)).astype(np.float32)

    values = PairTest()(pair_case(0.9, picture))
    assert (values["pair_test"] == 0).all()
    assert np.array_equal(values["pair_user"], values["pair_twin"])


@pytest.mark.parametrize("value", [0.0, 3.0, np.nan, -np.inf])
@pytest.mark.parametrize("side", ["user", "twin"])
def test_a_degenerate_map_on_either_side_is_no_hit(value: float, side: str) -> None:
    def explain(network: torch.nn.Module, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
        maps = contributions(network, images, targets)
        maps[0] = value if (network is case.twin) == (side == "twin") else maps[0]
        return maps

    case = pair_case(0.9)
    case = replace(case, explain=explain)
    assert case.model is not None
    case = replace(case, maps=explain(case.model, case.images, case.targets))
    values = PairTest()(case)
    assert all(np.isfinite(column).all() for column in values.values())
    assert values["pair_test"][0] == 0
    assert values["pair_empty"].tolist() == [1, 0, 0, 0]
    assert (values["pair_test"][1:] > 0).all()


def test_a_map_without_a_positive_part_has_no_share() -> None:
    case = pair_case(0.9)
    values = PairTest()(replace(case, targets=np.zeros(4, np.int64), maps=-case.maps))
    assert (values["pair_empty"] == 1).all()
    assert (values["pair_test"] == 0).all()


def test_one_share_of_zero_does_not_decide_the_mean() -> None:
    ratios = log_ratio(np.array([0.2, 0.2, 0.2]), np.array([0.1, 0.1, 0.0]), 0.01)
    assert 0 < ratios[2] < 5


def test_an_image_without_a_cue_has_no_score() -> None:
    case = pair_case(0.5)
    assert case.masks is not None
    masks = case.masks.copy()
    masks[1] = False
    for values in PairTest()(replace(case, masks=masks)).values():
        assert np.isnan(values).tolist() == [False, True, False, False]


def test_a_twin_is_needed() -> None:
    with pytest.raises(ContractError, match="pairs"):
        PairTest()(replace(pair_case(0.5), twin=None))


def test_the_share_is_that_of_the_positive_part() -> None:
    maps, masks = np.array([[[[3.0, -5.0, 1.0]]]]), np.array([[[[True, True, False]]]])
    assert share_inside(maps, masks).tolist() == [0.75]
    assert np.isnan(share_inside(-abs(maps), masks)).all()
