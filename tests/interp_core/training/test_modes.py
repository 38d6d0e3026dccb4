"""What learns in each mode, how fast, and what must stay as it is."""

from __future__ import annotations

import copy
from collections.abc import Mapping
from typing import Any

import pytest
import torch
from helpers.learners import TinyNet, make_tiny, squares
from torch import Tensor, nn

import interp_core
from interp_core import LapModel, Recipe, fit
from interp_core.errors import ContractError
from interp_core.knowledge import Absence, Area, Presence
from interp_core.training import DEFAULT_TERMS, OWN_TERMS, Epoch, decision_loss, initialise_attention, predict
from interp_core.training.modes import parameter_groups, set_training_mode

pytestmark = pytest.mark.slow

SHORT = {"epochs": 2, "batch_size": 8, "shift": 1}


def lap() -> LapModel:
    model = make_tiny(lap=True)
    assert isinstance(model, LapModel)
    return model


def changed_weights(model: nn.Module, before: nn.Module) -> set[str]:
    """Names of parameters and buffers that differ."""
    old = before.state_dict()
    return {key for key, value in model.state_dict().items() if not torch.equal(value, old[key])}


def test_a_mode_has_defaults_which_fields_replace() -> None:
    assert Recipe() == Recipe(mode="scratch")
    assert (Recipe().backbone_rate, Recipe().fixed_norms, Recipe().patience) == (1.0, False, None)
    tuned = Recipe(mode="finetune", epochs=3)
    assert (tuned.epochs, tuned.backbone_rate, tuned.fixed_norms) == (3, 0.1, True)
    assert Recipe(mode="finetune", backbone_rate=0.5).backbone_rate == 0.5
    assert Recipe(**tuned.model_dump()) == tuned


@pytest.mark.parametrize("learn_gates", [True, False])
def test_frozen_moves_what_the_model_owns_and_nothing_else(learn_gates: bool) -> None:
    model = lap()
    before = copy.deepcopy(model)
    recipe = Recipe(mode="frozen", learn_gates=learn_gates, start_a=0.5, **SHORT)
    fit(model, *squares(16), recipe=recipe, terms=(*DEFAULT_TERMS, *OWN_TERMS))
    owned = ("head.", "redistribution.", "gates.") if learn_gates else ("head.", "redistribution.")
    expected = {name for name, _ in model.named_parameters() if name.startswith(owned)}
    marks = {name for name, _ in model.named_buffers() if name.endswith(".trained") and learn_gates}
    assert changed_weights(model, before) == expected | marks
    assert all(parameter.requires_grad for parameter in model.parameters())
    assert all(parameter.grad is None for parameter in model.backbone.parameters())
    assert all(gate.a.item() != 0 for gate in model.gates) == learn_gates  # type: ignore[operator]


def test_frozen_lets_go_of_the_backbone_also_where_training_breaks_off() -> None:
    model = lap()
    model.backbone.fc.bias.requires_grad_(False)  # type: ignore[union-attr, operator]

    def stop(_epoch: Epoch) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit(model, *squares(8), recipe=Recipe(mode="frozen", **SHORT), progress=stop)
    assert [name for name, p in model.named_parameters() if not p.requires_grad] == ["backbone.fc.bias"]


@pytest.mark.parametrize("learn_gates", [True, False])
def test_features_take_no_graph_where_nothing_below_the_head_learns(learn_gates: bool) -> None:
    model, graphs, modes = lap(), [], []

    def look(module: nn.Module, _inputs: tuple, output: Tensor) -> None:
        graphs.append(output.requires_grad)
        modes.append(module.training)

    handle = model.backbone.body.register_forward_hook(look)  # type: ignore[union-attr, operator]
    recipe = Recipe(mode="frozen", learn_gates=learn_gates, **SHORT)
    fit(model, *squares(16), recipe=recipe, terms=DEFAULT_TERMS)
    handle.remove()
    assert graphs == [learn_gates] * 4
    assert modes == [False] * 4


def test_frozen_gives_a_trained_network_maps_and_leaves_its_answers() -> None:
    plain, (images, targets) = make_tiny(lap=False), squares()
    fit(plain, images, targets, recipe=Recipe(epochs=12, batch_size=16, learning_rate=0.02, shift=1))
    before, model = predict(plain, images).argmax(1), interp_core.attach(plain, finest=2)
    recipe = Recipe(mode="frozen", epochs=8, batch_size=16, learning_rate=0.02)
    history = fit(model, images, targets, recipe=recipe, terms=DEFAULT_TERMS)
    assert history[-1].loss < 0.8 * history[0].loss
    assert (predict(model, images).argmax(1) == before).float().mean() > 0.95


def test_a_plain_network_has_nothing_beside_its_backbone() -> None:
    with pytest.raises(ContractError, match="TinyNet has no backbone: attach LAP first"):
        fit(make_tiny(lap=False), *squares(64), mode="frozen")


def test_a_network_of_which_nothing_learns_is_refused() -> None:
    model = make_tiny(lap=False).requires_grad_(False)
    with pytest.raises(ContractError, match="nothing of TinyNet learns"):
        fit(model, *squares(8), recipe=Recipe(**SHORT))


def test_the_mode_is_said_once() -> None:
    with pytest.raises(ContractError, match="mode 'scratch'"):
        fit(lap(), *squares(8), mode="frozen", recipe=Recipe(**SHORT))
    fit(lap(), *squares(8), mode="frozen", recipe=Recipe(mode="frozen", **SHORT))


def test_finetune_leaves_running_statistics_and_moves_the_backbone_a_tenth_as_far() -> None:
    model = lap()
    before = copy.deepcopy(model)
    initialise_attention(before, 0.5)
    recipe = Recipe(mode="finetune", epochs=1, batch_size=8, weight_decay=0, clip=None)
    fit(model, *squares(24), recipe=recipe)
    assert not any("running" in name or "num_batches" in name for name in changed_weights(model, before))
    distances = {
        name: (parameter - old).abs().max().item()
        for (name, parameter), old in zip(model.named_parameters(), before.parameters(), strict=True)
    }
    # Adam's steps are about the rate times the sign of the gradient.
    slow = max(value for name, value in distances.items() if name.startswith("backbone."))
    fast = max(value for name, value in distances.items() if not name.startswith("backbone."))
    assert slow == pytest.approx(0.1 * fast, rel=0.2)
    assert slow > 1e-5


@pytest.mark.parametrize("mode", ["scratch", "finetune"])
def test_without_attention_the_backbone_learns_what_its_twin_learns(mode: str) -> None:
    plain, model = make_tiny(lap=False), lap()
    recipe = Recipe(mode=mode, start_a=None, **SHORT)  # type: ignore[arg-type]
    for network in (plain, model):
        fit(network, *squares(24), recipe=recipe.model_copy(update={"backbone_rate": 1.0}), terms=())
    torch.testing.assert_close(model.backbone.state_dict(), plain.state_dict(), rtol=0, atol=1e-6)


@pytest.mark.parametrize("through", [True, False])
def test_the_recipe_says_whether_features_learn_through_attention(through: bool) -> None:
    model, rules = lap(), []

    def record(_epoch: Epoch) -> None:
        rules.append({block.attention_gradient for block in (*model.gates, model.head)})  # type: ignore[union-attr]

    recipe = Recipe(attention_gradient=through, **SHORT)
    fit(model, *squares(8), recipe=recipe, progress=record)
    assert rules == [{through}] * 2
    assert not model.head.attention_gradient


def test_terms_on_maps_of_classes_leave_the_features_to_the_decision() -> None:
    networks = []
    for terms in ((), (Presence(), Absence(), Area())):
        model = lap()
        recipe = Recipe(start_a=None, **SHORT)
        fit(model, *squares(24), recipe=recipe, terms=terms)
        networks.append(model)
    without, taught = networks
    torch.testing.assert_close(taught.backbone.state_dict(), without.backbone.state_dict(), rtol=0, atol=1e-6)
    assert not torch.equal(taught.head.scorer.expand.weight, without.head.scorer.expand.weight)


def test_groups_of_the_backbone_have_their_own_rate() -> None:
    model = lap()
    groups = parameter_groups(model, Recipe(learning_rate=1.0, backbone_rate=0.25, weight_decay=0.5))
    assert [(group["lr"], group["weight_decay"]) for group in groups] == [(1, 0.5), (1, 0), (0.25, 0.5), (0.25, 0)]
    outside = {p for group in groups[:2] for p in group["params"]}
    assert outside == {*model.gates.parameters(), *model.head.parameters(), *model.redistribution.parameters()}
    assert sum(len(group["params"]) for group in groups) == len(list(model.parameters()))
    plain = parameter_groups(TinyNet(), Recipe(learning_rate=1.0, backbone_rate=0.25))
    assert [group["lr"] for group in plain] == [0.25, 0.25]


def test_only_what_learns_is_in_training_mode() -> None:
    model = lap()
    model.backbone.stem.append(nn.Dropout())  # type: ignore[union-attr, operator]
    model.backbone.stem.requires_grad_(False)  # type: ignore[union-attr, operator]
    set_training_mode(model, Recipe())
    evaluated = {name for name, module in model.named_modules() if not module.training}
    assert evaluated == {"backbone.stem", *(f"backbone.stem.{number}" for number in range(4))}
    set_training_mode(model, Recipe(fixed_norms=True))
    assert not model.backbone.body[1].training  # type: ignore[union-attr, index]
    assert model.backbone.body[0].training  # type: ignore[union-attr, index]


def test_attention_that_does_not_learn_stays_off() -> None:
    model = lap()
    model.gates.requires_grad_(False)
    initialise_attention(model, 0.5)
    assert [block.a.item() for block in (*model.gates, model.head)] == [0, 0.5]  # type: ignore[operator]


class Rival(nn.Module):
    """A model with losses of its own on a backbone, with a word about every image's region."""

    def __init__(self) -> None:
        super().__init__()
        self.backbone, self.scale = TinyNet(), nn.Parameter(torch.ones(()))
        self.seen: list[tuple[Tensor, dict[str, Tensor]]] = []

    def forward(self, images: Tensor) -> Tensor:
        return self.backbone(images) * self.scale

    def losses(self, images: Tensor, targets: Tensor, regions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        self.seen.append((images, dict(regions)))
        return {"decision": decision_loss(self(images), targets), "small": 0.1 * self.scale.square()}


def test_a_model_with_losses_of_its_own_is_trained_by_them() -> None:
    model = Rival()
    (epoch,) = fit(model, *squares(16), recipe=Recipe(epochs=1, batch_size=8))
    assert set(epoch.terms) == {"decision", "small"}
    assert model.scale.item() != 1
    frozen = copy.deepcopy(model)
    fit(frozen, *squares(16), recipe=Recipe(mode="frozen", epochs=1, batch_size=8))
    assert changed_weights(frozen, model) == {"scale"}


def test_regions_go_where_their_images_go() -> None:
    model, (images, targets) = Rival(), squares(16)
    images = torch.rand(images.shape, generator=torch.Generator().manual_seed(0))
    which = torch.tensor([3, 0, 9])
    masks = images[which, :1]  # so that a region can be told from its image
    recipe = Recipe(epochs=2, batch_size=8, shift=3, flip=True)
    fit(model, images, targets, recipe=recipe, regions={"object": (which, masks), "tag": (which[:1], masks[:1] > 0.5)})
    count = 0
    for batch, regions in model.seen:
        assert {name: region.shape for name, region in regions.items()} == dict.fromkeys(
            ("object", "tag"), (8, 1, 16, 16)
        )
        has_mask = ~regions["object"].isnan().flatten(1).all(1)
        torch.testing.assert_close(regions["object"][has_mask], batch[has_mask, :1])
        tagged = ~regions["tag"].isnan().flatten(1).all(1)
        assert torch.equal(regions["tag"][tagged], (batch[tagged, :1] > 0.5).float())
        count += int(has_mask.sum())
    assert count == 2 * 3


@pytest.mark.parametrize(
    ("which", "masks"),
    [
        ([0, 0], torch.zeros(2, 1, 16, 16)),
        ([16], torch.zeros(1, 1, 16, 16)),
        ([0], torch.zeros(1, 16, 16)),
        ([0], torch.zeros(1, 1, 8, 8)),
        ([0.0], torch.zeros(1, 1, 16, 16)),
    ],
)
def test_regions_that_fit_no_image_are_refused(which: list[Any], masks: Tensor) -> None:
    with pytest.raises(ContractError, match="region 'tag' must be indices"):
        fit(lap(), *squares(16), recipe=Recipe(**SHORT), regions={"tag": (torch.tensor(which), masks)})


def test_frozen_sees_the_backbone_of_a_compiled_model() -> None:
    model = lap()
    before = copy.deepcopy(model)
    fit(
        torch.compile(model, backend="eager"),
        *squares(16),
        recipe=Recipe(mode="frozen", learn_gates=True, start_a=0.5, **SHORT),
        terms=(*DEFAULT_TERMS, *OWN_TERMS),
    )  # type: ignore[arg-type]
    expected = {name for name, _ in model.named_parameters() if not name.startswith("backbone.")}
    assert changed_weights(model, before) == expected | {name for name, _ in model.named_buffers() if "trained" in name}


def test_interp_core_stays_without_accelerate_until_it_trains() -> None:
    import subprocess
    import sys

    code = "import sys, interp_core; assert 'accelerate' not in sys.modules and 'rich' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], check=True, cwd=interp_core.__path__[0] + "/..")
