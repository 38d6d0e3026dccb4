from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor, nn

from baselines import Explainer
from benchmarks.config.run import RunConfig
from benchmarks.plan.cells import train_cells
from benchmarks.run.applicability import Applicability, applicability
from benchmarks.run.engine import Engine
from benchmarks.run.training import TrainedNetwork


class Picky(Explainer):
    """Explainer that refuses linear layers, doubts ReLU, and fails on networks with children."""

    def refusal(self, model: nn.Module) -> str | None:
        if list(model.children()):
            raise KeyError("layer")
        return "no linear layers" if isinstance(model, nn.Linear) else None

    def caveat(self, model: nn.Module) -> str | None:
        return "coarse maps" if isinstance(model, nn.ReLU) else None

    def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
        return images


@pytest.mark.parametrize(
    ("network", "expected"),
    [
        (nn.Linear(1, 1), Applicability("no linear layers")),
        (nn.ReLU(), Applicability(caveat="coarse maps")),
        (nn.Identity(), Applicability()),
        (nn.Sequential(nn.Identity()), Applicability("KeyError: 'layer'")),
    ],
)
def test_the_answer_has_reason_or_caveat(network: nn.Module, expected: Applicability) -> None:
    answer = applicability(Picky(), network)
    assert answer == expected
    assert answer.applies == (expected.reason is None)


def test_asking_twice_records_nothing(tiny: Callable[..., RunConfig]) -> None:
    engine = Engine(tiny(explainers=["lap", "grad_cam", "random"]))
    (cell, *_) = train_cells(engine.config, engine.components)
    trained = TrainedNetwork(cell, nn.Identity(), {})
    before = engine.record.to_json()
    assert engine._check_explainers(trained) == engine._check_explainers(trained)
    assert engine.counters.problems == []
    assert engine.record.to_json() == before


def test_unreadable_images_are_listed_without_being_recorded(tiny: Callable[..., RunConfig]) -> None:
    engine = Engine(tiny())
    (cell, *_) = train_cells(engine.config, engine.components)
    networks = [TrainedNetwork(cell, nn.Identity(), {"unreadable": {"train": {name: "broken"}}}) for name in "ab"]
    expected = {"train": {"a": "broken", "b": "broken"}}
    assert engine._unreadable_images(networks) == engine._unreadable_images(networks) == expected
    assert engine.counters.problems == []


def test_maps_that_a_network_does_not_bring_are_no_problem(tiny: Callable[..., RunConfig]) -> None:
    engine = Engine(tiny(explainers=["lap", "lap_refined", "lap_steps", "guided_backprop"]))
    (cell, *_) = train_cells(engine.config, engine.components)
    trained = TrainedNetwork(cell, nn.Identity(), {})
    checks = engine._check_explainers(trained)
    engine._record_checks(trained, checks)
    assert all(check.reason is not None for check in checks.values())
    assert [problem.where for problem in engine.counters.problems] == [f"{cell.model.name}, guided_backprop"]
