"""The window weights and the blocks: identities, a case solved on paper, a slow loop, and recording per thread."""

from __future__ import annotations

import math
import threading
from collections.abc import Callable

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import interp_core
from interp_core import Explanation, LapModel
from interp_core.errors import ContractError
from interp_core.lap.blocks import AGGREGATES, GateBlock, HeadBlock, Scorer, class_activations
from interp_core.lap.pooling import attention, attention_gate, lap_pool2d, window_counts
from interp_core.lap.recording import Recording

SIZES = [(4, 4, 2), (5, 7, 2), (7, 5, 3), (9, 4, 4), (6, 6, 6), (3, 5, 8), (1, 1, 2), (5, 7, None), (1, 1, None)]


def random_maps(channels: int, height: int, width: int, seed: int = 0) -> Tensor:
    return torch.rand(2, channels, height, width, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def slow_pool(features: Tensor, scores: Tensor, a: float, window: int | None) -> tuple[Tensor, Tensor]:
    """Pooled features and attention weights, one window and one position at a time."""
    n, channels, height, width = features.shape
    rows, columns = (window or height), (window or width)
    pooled = features.new_zeros(n, channels, math.ceil(height / rows), math.ceil(width / columns))
    weights = torch.zeros_like(scores)
    for image in range(n):
        for i in range(pooled.shape[2]):
            for j in range(pooled.shape[3]):
                inside = [
                    (y, x)
                    for y in range(i * rows, min((i + 1) * rows, height))
                    for x in range(j * columns, min((j + 1) * columns, width))
                ]
                highest = max(scores[image, 0, y, x].item() for y, x in inside)
                r = [math.exp(-(a**2) * (highest - scores[image, 0, y, x].item()) ** 2) for y, x in inside]
                for (y, x), value in zip(inside, r, strict=True):
                    weights[image, 0, y, x] = value / sum(r)
                    pooled[image, :, i, j] += value / sum(r) * features[image, :, y, x]
    return pooled, weights


def sums_per_window(weights: Tensor, window: int | None) -> Tensor:
    height, width = weights.shape[-2:]
    if window is None:
        return weights.sum((2, 3))
    padded = F.pad(weights, (0, -width % window, 0, -height % window))
    return F.avg_pool2d(padded, window) * window**2


def test_a_two_by_two_window_on_paper() -> None:
    # a^2 = 4 and differences 0, 1/2, 1, 1/2 to the maximum: r = e^0, e^-1, e^-4, e^-1, of sum 1.7540745.
    scores = torch.tensor([[[[1.0, 0.5], [0.0, 0.5]]]], dtype=torch.float64)
    features = torch.tensor([[[[1.0, 2.0], [3.0, 4.0]]]], dtype=torch.float64)
    expected = torch.tensor([[[[0.5701012, 0.2097285], [0.0104418, 0.2097285]]]], dtype=torch.float64)
    torch.testing.assert_close(attention(scores, 2.0, 2), expected, rtol=0, atol=1e-7)
    torch.testing.assert_close(attention_gate(scores, 2.0, 2), 4 * expected, rtol=0, atol=4e-7)
    # 0.5701012 + 2 * 0.2097285 + 3 * 0.0104418 + 4 * 0.2097285
    assert lap_pool2d(features, scores, 2.0, 2).item() == pytest.approx(1.8597976, abs=1e-6)


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width", "window"), SIZES)
@pytest.mark.parametrize("a", [0.0, 0.7, -2.0, 30.0])
def test_weights_are_a_distribution_in_every_window(height: int, width: int, window: int | None, a: float) -> None:
    weights = attention(random_maps(1, height, width), a, window)
    assert (weights >= 0).all()
    sums = sums_per_window(weights, window)
    torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-12)


@pytest.mark.slow
@pytest.mark.parametrize(("height", "width", "window"), SIZES)
@pytest.mark.parametrize("a", [0.0, 1.3, 5.0])
def test_it_agrees_with_a_slow_loop(height: int, width: int, window: int | None, a: float) -> None:
    features, scores = random_maps(3, height, width, seed=1), random_maps(1, height, width)
    pooled, weights = slow_pool(features, scores, a, window)
    torch.testing.assert_close(lap_pool2d(features, scores, a, window), pooled, rtol=0, atol=1e-12)
    torch.testing.assert_close(attention(scores, a, window), weights, rtol=0, atol=1e-12)


@pytest.mark.parametrize(("height", "width", "window"), SIZES)
def test_at_zero_it_is_average_pooling_to_the_bit(height: int, width: int, window: int | None) -> None:
    features, scores = random_maps(3, height, width, seed=1).float(), random_maps(1, height, width).float()
    assert torch.equal(attention_gate(scores, 0.0, window), torch.ones_like(scores))
    expected = features.mean((2, 3), keepdim=True) if window is None else F.avg_pool2d(features, window, ceil_mode=True)
    assert torch.equal(lap_pool2d(features, scores, torch.zeros(()), window), expected)


@pytest.mark.parametrize("window", [2, 3, None])
def test_at_a_large_value_it_picks_the_highest_score(window: int | None) -> None:
    scores = torch.randperm(36, generator=torch.Generator().manual_seed(0)).reshape(1, 1, 6, 6).double() / 36
    side = window or 6
    _, indices = F.max_pool2d(scores, side, return_indices=True)
    features = random_maps(3, 6, 6)[:1]
    expected = features.flatten(2).gather(2, indices.flatten(2).expand(1, 3, -1)).reshape(1, 3, *indices.shape[-2:])
    torch.testing.assert_close(lap_pool2d(features, scores, 1e3, window), expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("window", [2, None])
def test_only_differences_of_scores_matter(window: int | None) -> None:
    scores = random_maps(1, 5, 7) / 2
    torch.testing.assert_close(attention(scores + 0.4, 3.0, window), attention(scores, 3.0, window), rtol=0, atol=1e-12)
    flat = attention_gate(torch.full((1, 1, 5, 7), 0.9), 3.0, window)
    assert torch.equal(flat, torch.ones(1, 1, 5, 7))


def test_only_the_square_of_a_counts() -> None:
    scores = random_maps(1, 4, 4)
    assert torch.equal(attention(scores, 2.0, 2), attention(scores, -2.0, 2))


@pytest.mark.parametrize(("start", "vanishes"), [(0.0, True), (2.0, False)])
def test_the_gradient_of_a_vanishes_at_zero_only(start: float, vanishes: bool) -> None:
    a = torch.tensor(start, dtype=torch.float64, requires_grad=True)
    lap_pool2d(random_maps(3, 4, 4, seed=1), random_maps(1, 4, 4), a, 2).square().sum().backward()
    assert a.grad is not None
    assert (a.grad == 0) == vanishes


@pytest.mark.parametrize("window", [2, 3, None])
def test_gradients_of_scores_and_a_are_right(window: int | None) -> None:
    features, scores = random_maps(2, 4, 5, seed=1)[:1], random_maps(1, 4, 5)[:1].requires_grad_()
    a = torch.tensor(1.5, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lambda s, sharpness: lap_pool2d(features, s, sharpness, window), (scores, a))


@pytest.mark.parametrize(("height", "width", "window"), SIZES)
def test_window_counts_agree_with_a_slow_loop(height: int, width: int, window: int | None) -> None:
    rows, columns = (window or height), (window or width)

    def members(position: int, side: int, size: int) -> int:
        return len([q for q in range(size) if q // side == position // side])

    slow = [[members(y, rows, height) * members(x, columns, width) for x in range(width)] for y in range(height)]
    assert window_counts(height, width, window)[0, 0].tolist() == slow


# 41, 47, 55 and 61 are sides whose reciprocal rounds the wrong way in single precision.
@pytest.mark.parametrize("window", [*range(1, 17), 32, 41, 47, 55, 61])
def test_windows_of_every_side_are_tiled_right(window: int) -> None:
    scores = random_maps(1, 2 * window + 1, 1).float()
    _, weights = slow_pool(scores, scores, 2.0, window)
    torch.testing.assert_close(attention(scores, 2.0, window), weights, rtol=0, atol=1e-6)


def test_select_picks_the_rows_of_the_full_product() -> None:
    weight, features = random_maps(5, 7, 1)[0, :, :, 0], random_maps(7, 3, 4)
    every = class_activations(weight, features, None)
    torch.testing.assert_close(every, torch.einsum("kc,nchw->nkhw", weight, features))
    classes = torch.tensor([[4, 0], [1, 1]])
    expected = torch.stack([every[0, [4, 0]], every[1, [1, 1]]])
    torch.testing.assert_close(class_activations(weight, features, classes), expected)


def test_a_silent_scorer_says_its_bias_everywhere() -> None:
    scorer = Scorer(3, 4, 5, bias=-2.0, silent=True).double()
    assert torch.equal(scorer(random_maps(3, 2, 3)), torch.full((2, 4, 2, 3), -2.0, dtype=torch.float64))


def test_a_gate_block_is_the_identity_until_a_moves() -> None:
    block, features = GateBlock("level", 3, 2).double(), random_maps(3, 5, 6)
    assert torch.equal(block(features), features)
    nn.init.constant_(block.a, 2.0)
    scores = torch.sigmoid(block.scorer(features))
    torch.testing.assert_close(block(features), features * attention_gate(scores, 2.0, 2))
    assert not torch.allclose(block(features), features)


@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_a_gate_block_aggregates_its_concepts(aggregate: str) -> None:
    block = GateBlock("level", 3, 2, concepts=("fur", "eye", "ear"), aggregate=aggregate).double()
    features = random_maps(3, 4, 4)
    if block.mix is not None:
        nn.init.constant_(block.mix[1], 2.0)
    recording = Recording()
    block(features, recording)
    record = recording.gates["level"]
    maps = torch.sigmoid(block.scorer(features))
    shares = torch.tensor([1.0, math.exp(2), 1.0], dtype=torch.float64)[:, None, None] / (2 + math.exp(2))
    expected = {"max": maps.amax(1), "mean": maps.mean(1), "learned": (maps * shares).sum(1)}[aggregate]
    assert torch.equal(record.concepts, maps)
    torch.testing.assert_close(record.scores[:, 0], expected, rtol=0, atol=1e-12)
    assert torch.equal(record.gate, torch.ones_like(record.scores))


def test_equal_learned_weights_are_the_mean_and_come_back_by_reset() -> None:
    block = GateBlock("level", 3, 2, concepts=("fur", "eye"), aggregate="learned").double()
    assert block.mix is not None
    nn.init.normal_(block.mix)
    block.reset_parameters()
    features = random_maps(3, 4, 4)
    recording = Recording()
    block(features, recording)
    record = recording.gates["level"]
    torch.testing.assert_close(record.scores[:, 0], record.concepts.mean(1), rtol=0, atol=1e-12)


@pytest.mark.parametrize(
    "block", [GateBlock("level", 3, 2), HeadBlock(3, 4, linear_head=True), Scorer(3, 4, 5, bias=0.0)]
)
def test_randomisation_tests_reach_every_parameter_and_find_no_softmax(block: nn.Module) -> None:
    for module in block.modules():
        assert not isinstance(module, nn.Softmax)
        if list(module.parameters(recurse=False)):
            assert callable(getattr(module, "reset_parameters", None))


def test_reset_parameters_goes_back_to_the_start() -> None:
    gate, head = GateBlock("level", 3, 2), HeadBlock(3, 4, linear_head=True, gain=1.25)
    assert head.gain is not None
    with torch.no_grad():
        for parameter in (gate.a, head.a, head.gain):
            parameter.fill_(7.0)
    for module in (*gate.modules(), *head.modules()):
        if hasattr(module, "reset_parameters"):
            module.reset_parameters()  # type: ignore[operator]
    assert (gate.a.item(), head.a.item(), head.gain.item()) == (0.0, 0.0, 1.25)
    HeadBlock(3, 4, linear_head=False).reset_parameters()


def test_head_concepts_start_from_the_standardised_evidence() -> None:
    block = HeadBlock(1, 2, linear_head=True, gain=1.5, bias=-2.0).double()
    # Values 5 and 9 standardise to -1 and 1; the second class sees the features with the other sign.
    features = torch.tensor([[[[5.0, 9.0]]]], dtype=torch.float64)
    maps = block.concepts(features, torch.tensor([[1.0], [-3.0]], dtype=torch.float64))
    low, high = 1 / (1 + math.exp(3.5)), 1 / (1 + math.exp(0.5))
    torch.testing.assert_close(maps[0, :, 0], torch.tensor([[low, high], [high, low]]).double(), rtol=0, atol=1e-6)


def test_flat_evidence_says_nothing() -> None:
    block = HeadBlock(3, 2, linear_head=True, bias=-2.0)
    maps = block.concepts(torch.full((1, 3, 4, 4), 0.25), torch.ones(2, 3))
    torch.testing.assert_close(maps, torch.full((1, 2, 4, 4), 1 / (1 + math.exp(2))))


def test_a_head_without_evidence_is_its_scorer() -> None:
    block, features = HeadBlock(3, 20, linear_head=False).double(), random_maps(3, 4, 4)
    recording = Recording()
    block(features, recording=recording)
    assert block.gain is None
    maps = block.concepts(features, None)
    torch.testing.assert_close(maps, torch.sigmoid(block.scorer(features)))
    nn.init.constant_(block.a, 2.0)
    torch.testing.assert_close(block(features), features * attention_gate(maps.amax(1, keepdim=True), 2.0, None))
    assert recording.head.concepts is None


def many_classes() -> tuple[HeadBlock, Tensor, Tensor]:
    torch.manual_seed(0)
    block = HeadBlock(6, 50, linear_head=True).double()
    nn.init.constant_(block.a, 2.0)
    nn.init.normal_(block.scorer.expand.weight)
    return block, random_maps(6, 4, 5), torch.randn(50, 6, dtype=torch.float64)


def test_with_many_classes_only_the_best_candidates_share_the_attention() -> None:
    block, features, weight = many_classes()
    maps = block.concepts(features, weight)
    ranking = (features.mean((2, 3)) @ weight.t()).argsort(1, descending=True)
    best = torch.stack([maps[i, ranking[i, :10]] for i in range(2)])
    expected = features * attention_gate(best.amax(1, keepdim=True), 2.0, None)
    torch.testing.assert_close(block(features, weight), expected)
    all_of_them = features * attention_gate(maps.amax(1, keepdim=True), 2.0, None)
    assert not torch.allclose(expected, all_of_them)


def test_recording_every_class_changes_nothing_that_is_handed_on() -> None:
    block, features, weight = many_classes()
    plain = block(features, weight)
    recording, small = Recording(all_concepts=True), Recording()
    recorded = block(features, weight, recording=recording)
    torch.testing.assert_close(recorded, plain, rtol=0, atol=1e-12)
    torch.testing.assert_close(recording.head.concepts, block.concepts(features, weight))
    block(features, weight, recording=small)
    assert small.head.concepts is None


@pytest.mark.parametrize("linear_head", [True, False])
def test_target_maps_are_read_from_the_recorded_forward(linear_head: bool) -> None:
    block, features, weights = many_classes()
    block = block if linear_head else HeadBlock(6, 50, linear_head=False).double()
    weight = weights if linear_head else None
    recording = Recording()
    block(features, weight, recording=recording)
    targets = torch.tensor([49, 3])
    maps, activations = block.target_maps(recording.head, weight, targets)
    every = block.concepts(features, weight)
    torch.testing.assert_close(maps, torch.stack([every[0, 49:50], every[1, 3:4]]))
    assert (activations is not None) == linear_head
    if activations is not None:
        torch.testing.assert_close(activations[:, 0], torch.einsum("nc,nchw->nhw", weights[targets], features))


@pytest.mark.slow
def test_a_recording_belongs_to_the_pass_it_was_handed_to(make_lap: Callable[..., LapModel], images: Tensor) -> None:
    """Neither a pass of another model inside it nor a later one writes into it."""
    lap, guest, outer, inner = make_lap(), make_lap("test_efficientnet"), Recording(), Recording()

    def pass_inside(*_: object) -> None:
        guest(images, inner)

    handle = lap.gates[0].register_forward_hook(pass_inside)
    lap(images, outer)
    handle.remove()
    assert list(outer.gates) == [site.module for site in lap.sites]
    assert list(inner.gates) == [site.module for site in guest.sites]
    before = dict(outer.gates)
    lap(images)
    lap(images, Recording())
    assert all(outer.gates[name] is record for name, record in before.items())


def test_a_recording_ends_with_an_error(make_lap: Callable[..., LapModel], images: Tensor) -> None:
    lap, recording = make_lap(), Recording()

    def fail(*_: object) -> None:
        raise ValueError("mine")

    handle = lap.gates[1].register_forward_hook(fail)
    with pytest.raises(ValueError, match="mine"):
        lap(images, recording)
    handle.remove()
    assert len(recording.gates) == 2
    lap(images)
    assert len(recording.gates) == 2
    with pytest.raises(ContractError, match="no forward pass was recorded"):
        _ = recording.head


def test_nothing_is_kept_on_the_modules(make_lap: Callable[..., LapModel], images: Tensor) -> None:
    lap = make_lap()
    before = {name: dict(vars(module)) for name, module in lap.named_modules()}
    lap.explain(images)
    lap(images, Recording(all_concepts=True))
    for name, module in lap.named_modules():
        assert vars(module).keys() == before[name].keys()
        assert all(vars(module)[key] is value for key, value in before[name].items())


def test_two_threads_explain_at_once_on_one_model(
    make_lap: Callable[..., LapModel], images_of: Callable[..., Tensor]
) -> None:
    lap = make_lap().double()
    batches = images_of(64, 64).double(), images_of(97, 65, count=3).double()
    alone = [lap.explain(batch, target) for target, batch in enumerate(batches)]
    both_inside = threading.Barrier(2, timeout=30)
    explanations: dict[int, Explanation] = {}

    def explain(index: int) -> None:
        explanations[index] = lap.explain(batches[index], index)

    def meet(*_: object) -> None:
        both_inside.wait()

    # Neither thread leaves the backbone before the other has entered it.
    handle = lap.backbone.get_submodule("layer4").register_forward_hook(meet)
    threads = [threading.Thread(target=explain, args=(index,)) for index in range(2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    handle.remove()
    for index, expected in enumerate(alone):
        for level, expected_level in zip(explanations[index].levels, expected.levels, strict=True):
            torch.testing.assert_close(level.contributions, expected_level.contributions, rtol=0, atol=1e-12)
            torch.testing.assert_close(level.attention, expected_level.attention, rtol=0, atol=1e-12)
        torch.testing.assert_close(explanations[index].map, expected.map, rtol=0, atol=1e-6)


@pytest.mark.parametrize("window", [None, 2, 3])
def test_the_other_weightings_are_what_they_say(window: int | None) -> None:
    scores = torch.rand(2, 1, 6, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    for weighting, raised in (("softmax", scores), ("lip", scores.logit())):
        gate = attention_gate(scores, 1.5, window, weighting)
        side = window or 6
        parts, weights = F.pixel_unshuffle(raised, side), F.pixel_unshuffle(gate, side)
        torch.testing.assert_close(weights, side * side * (2.25 * parts).softmax(1))
        assert torch.equal(attention_gate(scores, 0.0, window, weighting), torch.ones_like(scores))


def test_a_weighting_is_chosen_when_attaching() -> None:
    lap = interp_core.attach(timm.create_model("test_resnet", num_classes=3), weighting="lip")
    assert {block.weighting for block in (*lap.gates, lap.head)} == {"lip"}
    with pytest.raises(ContractError, match="weighting must be one of rbf, softmax, lip, got 'gauss'"):
        interp_core.attach(timm.create_model("test_resnet"), weighting="gauss")
