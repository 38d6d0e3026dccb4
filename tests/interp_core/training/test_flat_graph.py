"""Terms that look again at a network that does not learn use a flat graph of it: when, and to what effect."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
from torch import Tensor

from interp_core import fit
from interp_core.errors import ContractError
from interp_core.knowledge import Area, Order, Presence, Removal, Sufficiency, Term
from interp_core.lap.attach import attach
from interp_core.lap.model import LapModel
from interp_core.training import Recipe, step_losses
from interp_core.training import loop as running
from interp_core.training.modes import freeze_excluded, make_fast_logits, set_training_mode

pytestmark = pytest.mark.slow

FROZEN = Recipe(mode="frozen", epochs=2, batch_size=4, shift=2)


def network(name: str = "test_resnet") -> LapModel:
    torch.manual_seed(0)
    return attach(timm.create_model(name, num_classes=3), image_size=32, refine=8)


def data() -> tuple[Tensor, Tensor]:
    return torch.randn(8, 3, 32, 32, generator=torch.Generator().manual_seed(0)), torch.arange(8) % 3


def record_fast_logits(
    monkeypatch: pytest.MonkeyPatch, lap: LapModel, recipe: Recipe, terms: list[Term], **more: Any
) -> list[Any]:
    """Return what a training made call by call: a function of a flat graph, or None."""
    calls: list[Any] = []

    def spy(*given: Any) -> Any:
        calls.append(make_fast_logits(*given))
        return calls[-1]

    monkeypatch.setattr(running, "make_fast_logits", spy)
    fit(lap, *data(), recipe=recipe, terms=terms, **more)
    return calls


@pytest.mark.parametrize("name", ["test_resnet", "mobilenetv3_small_050"])
@pytest.mark.parametrize("term", [Order(), Sufficiency(), Removal(patches=2)], ids=lambda term: term.name)
@pytest.mark.parametrize("start_a", [None, 0.5], ids=["network constant", "head learns"])
def test_the_training_is_the_same_to_rounding(
    monkeypatch: pytest.MonkeyPatch, name: str, term: Term, start_a: float | None
) -> None:
    quick, plain = network(name), network(name)
    recipe = FROZEN.model_copy(update={"start_a": start_a})
    calls = record_fast_logits(monkeypatch, quick, recipe, [term])
    assert len(calls) == 1
    assert calls[0] is not None
    monkeypatch.setattr(running, "make_fast_logits", lambda *_: None)
    fit(plain, *data(), recipe=recipe, terms=[term])
    torch.testing.assert_close(quick.head.state_dict(), plain.head.state_dict(), rtol=0, atol=2e-3)
    assert plain.refiner is not None
    assert quick.refiner is not None
    start = network(name).refiner
    assert start is not None
    for fast_weight, plain_weight in zip(quick.refiner.parameters(), plain.refiner.parameters(), strict=True):
        assert torch.allclose(fast_weight, plain_weight, atol=2e-3)
    changed = [not torch.equal(a, b) for a, b in zip(quick.refiner.parameters(), start.parameters(), strict=True)]
    assert any(changed)


def test_further_passes_go_through_the_graph() -> None:
    lap, sizes = network(), []
    with freeze_excluded(lap, FROZEN):
        set_training_mode(lap, FROZEN)
        graph = make_fast_logits(lap, data()[0][:1], "fp32")
        assert graph is not None
        images, targets = data()

        def fast_logits(batch: Tensor) -> Tensor:
            sizes.append(len(batch))
            return graph(batch)

        generator = torch.Generator().manual_seed(0)
        fast = step_losses(lap, images, targets, [Order()], generator=generator, fast_logits=fast_logits)
        generator.manual_seed(0)
        plain = step_losses(lap, images, targets, [Order()], generator=generator)
    assert sizes == [8, 8]
    assert fast["order"].item() == pytest.approx(plain["order"].item(), rel=1e-4)


@pytest.mark.parametrize(
    "recipe",
    [
        Recipe(mode="finetune", epochs=1, batch_size=4),
        Recipe(mode="frozen", epochs=1, batch_size=4, learn_gates=True),
        Recipe(mode="frozen", epochs=1, batch_size=4, precision="bf16"),
    ],
    ids=["finetune", "gates learn", "mixed precision"],
)
def test_no_graph_where_the_features_learn_or_precision_is_mixed(
    monkeypatch: pytest.MonkeyPatch, recipe: Recipe
) -> None:
    assert record_fast_logits(monkeypatch, network(), recipe, [Order()]) == [None]


def test_no_graph_is_made_for_terms_that_do_not_look_again(monkeypatch: pytest.MonkeyPatch) -> None:
    assert record_fast_logits(monkeypatch, network(), FROZEN, [Presence(), Area()]) == []


def test_the_graph_is_of_the_weights_a_checkpoint_brings(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    file = tmp_path / "state"
    stop = KeyboardInterrupt()

    def interrupt(_: object) -> None:
        raise stop

    first = network()
    with pytest.raises(KeyboardInterrupt):
        fit(first, *data(), recipe=FROZEN, terms=[Order()], checkpoint=file, save_every=1, progress=interrupt)
    resumed = network()
    with torch.no_grad():
        next(resumed.backbone.parameters()).add_(1.0)  # what the checkpoint holds is put in its place
    calls = record_fast_logits(monkeypatch, resumed, FROZEN, [Order()], checkpoint=file)
    with torch.no_grad():
        assert torch.allclose(calls[0](data()[0]), first.eval()(data()[0]), atol=1e-4)


def test_modules_keep_their_modes_and_the_state_has_no_graph() -> None:
    lap = network()
    lap.train()
    lap.backbone.eval()
    before = {name: module.training for name, module in lap.named_modules()}
    with freeze_excluded(lap, FROZEN):
        assert make_fast_logits(lap, data()[0][:1], "fp32") is not None
    assert before == {name: module.training for name, module in lap.named_modules()}
    keys = set(lap.state_dict())
    fit(lap, *data(), recipe=FROZEN, terms=[Order()])
    assert set(lap.state_dict()) == keys


def test_terms_speak_of_the_answer_where_that_is_asked() -> None:
    lap, (images, targets) = network().eval(), data()
    answer = lap(images).argmax(1)
    assert not torch.equal(answer, targets)
    recipe = {"mode": "frozen", "epochs": 1, "batch_size": 8, "shift": 0}
    losses = []
    for meant, answers in ((targets, True), (answer, False), (targets, False)):
        history = fit(network(), images, meant, recipe=Recipe(**recipe, answers=answers), terms=[Presence()])
        losses.append(history[-1].terms["presence"])
    assert losses[0] == pytest.approx(losses[1])
    assert losses[0] != pytest.approx(losses[2])


def test_answers_are_for_one_class_an_image() -> None:
    several = torch.ones(8, 3)
    with pytest.raises(ContractError, match="answers"):
        fit(network(), data()[0], several, recipe=Recipe(mode="frozen", epochs=1, batch_size=4, answers=True))
