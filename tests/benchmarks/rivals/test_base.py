"""Contract of every rival; a new one is covered by being registered."""

from __future__ import annotations

from collections.abc import Iterator
from typing import ClassVar

import pytest
import torch
from helpers.rival_nets import backbone, toy_batch
from torch import Tensor, nn

from baselines import explainers
from benchmarks.rivals import Rival, RivalOptions, build, rivals
from interp_core.errors import BackboneError, ContractError, UnknownNameError
from interp_core.training import Recipe, fit

pytestmark = pytest.mark.slow

NAMES = list(rivals)
ONE_CLASS = {"calm"}
TARGETS = torch.tensor([2, 0])


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def rival(name: str) -> Rival:
    return build(name, backbone())


def total(losses: dict[str, Tensor]) -> Tensor:
    return torch.stack(list(losses.values())).sum()


def test_the_asked_rivals_are_all_there() -> None:
    asked = {"cam", "cam_energy", "calm", "abn", "tame", "fast_shap", "bcos", "rrr", "energy_grad_cam", "gain"}
    assert asked <= set(NAMES)


def test_says_what_it_is(name: str) -> None:
    cls = rivals[name]
    assert (cls.name, bool(cls.title), bool(cls.source), bool(cls.__doc__)) == (name, True, True, True)
    assert issubclass(cls.Options, RivalOptions)


def test_gives_logits_of_images_of_any_size(rival: Rival) -> None:
    rival.eval()
    with torch.no_grad():
        assert [rival(torch.randn(2, 3, *size)).shape for size in ((32, 32), (48, 40))] == [(2, 3), (2, 3)]


def test_losses_are_finite_scalars_that_reach_the_weights(rival: Rival) -> None:
    losses = rival.train().losses(*toy_batch())
    assert all(value.ndim == 0 and torch.isfinite(value) for value in losses.values())
    total(losses).backward()
    assert all(p.grad is not None and torch.isfinite(p.grad).all() for p in rival.parameters())


def test_regions_nobody_knows_change_nothing(rival: Rival) -> None:
    images, targets, regions = toy_batch()
    unknown = {name: torch.full_like(masks, float("nan")) for name, masks in regions.items()}
    rival.eval()
    losses = rival.losses(images, targets, unknown)
    torch.testing.assert_close(total(losses), total(rival.losses(images, targets, {})), rtol=1e-5, atol=1e-6)
    # One list of names for all batches of a training, whichever images are in them.
    assert set(losses) == set(rival.losses(images, targets, regions))


def test_two_steps_lower_the_loss(rival: Rival) -> None:
    batch = toy_batch()
    optimizer = torch.optim.AdamW(rival.parameters(), lr=1e-3)
    values = []
    for _ in range(3):
        loss = total(rival.train().losses(*batch))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert values[2] < values[0]


def test_losses_are_the_same_where_gradients_are_off(rival: Rival) -> None:
    batch = toy_batch()
    rival.eval()
    expected = total(rival.losses(*batch))
    with torch.no_grad():
        torch.testing.assert_close(total(rival.losses(*batch)), expected.detach())


def test_takes_images_of_several_classes_or_says_that_it_does_not(name: str, rival: Rival) -> None:
    images, targets, regions = toy_batch()
    labels = nn.functional.one_hot(targets, 3).float()
    labels[0] = 1
    labels[1] = 0
    if name in ONE_CLASS:
        with pytest.raises(ContractError, match=f"{name} takes one class per image"):
            rival.losses(images, labels, regions)
    else:
        assert torch.isfinite(total(rival.losses(images, labels, regions)))


def test_an_unknown_region_is_refused_where_regions_are_used(rival: Rival) -> None:
    images, targets, regions = toy_batch()
    uses_regions = "energy" in rival.losses(images, targets, regions) or rival.name in {"rrr", "gain"}
    if uses_regions:
        with pytest.raises(ContractError, match=r"object and irrelevant, got tag"):
            rival.losses(images, targets, {"tag": regions["object"]})
    else:
        assert set(rival.losses(images, targets, {"tag": regions["object"]})) == set(rival.losses(images, targets, {}))


def test_explains_itself_at_any_size_or_says_that_it_does_not(rival: Rival) -> None:
    rival.train()
    for size in ((32, 32), (48, 40)):
        images = torch.randn(2, 3, *size)
        if not rival.explains_itself:
            with pytest.raises(ContractError, match=f"{rival.name} has no map of its own"):
                rival.explain(images, TARGETS)
            continue
        maps = rival.explain(images, TARGETS)
        assert maps.shape == (2, 1, *size)
        assert torch.isfinite(maps).all()
        assert (maps >= 0).all()
        assert not maps.requires_grad
        torch.testing.assert_close(maps[:1], rival.explain(images[:1], TARGETS[:1]), rtol=1e-4, atol=1e-6)
    assert all(module.training for module in rival.modules())
    assert all(parameter.grad is None for parameter in rival.parameters())


def test_the_explainer_gives_the_rival_s_own_map_and_counts_its_passes(name: str, rival: Rival) -> None:
    explainer, images = explainers["intrinsic"](), torch.randn(2, 3, 32, 32)
    rival.eval()
    if not rival.explains_itself:
        assert "explains_itself" in str(explainer.refusal(rival))
        return
    maps, cost = explainer.measure(rival, images, TARGETS)
    torch.testing.assert_close(maps, rival.explain(images, TARGETS))
    assert (cost.forwards / 2, cost.backwards / 2) == (1, 1 if name == "bcos" else 0)


@pytest.mark.parametrize("external", ["grad_cam", "input_x_gradient", "lap"])
def test_external_explainers_see_a_network_like_others(external: str, rival: Rival) -> None:
    explainer = explainers[external]()
    if external == "lap":
        assert "has no LAP" in str(explainer.refusal(rival))
        return
    assert explainer.refusal(rival) is None
    assert torch.isfinite(explainer(rival, torch.randn(2, 3, 32, 32), TARGETS)).all()


def test_weights_go_into_another_of_its_kind(name: str, rival: Rival) -> None:
    torch.manual_seed(7)
    twin, images = build(name, backbone()), torch.randn(2, 3, 32, 32)
    with torch.no_grad():
        for parameter in rival.parameters():
            parameter.add_(0.01)
        twin.load_state_dict(rival.state_dict())
        torch.testing.assert_close(twin.eval()(images), rival.eval()(images))


def test_fit_trains_a_rival_with_its_own_losses(rival: Rival) -> None:
    images, targets, regions = toy_batch(16)
    recipe = Recipe(epochs=2, batch_size=8, learning_rate=2e-3, shift=0)
    masked = {name: (torch.arange(8), masks[:8]) for name, masks in regions.items()}
    history = fit(rival, images, targets, recipe=recipe, regions=masked)
    assert history[-1].loss < history[0].loss
    assert set(history[0].terms) == set(rival.losses(images, targets, regions))


def test_takes_half_precision(rival: Rival) -> None:
    with torch.autocast("cpu", torch.bfloat16):
        loss = total(rival.train().losses(*toy_batch()))
    loss.backward()
    assert torch.isfinite(loss)
    assert all(torch.isfinite(p.grad).all() for p in rival.parameters() if p.grad is not None)


def test_takes_grey_images(name: str) -> None:
    rival = build(name, backbone(in_chans=1), normalisation=((0.5,), (0.25,))).eval()
    assert rival(torch.randn(2, 1, 32, 32)).shape == (2, 3)


def test_is_on_the_device_and_in_the_mode_of_its_backbone(name: str) -> None:
    assert build(name, backbone().eval()).training is False
    assert build(name, backbone().train()).training is True


def test_what_cannot_be_built_is_said_in_a_line() -> None:
    with pytest.raises(UnknownNameError, match="did you mean cam or calm"):
        build("clam", backbone())
    with pytest.raises(ContractError, match="rival calm: variant: Input should be 'em' or 'ml', got 'mle'"):
        build("calm", backbone(), {"variant": "mle"})
    with pytest.raises(ContractError, match="rival rrr: wait: Extra inputs are not permitted"):
        build("rrr", backbone(), {"wait": 1})
    with pytest.raises(ContractError, match="rival rrr takes RrrOptions, got RivalOptions"):
        build("rrr", backbone(), RivalOptions())
    with pytest.raises(BackboneError, match="Linear has no convolution"):
        build("cam", nn.Linear(3, 2))


@pytest.fixture
def plain() -> Iterator[str]:
    """A new rival, as a user writes it."""

    @rivals.register("plain")
    class Plain(Rival):
        """The backbone as it is."""

        title: ClassVar[str] = "Plain"
        source: ClassVar[str] = "nobody"

    yield "plain"
    rivals._entries.pop("plain")


def test_a_few_lines_make_a_rival_that_keeps_the_contract(plain: str) -> None:
    test_says_what_it_is(plain)
    rival = build(plain, backbone())
    test_explains_itself_at_any_size_or_says_that_it_does_not(rival)
    test_two_steps_lower_the_loss(rival)
