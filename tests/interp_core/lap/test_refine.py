"""Refined maps: they start as what the head knows, follow what training says, and stay inside the one pass.

They stand beside the network's own map, which must not notice them.
"""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import interp_core
from interp_core import LapModel
from interp_core.deploy.serving import Serving
from interp_core.knowledge import Area, Necessity, Order, Removal, Sufficiency, observe, view_of
from interp_core.lap.redistribution import detail
from interp_core.lap.refine import Refiner, combine, levels_to_refine, map_from_scores
from interp_core.training import MAP_TERMS, OWN_TERMS, Recipe, evaluate, fit

NETS = ["test_resnet", "test_efficientnet", "test_convnext", "test_vgg", "densenet121", "hrnet_w18_small"]


def refining(name: str = "test_resnet", refine: bool | int = True, **kwargs: object) -> LapModel:
    torch.manual_seed(0)
    backbone_name = name if timm.is_model(name) else "vgg11"
    return interp_core.attach(timm.create_model(backbone_name, num_classes=5, **kwargs), refine=refine).eval()


def some(count: int = 4, side: int = 64) -> Tensor:
    return torch.randn(count, 3, side, side, generator=torch.Generator().manual_seed(1))


def squares(count: int = 64) -> tuple[Tensor, Tensor, Tensor]:
    """Noise with one bright square, whose colour is the class; images, targets, masks."""
    draw = torch.Generator().manual_seed(0)
    images, masks = 0.3 * torch.randn(count, 3, 64, 64, generator=draw), torch.zeros(count, 1, 64, 64)
    targets, places = torch.arange(count) % 3, torch.randint(0, 48, (count, 2), generator=draw)
    for i, (row, column) in enumerate(places.tolist()):
        images[i, targets[i], row : row + 16, column : column + 16] += 3
        masks[i, :, row : row + 16, column : column + 16] = 1
    return images, targets, masks


def refined_of(lap: LapModel, images: Tensor, targets: Tensor | int | None = None) -> Tensor:
    maps = lap.explain(images, targets).refined
    assert maps is not None
    return maps


def decoded(lap: LapModel, images: Tensor, targets: Tensor) -> Tensor:
    """Return the map of the decoders on their own grid."""
    view = observe(lap, images, targets)
    effects = view.effects()
    assert effects is not None
    return combine(view.finest_maps(), effects).detach()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_resnet", "vgg11"])
def test_the_networks_own_map_does_not_notice_the_decoders(name: str) -> None:
    lap, images = refining(name), some(2)
    before = lap.explain(images, 1)
    assert lap.refiner is not None
    for decoder in (lap.refiner.region, lap.refiner.effects):
        nn.init.normal_(decoder.out.weight)
    after = lap.explain(images, 1)
    assert torch.equal(after.map, before.map)
    assert after.gap < 1e-5
    assert after.refined is not None
    assert before.refined is not None
    assert not torch.allclose(after.refined, before.refined)


@pytest.mark.slow
@pytest.mark.parametrize("name", NETS)
def test_logits_are_the_same_and_maps_start_in_the_order_of_the_head(name: str) -> None:
    lap = refining(name)
    images = some(2, 64)
    with torch.no_grad():
        before = lap.backbone(images)
    explanation = lap.explain(images)
    assert torch.equal(lap(images), before)
    start = explanation.concept * explanation.head.contributions.clamp(min=0)
    native = decoded(lap, images, explanation.targets)
    coarse = F.interpolate(start, native.shape[-2:], mode="bilinear", align_corners=False)
    for fine, expected in zip(native.flatten(1), coarse.flatten(1), strict=True):
        order = expected.argsort()
        assert (fine[order].diff() >= -1e-6).all()
    assert explanation.refined is not None
    assert explanation.refined.shape == (2, 1, 64, 64)
    assert bool((explanation.refined >= 0).all())


@pytest.mark.slow
def test_levels_are_one_of_each_resolution_and_no_finer_than_asked() -> None:
    info = refining("resnet18").info
    assert [site.reduction for site in levels_to_refine(info, True)] == [8, 16]
    assert [site.reduction for site in levels_to_refine(info, 2)] == [2, 4, 8, 16]
    assert [site.reduction for site in levels_to_refine(info, 16)] == [16]
    assert levels_to_refine(info, 64) == ()


@pytest.mark.slow
def test_a_network_of_one_resolution_keeps_the_grid_of_its_head() -> None:
    lap = refining("test_resnet", refine=64)
    explanation = lap.explain(some(1))
    assert decoded(lap, some(1), explanation.targets).shape == explanation.concept.shape
    assert lap.refined_grid_of((64, 64)) == lap.info.grid_of((64, 64))


def test_scores_do_not_depend_on_the_scale_of_the_features() -> None:
    torch.manual_seed(0)
    refiner = Refiner(6, [4, 5], hidden=8)
    for decoder in (refiner.region, refiner.effects):
        nn.init.normal_(decoder.out.weight)
    parts, features, below = (
        torch.randn(2, 6, 4, 4),
        torch.rand(2, 6, 4, 4),
        [torch.rand(2, 4, 16, 16), torch.rand(2, 5, 8, 8)],
    )
    evidence, concept = torch.randn(2, 1, 4, 4), torch.rand(2, 1, 4, 4)
    first = refiner(parts, features, evidence, concept, below)
    rescaled = refiner(7 * parts, 5 * features, 3 * evidence, concept, [2 * maps for maps in below])
    assert [scores.shape for scores in first] == [(2, 1, 16, 16)] * 2
    torch.testing.assert_close(first, rescaled, rtol=1e-4, atol=1e-5)


def test_the_class_asked_for_decides_the_map() -> None:
    lap = refining()
    assert lap.refiner is not None
    for decoder in (lap.refiner.region, lap.refiner.effects):
        nn.init.normal_(decoder.out.weight, std=0.1)
    images = some(1)
    assert not torch.allclose(refined_of(lap, images, 0), refined_of(lap, images, 1))


def test_the_map_is_the_effect_where_the_region_is_and_a_tenth_of_it_elsewhere() -> None:
    scores = torch.tensor([[[[50.0, -50.0, 50.0, -50.0]], [[1.0, 1.0, 0.0, -1.0]]]])
    expected = [1.1, 0.1, 1.1 * 0.6931472 / 20, 0.0]
    assert map_from_scores(*scores.split(1, 1)).flatten().tolist() == pytest.approx(expected, abs=1e-5)


def test_the_order_of_effects_is_kept_below_zero_too() -> None:
    scores = torch.stack([torch.zeros(101), torch.linspace(-3, 3, 101)]).view(1, 2, 1, -1)
    assert bool((map_from_scores(*scores.split(1, 1)).diff() > 0).all())


def test_within_a_cell_what_stands_out_counts_more() -> None:
    lap = refining(refine=64)
    flat = torch.zeros(1, 3, 64, 64)
    flat[..., 32, 32] = 2
    torch.testing.assert_close(detail(flat)[0, 0, 32, 31:34], torch.tensor([0.2, 2.2, 0.2]))
    maps = refined_of(lap, flat, 0)
    ratio = maps[0, 0, 32, 32] / maps[0, 0, 32, 31]
    assert ratio.item() == pytest.approx(11, rel=0.2)


def test_area_of_the_finest_map_is_linear_where_told() -> None:
    maps = torch.tensor([[[[0.2, 0.6]]], [[[0.0, 0.1]]]])
    view = view_of(maps, torch.ones(2, 1))
    assert Area(low=0, high=0, form="linear", finest=True).loss(view).item() == pytest.approx((0.4 + 0.05) / 2)
    assert Area(low=0.1, high=0.3, form="linear", finest=True).loss(view).item() == pytest.approx((0.1 + 0.05) / 2)


@pytest.mark.slow
def test_masking_terms_open_the_refined_map() -> None:
    lap = refining()
    images, targets = some(3), torch.tensor([0, 1, 2])
    view = observe(lap, images, targets)
    effects = view.effects()
    assert view.finest_level == "refined"
    assert effects is not None
    refined = map_from_scores(view.finest_maps().logit(), effects)
    expected = view.to_image_grid(refined, "refined") * detail(images)
    torch.testing.assert_close(refined_of(lap, images, targets), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_training_with_the_backbone_frozen_finds_what_decides_and_moves_nothing_else() -> None:
    images, targets, masks = squares(128)
    torch.manual_seed(0)
    lap = interp_core.attach(timm.create_model("test_resnet", num_classes=3), refine=4)
    fit(lap, images, targets, terms=(), recipe=Recipe(epochs=12, batch_size=16, shift=0))
    assert evaluate(lap, images, targets) > 0.95
    before, state = refined_of(lap, images, targets), {k: v.clone() for k, v in lap.backbone.state_dict().items()}
    history = fit(lap, images, targets, recipe=Recipe(mode="frozen", epochs=12, batch_size=16, learning_rate=3e-3))
    after = refined_of(lap, images, targets)
    assert set(history[0].terms) == {"cross_entropy", *(term.name for term in (*OWN_TERMS, *MAP_TERMS))}
    assert history[-1].terms["area"] < history[0].terms["area"]
    assert history[-1].terms["removal"] < 0.8 * history[0].terms["removal"]
    assert all(torch.equal(value, state[key]) for key, value in lap.backbone.state_dict().items())

    def inside(maps: Tensor) -> float:
        return ((maps * masks).sum((1, 2, 3)) / maps.sum((1, 2, 3))).mean().item()

    assert inside(after) > max(0.5, inside(before) + 0.2)


TERMS = [Sufficiency(), Necessity(), Area(finest=True), Removal(), Order()]


@pytest.mark.slow
@pytest.mark.parametrize("term", TERMS, ids=lambda term: term.name)
def test_each_term_moves_its_decoder_and_no_other(term: Sufficiency) -> None:
    lap = refining()
    assert lap.refiner is not None
    passed: list[nn.Module] = []
    for decoder in (lap.refiner.region, lap.refiner.effects):
        decoder.register_forward_hook(lambda module, *_: passed.append(module))
    term.loss(observe(lap, some(), torch.arange(4))).backward()
    taught, untouched = lap.refiner.region, lap.refiner.effects
    if term.name in ("removal", "order"):
        taught, untouched = untouched, taught
    assert taught.out.weight.grad is not None
    assert bool(taught.out.weight.grad.abs().sum() > 0)
    assert all(parameter.grad is None or not parameter.grad.any() for parameter in untouched.parameters())
    assert (untouched in passed) == (term.name == "order")  # which needs the region as it is


@pytest.mark.slow
def test_it_is_saved_and_comes_back(tmp_path: Path) -> None:
    lap = interp_core.create("test_resnet", num_classes=5)
    assert lap.refiner is None
    lap = refining()
    assert lap.refiner is not None
    for decoder in (lap.refiner.region, lap.refiner.effects):
        nn.init.normal_(decoder.out.weight)
    loaded = refining()
    loaded.load_state_dict(lap.state_dict())
    images = some(2)
    assert torch.equal(refined_of(loaded, images, 0), refined_of(lap, images, 0))


@pytest.mark.slow
def test_detaching_takes_the_taps_off() -> None:
    lap = refining()
    backbone = interp_core.detach(lap)
    assert not any(module._forward_hooks or module._forward_pre_hooks for module in backbone.modules())


@pytest.mark.slow
def test_any_size_half_precision_and_one_exported_graph() -> None:
    lap = refining()
    assert refined_of(lap, some(1, 96), 0).shape == (1, 1, 96, 96)
    with torch.autocast("cpu", torch.bfloat16):
        assert refined_of(lap, some(1), 0).dtype == torch.float32
    images = some(1)
    program = torch.export.export(Serving(lap), (images,))
    for ours, theirs in zip(Serving(lap)(images), program.module()(images), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_a_trained_network_keeps_every_answer_to_the_bit() -> None:
    images, targets, _ = squares(32)
    lap = refining(refine=4)
    before = lap(images)
    fit(lap, images, targets, recipe=Recipe(mode="frozen", epochs=1, batch_size=16))
    assert torch.equal(lap(images), before)
    assert lap.refiner is not None
    assert lap.refiner.region.out.weight.abs().sum() > 0
    assert lap.refiner.effects.out.weight.abs().sum() > 0
