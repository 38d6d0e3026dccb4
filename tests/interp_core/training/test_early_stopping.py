"""Early stopping keeps the best weights, by the loss on validation images or by accuracy."""

from __future__ import annotations

import copy

import pytest
import torch
from helpers.learners import make_tiny, same_weights, squares
from torch import nn

from interp_core import Recipe, fit
from interp_core.errors import ContractError
from interp_core.knowledge import terms
from interp_core.training import DEFAULT_TERMS, Epoch, step_losses
from interp_core.training.early_stopping import EarlyStopping

pytestmark = pytest.mark.slow


def update_each(stopping: EarlyStopping, values: list[float], model: nn.Linear) -> list[bool]:
    """Return whether training should stop after each epoch; the weight is the number of the epoch."""
    stops = []
    for number, value in enumerate(values, 1):
        nn.init.constant_(model.weight, number)
        stopping.update(Epoch(number, 0.0, val_accuracy=value, val_loss=value), model)
        stops.append(stopping.should_stop)
    return stops


@pytest.mark.parametrize(
    ("metric", "values", "stops", "best"),
    [
        ("loss", [3.0, 2.0, 2.5, 2.6], [False, False, False, True], 2),
        ("loss", [3.0, 3.0, 3.0], [False, False, True], 1),
        ("loss", [float("nan"), 1.0, float("nan")], [False, False, False], 2),
        ("accuracy", [0.5, 0.9, 0.9, 0.8], [False, False, False, True], 2),
    ],
)
def test_patience_by_hand(metric: str, values: list[float], stops: list[bool], best: int) -> None:
    stopping, model = EarlyStopping(Recipe(patience=2, metric=metric)), nn.Linear(1, 1)  # type: ignore[arg-type]
    assert update_each(stopping, values, model) == stops
    stopping.restore(model)
    assert model.weight.item() == best


def test_without_patience_the_last_weights_stay() -> None:
    stopping, model = EarlyStopping(Recipe()), nn.Linear(1, 1)
    assert update_each(stopping, [1.0, 2.0, 3.0, 4.0], model) == [False] * 4
    stopping.restore(model)
    assert model.weight.item() == 4


def test_training_stops_where_validation_worsens_and_the_best_weights_come_back() -> None:
    images, targets = squares()
    wrong = (targets + 1) % 3  # the better it learns, the worse this gets
    recipe = Recipe(epochs=20, batch_size=16, learning_rate=0.02, patience=2)
    model, states = make_tiny(lap=True), []
    history = fit(
        model, images, targets, recipe=recipe, terms=DEFAULT_TERMS, validation=(images, wrong),
        progress=lambda _: states.append(copy.deepcopy(model)),
    )  # fmt: skip
    worst = [epoch.val_loss for epoch in history]
    best = worst.index(min(worst))  # type: ignore[type-var]
    assert len(history) == best + 1 + 2 < 20
    assert same_weights(model, states[best])
    assert not same_weights(model, states[-1])


def test_the_loss_on_validation_images_has_all_terms() -> None:
    images, targets = squares(20)
    model = make_tiny(lap=True)
    recipe = Recipe(epochs=1, batch_size=10, patience=1)
    validation = (images[:12], targets[:12])
    (epoch,) = fit(model, images, targets, recipe=recipe, terms=DEFAULT_TERMS, validation=validation)
    with torch.no_grad():
        expected = sum(step_losses(model, images[:12], targets[:12], DEFAULT_TERMS).values())
    assert epoch.val_loss == pytest.approx(float(expected), rel=1e-5)


def test_accuracy_costs_no_second_pass() -> None:
    images, targets = squares(20)
    recipe = Recipe(epochs=2, batch_size=10, patience=1, metric="accuracy")
    history = fit(make_tiny(lap=True), images, targets, recipe=recipe, validation=(images, targets))
    assert {epoch.val_loss for epoch in history} == {None}


def test_patience_without_validation_is_refused() -> None:
    with pytest.raises(ContractError, match="early stopping needs validation images"):
        fit(make_tiny(lap=False), *squares(8), recipe=Recipe(batch_size=8, patience=1))


@pytest.mark.skipif("region" not in terms, reason="no term about regions")
def test_terms_about_regions_need_them_in_training_and_not_in_validation() -> None:
    (images, targets), group = squares(16), [*DEFAULT_TERMS, terms["region"]()]
    recipe = Recipe(epochs=1, batch_size=8, patience=1)
    masks = {name: (torch.tensor([1, 4]), torch.ones(2, 1, 16, 16)) for name in group[-1].needs()}
    with pytest.raises(ContractError, match="regions that are not given: "):
        fit(make_tiny(lap=True), images, targets, recipe=recipe, terms=group, validation=(images, targets))
    history = fit(
        make_tiny(lap=True), images, targets, recipe=recipe, terms=group, regions=masks, validation=(images, targets)
    )
    assert history[0].val_loss is not None
    assert torch.isfinite(torch.tensor([history[0].loss, history[0].val_loss])).all()
