"""Attach, explain and detach in one small member of every family: what stays, what adds up, what is refused."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import asdict
from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import interp_core
from interp_core import Explanation, LapModel
from interp_core.errors import BackboneError, ContractError, UnknownNameError
from interp_core.lap.blocks import GateBlock, HeadBlock
from interp_core.lap.pooling import attention_gate, lap_pool2d
from interp_core.lap.recording import Recording

DEFAULTS = {"concepts": None, "aggregate": "max", "weighting": "rbf", "refine": False, "cell": None, "image_size": None}
LINEAR = {"test_resnet", "mobilenetv2_050", "test_efficientnet", "densenet121"}
Make = Callable[..., nn.Module]
MakeLap = Callable[..., LapModel]
Images = Callable[..., Tensor]
Snapshot = Callable[[nn.Module], dict]


def logits_of(model: nn.Module, images: Tensor) -> Tensor:
    with torch.no_grad():
        return model(images)


def largest_leak(explanation: Explanation) -> float:
    """Largest |sum of contributions + bias - logit| over levels and images, relative to what was added up."""
    logit = explanation.logits.gather(1, explanation.targets[:, None])[:, 0]
    leaks = []
    for level in explanation.levels:
        error = (level.contributions.sum((1, 2, 3)) + explanation.bias - logit).abs()
        scale = level.contributions.abs().sum((1, 2, 3)) + explanation.bias.abs() + logit.abs()
        leaks.append((error / scale).max().item())
    return max(leaks)


@pytest.mark.slow
def test_logits_are_the_same_to_the_bit_after_attaching(family: str, make_backbone: Make, images_of: Images) -> None:
    model = make_backbone(family)
    small, odd = images_of(64, 64), images_of(97, 65)
    before = logits_of(model, small), logits_of(model, odd)
    lap = interp_core.attach(model)
    assert torch.equal(logits_of(lap, small), before[0])
    assert torch.equal(logits_of(lap, odd), before[1])


@pytest.mark.slow
def test_detach_gives_back_the_untouched_module(
    family: str, make_backbone: Make, images: Tensor, snapshot: Snapshot, sharpen: Callable[[LapModel], LapModel]
) -> None:
    model = make_backbone(family)
    before, logits = snapshot(model), logits_of(model, images)
    lap = sharpen(interp_core.attach(model))
    assert list(model.state_dict()) == [key for key, _ in before["state"]]
    assert not torch.equal(logits_of(lap, images), logits)
    lap.explain(images)
    assert interp_core.detach(lap) is model
    assert snapshot(model) == before
    assert torch.equal(logits_of(model, images), logits)


@pytest.mark.slow
@pytest.mark.parametrize("height_width", [(64, 64), (97, 65)])
def test_every_level_conserves_the_logit(
    family: str, height_width: tuple[int, int], make_lap: MakeLap, images_of: Images
) -> None:
    lap = make_lap(family)
    explanation = lap.explain(images_of(*height_width), torch.tensor([1, 3]))
    assert len(explanation.levels) == len(lap.levels) + 1 >= len(lap.gates) + 1 == 4
    assert largest_leak(explanation) <= 1e-5
    assert explanation.map.shape == (2, 1, *height_width)
    assert explanation.map.dtype == torch.float32
    assert torch.isfinite(explanation.map).all()
    assert explanation.gap <= 1e-5  # the pixels have the same sum


@pytest.mark.slow
@pytest.mark.parametrize("height_width", [(64, 64), (33, 97), (32, 32)])
def test_every_level_conserves_the_logit_in_double_precision(
    height_width: tuple[int, int], make_lap: MakeLap, images_of: Images
) -> None:
    explanation = make_lap().double().explain(images_of(*height_width).double(), 2)
    assert largest_leak(explanation) <= 1e-10
    for level in explanation.levels:
        assert level.contributions.dtype == torch.float64
        assert (level.attention >= 0).all()
        assert level.record is not None
        assert ((level.record.scores > 0) & (level.record.scores < 1)).all()


@pytest.mark.slow
def test_conserving_is_not_trivial(make_lap: MakeLap, images: Tensor) -> None:
    sharp, flat = make_lap().explain(images, 0), make_lap(a=0.0).explain(images, 0)
    for ours, plain in zip(sharp.levels, flat.levels, strict=True):
        assert not torch.allclose(ours.contributions, plain.contributions)
        torch.testing.assert_close(plain.attention.amax((2, 3)), plain.attention.amin((2, 3)))


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(LINEAR))
def test_bias_is_the_classifiers_where_the_head_is_linear(name: str, make_lap: MakeLap, images: Tensor) -> None:
    lap, targets = make_lap(name), torch.tensor([1, 3])
    assert lap.info.linear_head
    expected = lap.backbone.get_classifier().bias[targets]  # type: ignore[operator]
    torch.testing.assert_close(lap.explain(images, targets).bias, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.slow
def test_explain_gives_the_logits_of_the_forward(family: str, make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap(family)
    assert torch.equal(lap.explain(images).logits, logits_of(lap, images))


@pytest.mark.slow
def test_any_form_of_targets(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap()
    threes = lap.explain(images, torch.tensor([3, 3]))
    for form in (3, [3, 3], torch.tensor(3), torch.tensor([3, 3], dtype=torch.uint8), torch.tensor([3])):
        if isinstance(form, Tensor) and form.shape == (1,):
            explanation = lap.explain(images[:1], form)
            torch.testing.assert_close(explanation.map, threes.map[:1])
        else:
            explanation = lap.explain(images, form)  # type: ignore[arg-type]
            assert torch.equal(explanation.map, threes.map)
        assert explanation.targets.dtype == torch.int64
    predicted = lap.explain(images)
    assert torch.equal(predicted.targets, predicted.logits.argmax(1))
    assert torch.equal(predicted.map, lap.explain(images, predicted.targets).map)


def test_targets_are_explained_each_on_their_own(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap()
    mixed = lap.explain(images, torch.tensor([0, 2]))
    torch.testing.assert_close(mixed.contributions[0], lap.explain(images, 0).contributions[0])
    torch.testing.assert_close(mixed.contributions[1], lap.explain(images, 2).contributions[1])
    assert not torch.allclose(mixed.contributions[1], lap.explain(images, 0).contributions[1])


@pytest.mark.slow
@pytest.mark.parametrize(
    ("targets", "says"),
    [
        (4, "0..3"),
        (-1, "0..3"),
        (torch.tensor([0, 9]), "0..3"),
        (torch.tensor([0, 1, 2]), "2 class indices"),
        (torch.tensor([[0], [1]]), "2 class indices"),
        (torch.tensor([0.0, 1.0]), "2 class indices"),
        (1.5, "2 class indices"),
    ],
)
def test_bad_targets_are_refused(targets: Any, says: str, make_lap: MakeLap, images: Tensor) -> None:
    with pytest.raises(ContractError, match=says):
        make_lap().explain(images, targets)


@pytest.mark.slow
@pytest.mark.parametrize("shape", [(3, 32, 32), (2, 1, 32, 32), (2, 3), (2, 3, 4, 32, 32)])
def test_bad_images_are_refused(shape: tuple[int, ...], make_lap: MakeLap) -> None:
    with pytest.raises(ContractError, match=r"images \(N, 3, H, W\), got"):
        make_lap().explain(torch.zeros(shape))


@pytest.mark.slow
def test_explaining_leaves_no_gradients(family: str, make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap(family)
    explanation = lap.explain(images)
    assert all(parameter.grad is None and parameter.requires_grad for parameter in lap.parameters())
    assert not any(t.requires_grad for t in (explanation.map, explanation.logits, explanation.bias))
    assert not any(level.contributions.requires_grad for level in explanation.levels)


def test_a_linear_head_is_explained_in_inference_mode(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap()
    with torch.inference_mode():
        inside = lap.explain(images, 1).map
    torch.testing.assert_close(inside, lap.explain(images, 1).map)


def test_a_head_with_hidden_layers_is_explained_in_inference_mode(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap("mobilenetv3_small_050")
    with torch.inference_mode():
        inside = lap.explain(images, 1).map
    torch.testing.assert_close(inside, lap.explain(images, 1).map)


@pytest.mark.slow
def test_every_block_learns_in_every_family(family: str, make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap(family).train()
    recording = Recording(all_concepts=True)
    logits = lap(images, recording)
    concepts = recording.head.concepts
    assert concepts is not None
    moved = lap.redistribute(recording, torch.tensor([0, 1]), recording.head.gate, (64, 64))
    spread = torch.stack([level.contributions.square().mean() for level in moved]).sum()
    (F.cross_entropy(logits, torch.tensor([0, 1])) + concepts.mean() + spread).backward()
    for name, parameter in lap.named_parameters():
        is_unused = name == "redistribution.parts.weight" and not lap.info.linear_head
        assert is_unused or parameter.grad is not None, name
    for block in (*lap.gates, lap.head):
        assert isinstance(block, GateBlock | HeadBlock)
        assert block.a.grad is not None
        assert block.a.grad != 0


@pytest.mark.slow
def test_average_pooling_below_the_head_becomes_lap(
    protocol_net: type[Any], sharpen: Callable[[LapModel], LapModel], images: Tensor
) -> None:
    lap = sharpen(interp_core.attach(protocol_net(nn.AvgPool2d(2)).double()))
    features = lap.backbone.stem(images.double())  # type: ignore[operator]
    recording = Recording()
    lap(images.double(), recording)
    pooled, scores = lap.forward_features(images.double()), recording.gates["inner"].scores
    torch.testing.assert_close(pooled, lap_pool2d(features, scores, 2.0, 2), rtol=0, atol=1e-12)


def test_any_other_operation_is_gated(
    protocol_net: type[Any], sharpen: Callable[[LapModel], LapModel], images: Tensor
) -> None:
    model = protocol_net(nn.MaxPool2d(2)).double()
    features = model.stem(images.double())
    lap = sharpen(interp_core.attach(model))
    recording = Recording()
    lap(images.double(), recording)
    pooled, record = lap.forward_features(images.double()), recording.gates["stem"]
    scores, gate = record.scores, record.gate
    torch.testing.assert_close(gate, attention_gate(scores, 2.0, 2))
    torch.testing.assert_close(pooled, F.max_pool2d(features * gate, 2), rtol=0, atol=1e-12)
    assert lap.sites[0].module == "stem"


def test_finest_and_the_other_options_shape_the_blocks(make_backbone: Make) -> None:
    lap = interp_core.attach(make_backbone(), finest=16, hidden=5, gate_hidden=3, candidates=2)
    assert [site.reduction for site in lap.sites] == [16]
    gate = lap.gates[0]
    assert isinstance(gate, GateBlock)
    assert (gate.scorer.reduce.out_channels, lap.head.scorer.reduce.out_channels, lap.head.candidates) == (3, 5, 2)
    options = {"finest": 16, "hidden": 5, "gate_hidden": 3, "candidates": 2}
    assert asdict(lap.options) == {**options, **DEFAULTS}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("image_size", "finest"), [(None, 4), (64, 4), (160, 4), (192, 8), (224, 8), (320, 8), (384, 16)]
)
def test_maps_of_large_images_have_at_most_40_cells_a_side(
    make_backbone: Make, image_size: int | None, finest: int
) -> None:
    lap = interp_core.attach(make_backbone(), image_size=image_size)
    assert lap.sites[0].reduction == finest
    assert lap.sites[0].reduction * 40 >= (image_size or 160)


def test_the_finest_level_stays_where_the_image_size_is_not_known(protocol_net: type[Any]) -> None:
    assert [site.reduction for site in interp_core.attach(protocol_net(nn.AvgPool2d(2))).sites] == [4]
    assert interp_core.attach(protocol_net(nn.AvgPool2d(2)), image_size=224).sites == ()


@pytest.mark.slow
def test_a_head_alone_where_no_level_is_left(make_backbone: Make, images: Tensor) -> None:
    explanation = interp_core.attach(make_backbone(), finest=1000, cell=1000).explain(images, 1)
    assert [level.name for level in explanation.levels] == ["head"]
    assert explanation.contributions is explanation.levels[0].contributions
    assert explanation.concept is explanation.levels[0].scores
    assert explanation.gap <= 1e-5


@pytest.mark.slow
def test_contributions_reach_levels_without_a_gate(make_backbone: Make, images: Tensor) -> None:
    explanation = interp_core.attach(make_backbone(), finest=1000).explain(images, 1)
    assert [level.name for level in explanation.levels] == ["layer1", "layer2", "layer3", "head"]
    for level in explanation.levels[:-1]:
        assert (level.attention, level.scores, level.concepts, level.names) == (None, None, None, ())
    assert explanation.gap <= 1e-5


def test_many_classes(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap(classes=50)
    explanation = lap.explain(images, torch.tensor([49, 7]))
    assert largest_leak(explanation) <= 1e-5
    recording = Recording(all_concepts=True)
    lap(images, recording)
    concepts = recording.head.concepts
    assert concepts is not None
    assert concepts.shape == (2, 50, 2, 2)
    torch.testing.assert_close(explanation.concept[:, 0], concepts[torch.arange(2), torch.tensor([49, 7])])


def test_blocks_take_the_precision_and_mode_of_the_backbone(make_backbone: Make) -> None:
    lap = interp_core.attach(make_backbone().double().train())
    assert {parameter.dtype for parameter in lap.parameters()} == {torch.float64}
    assert all(module.training for module in lap.modules())
    assert not any(module.training for module in interp_core.attach(make_backbone()).modules())


def test_frozen_submodules_stay_in_evaluation_mode(make_backbone: Make) -> None:
    model = make_backbone().train()
    model.get_submodule("bn1").eval()
    lap = interp_core.attach(model)
    assert not model.get_submodule("bn1").training
    assert interp_core.detach(lap).training


def test_a_deep_copy_is_a_model_of_its_own(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap()
    before, hooks = logits_of(lap, images), len(lap.backbone.get_submodule("layer1")._forward_hooks)
    clone = copy.deepcopy(lap)
    assert torch.equal(logits_of(clone, images), before)
    for block in (*clone.gates, clone.head):
        nn.init.zeros_(block.a)  # type: ignore[arg-type]
    assert torch.equal(logits_of(lap, images), before)
    plain = logits_of(clone, images)
    assert not torch.equal(plain, before)
    freed = interp_core.detach(clone)
    assert torch.equal(logits_of(freed, images), plain)
    assert torch.equal(logits_of(lap, images), before)
    assert not freed.get_submodule("layer1")._forward_hooks
    assert len(lap.backbone.get_submodule("layer1")._forward_hooks) == hooks > 0


@pytest.mark.slow
@pytest.mark.parametrize("fails", [False, True])
def test_leaving_a_with_block_detaches(fails: bool, make_backbone: Make, snapshot: Snapshot, images: Tensor) -> None:
    model = make_backbone()
    before = snapshot(model)

    def work() -> None:
        with interp_core.attach(model) as lap:
            lap.explain(images)
            if fails:
                raise ValueError("mine")

    if fails:
        with pytest.raises(ValueError, match="mine"):
            work()
    else:
        work()
    assert snapshot(model) == before


def test_a_model_detached_inside_its_with_block_is_left_quietly(make_backbone: Make) -> None:
    model = make_backbone()
    with interp_core.attach(model) as lap:
        assert interp_core.detach(lap) is model
    assert not lap.attached


@pytest.mark.slow
def test_detached_is_detached(make_backbone: Make, images: Tensor) -> None:
    model = make_backbone()
    lap = interp_core.attach(model)
    interp_core.detach(lap)
    for use in (lambda: lap(images), lambda: lap.explain(images), lambda: interp_core.detach(lap)):
        with pytest.raises(BackboneError, match="was detached: attach its backbone again"):
            use()
    attached = interp_core.attach(model)
    assert torch.equal(logits_of(attached, images), logits_of(model, images))


@pytest.mark.slow
@pytest.mark.parametrize("what", ["model", "backbone", "wrapped", "gates"])
def test_attaching_twice_is_refused(what: str, make_lap: MakeLap, snapshot: Snapshot, images: Tensor) -> None:
    lap = make_lap()
    network = {"model": lap, "backbone": lap.backbone, "wrapped": nn.Sequential(lap), "gates": lap.gates}[what]
    before, logits = snapshot(lap), logits_of(lap, images)
    with pytest.raises(BackboneError, match="attached to this model already: use it, or detach it first"):
        interp_core.attach(network)
    assert snapshot(lap) == before
    assert torch.equal(logits_of(lap, images), logits)


@pytest.mark.parametrize(
    ("model", "says"),
    [
        (timm.create_model("test_vit", num_classes=4), "VisionTransformer is not convolutional"),
        (nn.Sequential(nn.Conv2d(3, 4, 3)), r"Sequential gives \(1, 4, 222, 222\) where logits"),
    ],
)
def test_what_lap_cannot_be_attached_to_is_left_as_it_was(model: nn.Module, says: str, snapshot: Snapshot) -> None:
    before = snapshot(model.train())
    with pytest.raises(BackboneError, match=says) as caught:
        interp_core.attach(model)
    assert "\n" not in str(caught.value)
    assert snapshot(model) == before


@pytest.mark.parametrize("thing", [3, None, "resnet18"])
def test_a_thing_that_is_no_module_is_refused(thing: Any) -> None:
    with pytest.raises(BackboneError, match=r"must be a torch\.nn\.Module"):
        interp_core.attach(thing)


def test_create_remembers_how() -> None:
    lap = interp_core.create("test_resnet", num_classes=5)
    assert lap.backbone_spec == {"name": "test_resnet", "kwargs": {"num_classes": 5}}
    assert logits_of(lap.eval(), torch.zeros(1, 3, 32, 32)).shape == (1, 5)


def test_create_names_what_is_close_to_an_unknown_name() -> None:
    with pytest.raises(UnknownNameError, match=r"unknown backbone 'resnt18': did you mean .*resnet18"):
        interp_core.create("resnt18")


def test_create_refuses_a_transformer() -> None:
    with pytest.raises(BackboneError, match="not convolutional"):
        interp_core.create("test_vit")


@pytest.mark.slow
@pytest.mark.parametrize(
    "thing", [[[1.0]], "picture", torch.zeros(2, 3, 32, 32, dtype=torch.uint8), torch.zeros(0, 3, 32, 32)]
)
def test_what_is_no_batch_of_normalised_images_is_refused(thing: Any, make_lap: MakeLap) -> None:
    with pytest.raises(ContractError, match="explain takes floating point images"):
        make_lap().explain(thing)


@pytest.mark.slow
@pytest.mark.parametrize("targets", ["cat", torch.tensor([1j, 1j]), [[1], [2, 3]]])
def test_what_is_no_class_index_is_refused(targets: Any, make_lap: MakeLap, images: Tensor) -> None:
    with pytest.raises(ContractError, match="class indices"):
        make_lap().explain(images, targets)


@pytest.mark.slow
def test_a_model_in_training_is_explained_as_it_will_be_used(make_lap: MakeLap, images: Tensor) -> None:
    lap = make_lap()
    expected, state = lap.explain(images), {name: value.clone() for name, value in lap.state_dict().items()}
    explanation = lap.train().explain(images)
    assert torch.equal(explanation.map, expected.map)
    assert all(module.training for module in lap.modules())
    assert all(torch.equal(value, state[name]) for name, value in lap.state_dict().items())
