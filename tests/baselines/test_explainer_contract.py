"""What every registered explainer owes its callers; a new one is covered by being registered."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from typing import Any, ClassVar, get_args

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from baselines import Explainer, explainers
from baselines.base import Kind
from interp_core.errors import ContractError, InterpError, UnknownNameError

pytestmark = pytest.mark.slow

CHEAP: dict[str, dict[str, Any]] = {
    "bottleneck": {"steps": 2, "samples": 2},
    "extremal_perturbation": {"steps": 3, "areas": (0.1, 0.3), "cells": 8},
    "gradient_shap": {"samples": 6},
    "guided_ig": {"steps": 4},
    "integrated_gradients": {"steps": 4},
    "kernel_shap": {"samples_at_224": 80, "segments_at_224": 32},
    "lap_steps": {"steps": 3},
    "lime": {"samples_at_224": 80, "segments_at_224": 32},
    "occlusion": {"window": 0.25, "stride": 0.25},
    "rise": {"masks": 12},
    "shap": {"evaluations": 20},
    "smooth_grad": {"samples": 5},
    "xrai": {"steps": 2, "side": 48},
}
ONE_PASS = (
    *("deconvolution", "finer_cam", "full_grad", "grad_cam", "grad_cam_pp", "guided_backprop", "hires_cam"),
    *("input_x_gradient", "layer_cam", "lrp", "refine_cam", "saliency"),
)
# Passes per image with the parameters above. Score-CAM asks once for every channel of the last map, and Ablation-CAM
# once more with each of three batches of them.
BACKWARDS = dict.fromkeys(ONE_PASS, 1) | {"deep_lift": 2, "guided_grad_cam": 2}
BACKWARDS |= {"bottleneck": 4, "extremal_perturbation": 6, "guided_ig": 4, "xrai": 4}
BACKWARDS |= {"gradient_shap": 6, "integrated_gradients": 4, "lap_steps": 6, "smooth_grad": 5}
FORWARDS = BACKWARDS | {
    "ablation_cam": 100,
    "bottleneck": 5,
    "eigen_cam": 1,
    "intrinsic": 1,
    "lap": 1,
    "lap_refined": 1,
    "lap_steps": 7,
    "lime": 20,
    "occlusion": 17,
    "rise": 12,
    "score_cam": 97,
    "shap": 20,
}
RANDOM = ("random", "smoothed_random", "bottleneck", "gradient_shap", "kernel_shap", "lime", "rise", "smooth_grad")
NAMES = list(explainers)
TARGETS = torch.tensor([3, 0])
MASKS = torch.zeros(2, 1, 32, 32, dtype=torch.bool)
MASKS[..., 8:20, 4:24] = True


def make(name: str) -> Explainer:
    return explainers[name](**CHEAP.get(name, {}))


def call(name: str, model: nn.Module, images: Tensor, targets: Tensor = TARGETS, seed: int = 0) -> Tensor:
    return make(name)(model, images, targets, masks=MASKS[: len(images)], seed=seed)


@pytest.fixture(params=NAMES)
def name(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture
def model(name: str, plain: nn.Module, lap: nn.Module, refined: nn.Module, telling: nn.Module) -> nn.Module:
    """The plain network, or the LAP network or another that explains itself for explainers that need one."""
    return next(network for network in (plain, lap, refined, telling) if make(name).refusal(network) is None)


def everything(model: nn.Module) -> dict[str, Any]:
    """All that a call must leave as it was."""
    hook_names = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")
    return {
        "training": [m.training for m in model.modules()],
        "hooks": [list(getattr(m, h)) for m in model.modules() for h in hook_names],
        "requires_grad": [p.requires_grad for p in model.parameters()],
        "grad": [None if p.grad is None else p.grad.tolist() for p in model.parameters()],
        "state": {k: v.numpy().tobytes() for k, v in model.state_dict().items()},
        "python": random.getstate(),
        "numpy": repr(np.random.get_state()),  # noqa: NPY002
        "torch": torch.get_rng_state().numpy().tobytes(),
        "grad_enabled": torch.is_grad_enabled(),
    }


def disturb(model: nn.Module) -> None:
    """A state that a careless explainer would not put back."""
    model.train()
    parameters = list(model.parameters())
    parameters[0].requires_grad_(False)
    parameters[-1].grad = torch.ones_like(parameters[-1])


def test_gives_one_finite_float_map_of_the_image_size(name: str, model: nn.Module, images: Tensor) -> None:
    maps = call(name, model, images)
    assert maps.shape == (2, 1, 32, 32)
    assert maps.dtype == torch.float32
    assert torch.isfinite(maps).all()
    assert not maps.requires_grad
    assert maps.flatten(1).std(1).gt(0).all()


def test_same_seed_same_maps(name: str, model: nn.Module, images: Tensor) -> None:
    assert torch.equal(call(name, model, images, seed=5), call(name, model, images, seed=5))


@pytest.mark.parametrize("random_name", RANDOM)
def test_another_seed_other_maps(random_name: str, plain: nn.Module, images: Tensor) -> None:
    assert not torch.equal(call(random_name, plain, images, seed=5), call(random_name, plain, images, seed=6))


def test_unsigned_explainers_give_no_negative_values(name: str, model: nn.Module, images: Tensor) -> None:
    maps = call(name, model, images)
    assert make(name).signed or bool((maps >= 0).all())


def test_leaves_everything_as_it_was(name: str, model: nn.Module, images: Tensor) -> None:
    disturb(model)
    before, pixels = everything(model), images.clone()
    call(name, model, images)
    assert everything(model) == before
    assert torch.equal(images, pixels)
    assert not images.requires_grad


@pytest.mark.parametrize("name", [name for name in NAMES if explainers[name].kind != "control"])
def test_leaves_everything_as_it_was_when_the_model_raises(name: str, model: nn.Module, images: Tensor) -> None:
    def fail(_module: nn.Module, _inputs: tuple) -> None:
        raise RuntimeError("no answer")

    model.register_forward_pre_hook(fail)
    disturb(model)
    before = everything(model)
    with pytest.raises((RuntimeError, InterpError), match="no answer"):
        call(name, model, images)
    assert everything(model) == before


def test_explains_the_model_in_evaluation_mode(name: str, model: nn.Module, images: Tensor) -> None:
    expected = call(name, model.eval(), images)
    assert torch.equal(call(name, model.train(), images), expected)


def test_works_without_gradients_around_and_with_frozen_parameters(name: str, model: nn.Module, images: Tensor) -> None:
    expected = call(name, model, images)
    model.requires_grad_(False)
    with torch.no_grad():
        torch.testing.assert_close(call(name, model, images), expected)


def test_a_batch_of_one_is_the_first_of_a_batch(name: str, model: nn.Module, images: Tensor) -> None:
    alone = call(name, model, images[:1], TARGETS[:1])
    assert alone.shape == (1, 1, 32, 32)
    torch.testing.assert_close(alone, call(name, model, images)[:1], rtol=1e-3, atol=1e-5)


def test_takes_images_that_are_not_square(name: str, model: nn.Module) -> None:
    images = torch.randn(1, 3, 32, 48)
    masks = torch.ones(1, 1, 32, 48, dtype=torch.bool)
    assert make(name)(model, images, TARGETS[:1], masks=masks).shape == (1, 1, 32, 48)


def test_takes_grey_images(name: str, grey_model_for: Callable[[type], nn.Module], images: Tensor) -> None:
    model = grey_model_for(explainers[name])
    assert call(name, model, images[:, :1]).shape == (2, 1, 32, 32)


def test_takes_double_precision(name: str, model: nn.Module, images: Tensor) -> None:
    maps = call(name, model.double(), images.double())
    assert maps.dtype == torch.float32
    assert torch.isfinite(maps).all()


def test_counts_what_it_asks_of_the_model(name: str, model: nn.Module, images: Tensor) -> None:
    maps, cost = make(name).measure(model, images, TARGETS, masks=MASKS)
    assert cost.images == len(maps) == 2
    assert cost.seconds > 0
    assert cost.seconds >= cost.model_seconds >= 0
    if explainers[name].kind == "control":
        assert (cost.forwards, cost.backwards) == (0, 0)
    if name in FORWARDS:
        assert (cost.forwards / 2, cost.backwards / 2) == (FORWARDS[name], BACKWARDS.get(name, 0))


@pytest.mark.parametrize(
    ("bad_images", "bad_targets"),
    [
        (torch.randn(3, 32, 32), TARGETS),
        (torch.zeros(2, 3, 32, 32, dtype=torch.uint8), TARGETS),
        (torch.randn(0, 3, 32, 32), TARGETS[:0]),
        (torch.randn(2, 3, 32, 32), TARGETS[:1]),
        (torch.randn(2, 3, 32, 32), TARGETS.float()),
    ],
)
def test_refuses_wrong_inputs(name: str, model: nn.Module, bad_images: Tensor, bad_targets: Tensor) -> None:
    with pytest.raises(ContractError, match=name):
        make(name)(model, bad_images, bad_targets, masks=MASKS)


def test_says_what_it_is(name: str) -> None:
    cls = explainers[name]
    assert cls.name == name
    assert cls.title
    assert cls.source
    assert cls.kind in get_args(Kind)
    assert cls.__doc__


# The map of a LAP network is `lap`; under two names it would count twice.
@pytest.mark.parametrize("name", [name for name in NAMES if name != "intrinsic"])
def test_every_explainer_runs_on_a_lap_model(name: str, refined: nn.Module, images: Tensor) -> None:
    assert make(name).refusal(refined) is None
    assert call(name, refined, images).shape == (2, 1, 32, 32)


def test_the_issue_s_explainers_are_all_there() -> None:
    expected = set(FORWARDS)
    controls = {"random", "smoothed_random", "centre_gaussian", "edges", "mask"}
    assert len(expected | controls) >= 32
    assert expected | controls <= set(explainers)
    assert controls == {name for name in controls if explainers[name].kind == "control"}


def test_an_unknown_name_lists_close_ones() -> None:
    with pytest.raises(UnknownNameError, match="grad_cam"):
        explainers["gradcam"]


def test_unknown_and_out_of_range_parameters_are_refused() -> None:
    with pytest.raises(ValueError, match="stepz"):
        explainers["integrated_gradients"].model_validate({"stepz": 3})
    with pytest.raises(ValueError, match="steps"):
        explainers["integrated_gradients"].model_validate({"steps": 1})


def test_masks_are_asked_for_where_they_are_needed(plain: nn.Module, images: Tensor) -> None:
    with pytest.raises(ContractError, match="mask needs evidence masks"):
        explainers["mask"]()(plain, images, TARGETS)


@pytest.fixture
def squared() -> Iterator[str]:
    """A new explainer, as a user writes it."""
    import captum.attr

    @explainers.register("squared_gradient")
    class SquaredGradient(Explainer):
        """Square of the input gradient."""

        title: ClassVar[str] = "Squared gradient"
        signed: ClassVar[bool] = False
        source: ClassVar[str] = "Simonyan et al. 2014"

        def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
            return captum.attr.Saliency(model).attribute(images.requires_grad_(), target=targets).square()

    yield "squared_gradient"
    explainers._entries.pop("squared_gradient")


def test_ten_lines_make_an_explainer_that_keeps_the_contract(squared: str, plain: nn.Module, images: Tensor) -> None:
    test_gives_one_finite_float_map_of_the_image_size(squared, plain, images)
    test_same_seed_same_maps(squared, plain, images)
    test_leaves_everything_as_it_was_when_the_model_raises(squared, plain, images)
    test_says_what_it_is(squared)


def test_the_new_explainer_leaves_everything_as_it_was(squared: str, plain: nn.Module, images: Tensor) -> None:
    test_leaves_everything_as_it_was(squared, plain, images)
    test_counts_what_it_asks_of_the_model(squared, plain, images)


@pytest.mark.parametrize("wrong", [torch.zeros(2, 32, 32), torch.zeros(1, 1, 32, 32), "a map"])
def test_maps_of_the_wrong_shape_are_refused(wrong: object, plain: nn.Module, images: Tensor) -> None:
    class Wrong(Explainer):
        name: ClassVar[str] = "wrong"

        def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
            return wrong  # type: ignore[return-value]

    with pytest.raises(ContractError, match="wrong: explain must return"):
        Wrong()(plain, images, TARGETS)


def test_small_maps_are_enlarged_and_channels_summed(plain: nn.Module, images: Tensor) -> None:
    class Coarse(Explainer):
        def explain(self, model: nn.Module, images: Tensor, targets: Tensor) -> Tensor:
            return torch.tensor([0.0, 4.0]).view(1, 1, 1, 2).expand(2, 3, 1, 2)

    maps = Coarse()(plain, images, TARGETS)
    torch.testing.assert_close(maps[0, 0, :, 0], torch.zeros(32))
    torch.testing.assert_close(maps[0, 0, :, -1], torch.full((32,), 12.0))


def test_an_explainer_without_explain_says_so(plain: nn.Module, images: Tensor) -> None:
    with pytest.raises(NotImplementedError, match="must define explain"):
        Explainer()(plain, images, TARGETS)
