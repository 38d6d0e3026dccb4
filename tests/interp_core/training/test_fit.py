"""`fit` learns what can be learned, the same way for a seed, for plain networks and LAP models alike."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from helpers.learners import COLOURS, MemorySource, make_tiny, squares
from pydantic import ValidationError
from torch import Tensor, nn

import interp_core
from interp_core import LapModel, Recipe, fit
from interp_core.errors import ContractError
from interp_core.knowledge import Absence, Area, Presence, view_of
from interp_core.lap.recording import Recording
from interp_core.training import (
    DEFAULT_TERMS,
    Epoch,
    decision_loss,
    eval_batch_size,
    evaluate,
    initialise_attention,
    is_correct,
    predict,
    shifted,
    step_losses,
)

pytestmark = pytest.mark.slow

QUICK = Recipe(epochs=1, batch_size=8, shift=1)
MakeLap = Callable[..., LapModel]


@pytest.mark.parametrize("lap", [False, True])
@pytest.mark.parametrize("channels_last", [False, True])
def test_it_learns_a_task_that_colour_decides(lap: bool, channels_last: bool) -> None:
    model = make_tiny(lap=lap)
    images, targets = squares()
    recipe = Recipe(epochs=12, batch_size=16, learning_rate=0.02, shift=1, channels_last=channels_last)
    history = fit(model, images, targets, recipe=recipe)
    assert evaluate(model, images, targets) >= 0.95
    assert history[-1].terms["cross_entropy"] < 0.5 * history[0].terms["cross_entropy"]
    assert history[-1].loss < history[0].loss
    assert not any(module.training for module in model.modules())


def test_the_map_of_a_trained_lap_model_points_at_the_square() -> None:
    model = make_tiny(lap=True)
    images, targets = squares()
    fit(model, images, targets, recipe=Recipe(epochs=20, batch_size=16, learning_rate=0.02, shift=1))
    assert isinstance(model, LapModel)
    maps = model.explain(images, targets).map
    inside = images.gather(1, targets[:, None, None, None].expand(-1, 1, 16, 16)) > 1
    share = (maps * inside).sum((1, 2, 3)) / maps.sum((1, 2, 3))
    # The square covers 25 of 256 pixels.
    assert share.mean() > 3 * 25 / 256


def test_history_and_progress_tell_the_same(capsys: pytest.CaptureFixture[str]) -> None:
    epochs: list[Epoch] = []
    images, targets = squares(20)
    recipe = Recipe(epochs=3, batch_size=8)
    model = make_tiny(lap=True)
    history = fit(model, images, targets, recipe=recipe, validation=(images, targets), progress=epochs.append)
    assert [epoch.epoch for epoch in history] == [1, 2, 3]
    assert all(a is b for a, b in zip(history, epochs, strict=True))
    for epoch in history:
        assert set(epoch.terms) == {"cross_entropy", "presence", "absence", "area", "own_order"}
        assert epoch.loss == pytest.approx(sum(epoch.terms.values()))
        assert epoch.val_accuracy is not None
        assert 0 <= epoch.val_accuracy <= 1
    assert history[-1].val_accuracy == evaluate(model, images, targets)
    assert [epoch.seconds for epoch in history] == sorted(epoch.seconds for epoch in history)
    assert capsys.readouterr().out == ""


def test_without_validation_there_is_no_accuracy() -> None:
    (epoch,) = fit(make_tiny(lap=False), *squares(8), recipe=QUICK)
    assert epoch.val_accuracy is None
    assert set(epoch.terms) == {"cross_entropy"}


def test_the_last_short_batch_is_left_out() -> None:
    sizes: list[int] = []
    model = make_tiny(lap=False)
    model.register_forward_pre_hook(lambda _module, inputs: sizes.append(len(inputs[0])))
    fit(model, *squares(21), recipe=Recipe(epochs=2, batch_size=8))
    assert sizes == [8, 8, 8, 8]


def test_no_gradient_is_carried_into_the_next_step() -> None:
    model, gradients = make_tiny(lap=False), []
    images, targets = squares(8)
    recipe = Recipe(epochs=3, batch_size=8, learning_rate=1e-12, shift=0)
    fit(model, images, targets, recipe=recipe, progress=lambda _: gradients.append(model.fc.bias.grad.clone()))  # type: ignore[union-attr, operator]
    torch.testing.assert_close(gradients[1], gradients[0])
    torch.testing.assert_close(gradients[2], gradients[0])
    assert gradients[0].abs().sum() > 0


def state_after_fit(seed: int, *, lap: bool, elsewhere: int) -> dict[str, Tensor]:
    model = make_tiny(lap=lap)
    torch.manual_seed(elsewhere)  # the global generator must not matter
    fit(model, *squares(24), recipe=Recipe(epochs=2, batch_size=8, seed=seed))
    return model.state_dict()


@pytest.mark.parametrize("lap", [False, True])
def test_a_seed_decides_everything(lap: bool) -> None:
    first, second = (state_after_fit(3, lap=lap, elsewhere=elsewhere) for elsewhere in (1, 2))
    different = state_after_fit(4, lap=lap, elsewhere=1)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert any(not torch.equal(first[key], different[key]) for key in first)


def test_step_losses_are_the_weighted_terms(make_lap: MakeLap, images: Tensor) -> None:
    lap, targets = make_lap(), torch.tensor([1, 3])
    losses = step_losses(lap, images, targets, [Presence(weight=0.5), Area(weight=3.0, high=0.1)])
    recording = Recording(all_concepts=True)
    logits = lap(images, recording)
    concepts = recording.head.concepts
    labels = torch.tensor([[0.0, 1.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0]])
    assert concepts is not None
    assert list(losses) == ["cross_entropy", "presence", "area"]
    torch.testing.assert_close(losses["cross_entropy"], F.cross_entropy(logits, targets))
    torch.testing.assert_close(losses["presence"], 0.5 * Presence().loss(view_of(concepts, labels)))
    torch.testing.assert_close(losses["area"], 3 * Area(high=0.1).loss(view_of(concepts, labels)))


def test_step_losses_of_a_plain_network_or_without_terms(make_lap: MakeLap, images: Tensor) -> None:
    lap, targets = make_lap(), torch.tensor([1, 3])
    expected = F.cross_entropy(lap(images), targets)
    losses = step_losses(lap, images, targets, [])
    assert list(losses) == ["cross_entropy"]
    torch.testing.assert_close(losses["cross_entropy"], expected)
    plain = interp_core.detach(lap)
    assert list(step_losses(plain, images, targets, DEFAULT_TERMS)) == ["cross_entropy"]


class Wrapper(nn.Module):
    """A module around the model, called in its place, that hands all arguments on as parallel wrappers do."""

    def __init__(self, module: nn.Module) -> None:
        super().__init__()
        self.module = module

    def forward(self, *arguments: Any) -> Tensor:
        return self.module(*arguments)


@pytest.mark.parametrize("wrap", [Wrapper, lambda lap: torch.compile(lap, backend="eager")])
def test_a_wrapped_lap_model_learns_by_its_terms_too(
    wrap: Callable[[nn.Module], nn.Module], make_lap: MakeLap, images: Tensor
) -> None:
    lap, targets = make_lap().train(), torch.tensor([1, 3])
    expected = step_losses(copy.deepcopy(lap), images, targets, DEFAULT_TERMS)
    losses = step_losses(wrap(lap), images, targets, DEFAULT_TERMS)
    assert len(losses) == len(expected) > 1
    torch.testing.assert_close(losses, expected)


def test_two_terms_of_one_kind_both_count(make_lap: MakeLap, images: Tensor) -> None:
    lap, targets = make_lap(), torch.tensor([1, 3])
    tight, loose = Area(low=0.0, high=0.0), Area(low=1.0, high=1.0)
    total, first, second = (
        sum(step_losses(lap, images, targets, group).values()) for group in ([tight, loose], [tight], [loose])
    )
    cross_entropy = step_losses(lap, images, targets, [])["cross_entropy"]
    torch.testing.assert_close(total, first + second - cross_entropy)


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_050"])
def test_a_step_needs_no_second_derivative(
    name: str, make_lap: MakeLap, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    def forbidden(*_args: Any, **_kwargs: Any) -> None:
        raise AssertionError("a gradient was asked for inside the step")

    monkeypatch.setattr(torch.autograd, "grad", forbidden)
    lap = make_lap(name).train()
    for block in (*lap.gates, lap.head):
        block.attention_gradient = True  # so that concept maps teach the features too
    losses = step_losses(lap, images, torch.tensor([1, 3]), [Presence(), Absence()])
    assert losses["presence"].requires_grad
    (losses["presence"] + losses["absence"]).backward()
    assert lap.head.scorer.expand.weight.grad is not None
    assert lap.head.scorer.expand.weight.grad.abs().sum() > 0
    stem = next(p for p in lap.backbone.parameters() if p.ndim == 4)
    assert stem.grad is not None
    assert stem.grad.abs().sum() > 0


def test_attention_starts_where_it_is_zero_and_only_there(make_lap: MakeLap) -> None:
    lap = make_lap(a=0.0)
    nn.init.constant_(lap.head.a, -0.5)
    initialise_attention(lap, 2.0)
    assert [block.a.item() for block in lap.gates] == [2.0] * len(lap.gates)  # type: ignore[union-attr, operator]
    assert lap.head.a.item() == -0.5


def test_training_moves_a_away_from_its_start() -> None:
    model = make_tiny(lap=True)
    assert isinstance(model, LapModel)
    blocks = [*model.gates, model.head]
    assert all(block.a.item() == 0 for block in blocks)  # type: ignore[union-attr, operator]
    fit(model, *squares(24), recipe=Recipe(epochs=2, batch_size=8, start_a=1.5))
    assert len(blocks) == 2
    for block in blocks:
        assert block.a.item() not in (0.0, 1.5)  # type: ignore[union-attr, operator]
        assert abs(block.a.item() - 1.5) < 0.5  # type: ignore[union-attr, operator]


def test_frozen_weights_stay(images: Tensor) -> None:
    model = make_tiny(lap=True)
    assert isinstance(model, LapModel)
    model.backbone.requires_grad_(False)
    before = copy.deepcopy(dict(model.named_parameters()))
    fit(model, *squares(16), recipe=QUICK)
    for name, parameter in model.named_parameters():
        assert torch.equal(parameter, before[name]) == name.startswith("backbone."), name


def test_decay_falls_on_weights_of_two_dimensions_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    groups: list[dict] = []
    adamw = torch.optim.AdamW

    def spy(parameters: list[dict], **kwargs: Any) -> torch.optim.Optimizer:
        groups.extend(parameters)
        return adamw(parameters, **kwargs)

    monkeypatch.setattr(torch.optim, "AdamW", spy)
    model = make_tiny(lap=True)
    fit(model, *squares(8), recipe=QUICK)
    decayed, free = groups
    assert (decayed["weight_decay"], free["weight_decay"]) == (0.05, 0.0)
    assert {p.ndim for p in decayed["params"]} == {2, 4}
    assert {p.ndim for p in free["params"]} == {0, 1}
    assert len(decayed["params"]) + len(free["params"]) == len(list(model.parameters()))


@pytest.mark.parametrize("steps", [1, 2, 3])
def test_a_run_may_be_very_short(steps: int) -> None:
    history = fit(make_tiny(lap=False), *squares(8 * steps), recipe=QUICK)
    assert torch.isfinite(torch.tensor(history[0].loss))


@pytest.mark.parametrize(
    ("images", "targets"),
    [
        (torch.zeros(8, 3, 16), torch.zeros(8, dtype=torch.long)),
        (torch.zeros(8, 3, 16, 16), torch.zeros(7, dtype=torch.long)),
        (torch.zeros(8, 3, 16, 16), torch.zeros(8, 1, dtype=torch.long)),
        (torch.zeros(8, 3, 16, 16), torch.zeros(8)),
    ],
)
def test_images_and_targets_must_fit_each_other(images: Tensor, targets: Tensor) -> None:
    with pytest.raises(ContractError, match=r"images \(N, C, H, W\) and integer targets \(N,\)"):
        fit(make_tiny(lap=False), images, targets, recipe=QUICK)


def test_fewer_images_than_a_batch_are_refused() -> None:
    with pytest.raises(ContractError, match="7 training images are fewer than one batch of 8"):
        fit(make_tiny(lap=False), *squares(7), recipe=QUICK)
    with pytest.raises(ContractError, match="one batch of 64"):
        fit(make_tiny(lap=False), *squares(7))


@pytest.mark.parametrize(
    "fields",
    [
        {"epochs": -1},
        {"batch_size": 1},
        {"learning_rate": 0},
        {"weight_decay": -1},
        {"shift": -1},
        {"start_a": 0},
        {"b": 1},
    ],
)
def test_recipes_out_of_range_are_refused(fields: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(fields))):
        Recipe(**fields)


def test_no_epochs_leave_the_network_as_it_is() -> None:
    model = make_tiny(lap=True).train()
    before = copy.deepcopy(model.state_dict())
    assert fit(model, *squares(4), recipe=Recipe(epochs=0)) == []
    assert not model.training
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())


def test_images_handed_out_batch_by_batch_train_the_same_network() -> None:
    images, targets = squares()
    recipe = Recipe(epochs=2, batch_size=8, shift=1)
    first, second = make_tiny(lap=True), make_tiny(lap=True)
    source = MemorySource(images)
    histories = [
        fit(model, data, targets, recipe=recipe, validation=(data, targets))
        for model, data in ((first, images), (second, source))
    ]
    assert all(torch.equal(value, first.state_dict()[key]) for key, value in second.state_dict().items())
    assert [epoch.val_accuracy for epoch in histories[0]] == [epoch.val_accuracy for epoch in histories[1]]


def test_images_that_cannot_be_read_are_left_out() -> None:
    images, targets = squares()
    recipe = Recipe(epochs=12, batch_size=8, learning_rate=0.02, shift=1)
    model, unreadable = make_tiny(lap=False), range(0, 48, 5)
    images[list(unreadable)] = torch.nan
    fit(model, MemorySource(images, unreadable), targets, recipe=recipe)
    assert evaluate(model, MemorySource(images, unreadable), targets, batch_size=7) >= 0.9
    with pytest.raises(ContractError, match="none of the training images"):
        fit(model, MemorySource(images, range(48)), targets, recipe=recipe)
    assert math.isnan(evaluate(model, MemorySource(images, range(48)), targets))


@pytest.mark.parametrize("lap", [False, True])
def test_several_classes_an_image_are_learned_each_for_itself(lap: bool) -> None:
    images, targets = squares()
    both = (images + images.roll(1, 0)).clamp(max=3)
    labels = ((F.one_hot(targets, COLOURS) + F.one_hot(targets.roll(1, 0), COLOURS)) > 0).float()
    model = make_tiny(lap=lap)
    history = fit(model, both, labels, recipe=Recipe(epochs=20, batch_size=16, learning_rate=0.02, shift=1))
    assert evaluate(model, both, labels) >= 0.9
    assert history[-1].terms["cross_entropy"] < history[0].terms["cross_entropy"]


def test_answers_are_judged_as_their_targets_ask() -> None:
    logits = torch.tensor([[2.0, -1.0, 1.0], [-1.0, -2.0, -3.0]])
    assert is_correct(logits, torch.tensor([0, 1])).tolist() == [1.0, 0.0]
    labels = torch.tensor([[1.0, 0.0, 0.0], [0.0, 0.0, 0.0]])
    assert is_correct(logits, labels).tolist() == pytest.approx([2 / 3, 1.0])
    expected = -torch.where(labels > 0, logits.sigmoid(), 1 - logits.sigmoid()).log().mean()
    torch.testing.assert_close(decision_loss(logits, labels), expected)


def test_fewer_large_images_are_judged_at_once() -> None:
    assert [eval_batch_size((3, side, side)) for side in (64, 96, 224, 4000)] == [256, 256, 47, 8]


@pytest.mark.parametrize("training", [False, True])
def test_predict_is_the_forward_in_evaluation_mode(training: bool) -> None:
    model = make_tiny(lap=False).train(training)
    images, targets = squares(10)
    before = copy.deepcopy(model.state_dict())
    logits = predict(model, images, batch_size=4)
    assert all(module.training == training for module in model.modules())
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert not logits.requires_grad
    torch.testing.assert_close(logits, model.eval()(images))
    count = sum(int(row.argmax()) == target for row, target in zip(logits, targets.tolist(), strict=True))
    assert evaluate(model, images, targets, batch_size=3) == pytest.approx(count / 10)


def test_predict_keeps_frozen_submodules_in_evaluation_mode() -> None:
    model = make_tiny(lap=False).train()
    model.get_submodule("stem.1").eval()
    predict(model, squares(4)[0])
    assert not model.get_submodule("stem.1").training


def slow_shift(image: Tensor, down: int, right: int) -> Tensor:
    height, width = image.shape[-2:]
    result = torch.empty_like(image)
    for y in range(height):
        for x in range(width):
            result[:, y, x] = image[:, min(max(y + down, 0), height - 1), min(max(x + right, 0), width - 1)]
    return result


def test_shifted_moves_each_image_and_repeats_its_edges() -> None:
    images = torch.arange(40.0 * 2 * 4 * 5).reshape(40, 2, 4, 5)
    results = shifted(images, 2, torch.Generator().manual_seed(0))
    assert results.shape == images.shape
    offsets = set()
    for image, result in zip(images, results, strict=True):
        steps = [(d, r) for d in range(-2, 3) for r in range(-2, 3) if torch.equal(result, slow_shift(image, d, r))]
        assert len(steps) == 1
        offsets.update(steps)
    assert {down for down, _ in offsets} == {right for _, right in offsets} == {-2, -1, 0, 1, 2}
    assert len(offsets) > 10


def test_no_shift_is_the_images_themselves() -> None:
    images, _ = squares(4)
    assert shifted(images, 0, torch.Generator()) is images


def test_a_shift_repeats_for_its_seed_and_leaves_its_input() -> None:
    images, _ = squares(4)
    before = images.clone()
    first, second = (shifted(images, 3, torch.Generator().manual_seed(5)) for _ in range(2))
    assert torch.equal(first, second)
    assert not torch.equal(first, images)
    assert torch.equal(images, before)
