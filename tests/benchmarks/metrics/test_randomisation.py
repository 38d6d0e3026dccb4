from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from helpers.cases import net_case, square_case
from torch import nn

from benchmarks.metrics.randomisation import Mprt, RandomLogit, entropies, other_classes, randomise, similarity


def gradient(network: nn.Module, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    leaf = torch.from_numpy(images).requires_grad_()
    logits = network(leaf).gather(1, torch.from_numpy(targets)[:, None]).sum()
    (slope,) = torch.autograd.grad(logits, leaf)
    return (slope * leaf.detach()).sum(1, keepdim=True).numpy()


def blind(_network: nn.Module, images: np.ndarray, _targets: np.ndarray) -> np.ndarray:
    """Sees the image alone."""
    return np.abs(images).sum(1, keepdims=True)


class TestRandomLogit:
    def test_a_map_that_sees_no_class_is_alike(self) -> None:
        case = net_case(4)
        maps = blind(case.model, case.images, case.targets)  # type: ignore[arg-type]
        values = RandomLogit()(replace(case, maps=maps, explain=blind))["random_logit"]
        assert np.allclose(values, 1, atol=1e-3)

    def test_a_map_that_sees_the_class_is_not(self) -> None:
        case = square_case(3)
        assert (RandomLogit()(case)["random_logit"] < 0.6).all()

    def test_other_classes_are_never_the_target(self) -> None:
        targets = np.arange(200) % 5
        others = other_classes(targets, 5, seed=3)
        assert (others != targets).all()
        assert set(others.tolist()) == set(range(5))

    def test_likeness_of_a_map_with_itself_is_one(self) -> None:
        maps = np.random.default_rng(0).random((2, 1, 16, 16))
        assert np.allclose(similarity(maps, maps), 1)
        assert (similarity(maps, -maps) < 0.5).all()


class TestMprt:
    def test_random_weights_are_other_weights_and_the_network_keeps_its_own(self) -> None:
        model = net_case(1).model
        assert model is not None
        before = {key: value.clone() for key, value in model.state_dict().items()}
        first, repeated, reseeded = randomise(model, 0), randomise(model, 0), randomise(model, 1)
        weights = [dict(network.named_parameters())["conv1.0.weight"] for network in (model, first, repeated, reseeded)]
        assert torch.equal(weights[1], weights[2])
        assert not torch.equal(weights[0], weights[1])
        assert not torch.equal(weights[1], weights[3])
        assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())

    def test_a_map_that_sees_no_network_is_the_same_for_a_random_one(self) -> None:
        case = net_case(3)
        maps = blind(case.model, case.images, case.targets)  # type: ignore[arg-type]
        values = Mprt(seeds=1)(replace(case, maps=maps, explain=blind))
        assert np.allclose(values["mprt"], 1, atol=1e-3)
        assert np.allclose(values["efficient_mprt"], 0, atol=1e-2)

    @pytest.mark.slow
    def test_a_map_that_sees_the_network_changes(self) -> None:
        case = net_case(3)
        maps = gradient(case.model, case.images, case.targets)  # type: ignore[arg-type]
        assert (Mprt(seeds=2)(replace(case, maps=maps, explain=gradient))["mprt"] < 0.9).all()

    def test_entropies_of_one_value_and_of_two(self) -> None:
        maps = np.zeros((2, 1, 4, 4))
        maps[1, 0, :2] = 1
        assert np.allclose(entropies(maps), [0, np.log(2)])
