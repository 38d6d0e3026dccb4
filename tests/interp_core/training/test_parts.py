"""A fit in parts ends with the weights of a fit of whole batches, and small fits are not divided."""

from __future__ import annotations

import pytest
import torch
from helpers.learners import make_smooth, same_weights, squares

from interp_core import LapModel, Recipe, fit
from interp_core.errors import ContractError
from interp_core.knowledge import Area, OwnOrder
from interp_core.training import Callback
from interp_core.training.parts import GIB, PassCost, choose_part, measure_pass

pytestmark = pytest.mark.slow

RECIPE = Recipe(mode="frozen", epochs=2, batch_size=16, shift=1)
TINY = 4 * 2**10 / GIB  # of memory, which a single image of these takes


def fitted(memory: float | None) -> LapModel:
    lap = make_smooth().eval()
    fit(lap, *squares(32), recipe=RECIPE, memory=memory)
    return lap


def test_parts_change_weights_by_rounding_only() -> None:
    whole, parts = fitted(1000), fitted(TINY)
    start = make_smooth().redistribution.state_dict()
    moved = False
    for name, value in whole.redistribution.state_dict().items():
        moved |= not torch.equal(start[name], value)
        if name != "out.0.bias":  # window weights are a softmax of its layer, so that rounding alone moves it
            torch.testing.assert_close(parts.redistribution.state_dict()[name], value, rtol=1e-4, atol=1e-6)
    assert moved
    images, _ = squares(32)
    torch.testing.assert_close(parts.explain(images).map, whole.explain(images).map, rtol=1e-4, atol=1e-6)


def test_small_images_are_passed_as_a_whole_by_default() -> None:
    assert same_weights(fitted(None), fitted(1000))


def test_the_graph_of_a_pass_is_measured() -> None:
    cost = measure_pass(make_smooth().eval(), (3, 16, 16), torch.device("cpu"))
    # Stem of 8 x 8 x 8 and body of 16 x 4 x 4 with their ReLUs, in single precision, and little else.
    assert 4 * (512 + 256) <= cost.memory <= 10 * 4 * (512 + 256)
    assert cost.seconds > 0


@pytest.mark.parametrize(("images", "budget", "part"), [(8, 16, None), (9, 16, 9), (64, 16, 16), (64, 0.5, 1)])
def test_parts_are_as_large_as_fits(images: int, budget: float, part: int | None) -> None:
    cost = PassCost(memory=GIB, seconds=1.0)
    assert choose_part(cost, images, (OwnOrder(), Area()), budget) == part


class Notes(Callback):
    def __init__(self) -> None:
        self.events: list[str] = []

    def begin(self, total: int, done: int) -> None:
        self.events.append("begin")

    def estimate(self, seconds: float) -> None:
        assert 0 < seconds < 60
        self.events.append("estimate")

    def step(self, done: int) -> None:
        self.events.append("step")


def test_an_estimate_of_the_time_comes_before_the_first_step() -> None:
    notes = Notes()
    fit(make_smooth().eval(), *squares(16), recipe=RECIPE.model_copy(update={"epochs": 1}), progress=notes)
    assert notes.events == ["begin", "estimate", "step"]


def test_no_memory_is_refused() -> None:
    with pytest.raises(ContractError, match="memory"):
        fitted(0)
