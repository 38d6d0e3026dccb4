"""Blocks with several concepts of the designer's own, from `attach` to the saved file."""

from __future__ import annotations

import copy
import json
import math
from collections.abc import Callable
from pathlib import Path
from types import MappingProxyType
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import interp_core
from interp_core import LapModel, Recipe
from interp_core.errors import StoreError
from interp_core.lap.blocks import AGGREGATES, GateBlock
from interp_core.lap.pooling import attention_gate
from interp_core.lap.recording import Recording

Make = Callable[..., nn.Module]
Images = Callable[..., Tensor]
Sharpen = Callable[..., LapModel]
LEVELS = ("layer1", "layer2", "layer3")
BY_LEVEL = {"layer1": ("edge", "spot", "line"), "layer3": ("fur", "eye")}


@pytest.fixture
def make(make_backbone: Make, sharpen: Sharpen) -> Callable[..., LapModel]:
    """Attached with the same scorers every time, attention at work, and scores that count as trained."""

    def attach(a: float = 2.0, **options: Any) -> LapModel:
        torch.manual_seed(0)
        lap = sharpen(interp_core.attach(make_backbone(), **options), a)
        for block in gates(lap):
            block.trained.fill_(True)
        return lap

    return attach


def gates(lap: LapModel) -> list[GateBlock]:
    assert all(isinstance(block, GateBlock) for block in lap.gates)
    return list(lap.gates)  # type: ignore[arg-type]


def sums_per_window(weights: Tensor) -> Tensor:
    return F.avg_pool2d(weights, 2, ceil_mode=True, divisor_override=1)


# Names and shapes


@pytest.mark.slow
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_the_same_concepts_at_every_level(aggregate: str, make: Callable[..., LapModel], images: Tensor) -> None:
    lap = make(concepts=("fur", "eye"), aggregate=aggregate)
    explanation = lap.explain(images, 1)
    assert [level.name for level in explanation.levels] == [*LEVELS, "head"]
    for level in explanation.levels[:-1]:
        assert level.names == ("fur", "eye")
        assert level.concepts.shape == (2, 2, *level.scores.shape[2:])
        assert level.scores.shape == level.attention.shape == (2, 1, *level.scores.shape[2:])
        assert ((level.concepts > 0) & (level.concepts < 1)).all()
    assert explanation.levels[-1].names == ("target",)
    assert explanation.gap < 1e-5
    assert [block.concepts for block in gates(lap)] == [("fur", "eye")] * 3


@pytest.mark.slow
def test_concepts_of_each_level(make: Callable[..., LapModel], images: Tensor) -> None:
    explanation = make(concepts=BY_LEVEL).explain(images, 1)
    assert [level.names for level in explanation.levels[:-1]] == [("edge", "spot", "line"), ("any",), ("fur", "eye")]
    assert [level.concepts.shape[1] for level in explanation.levels[:-1]] == [3, 1, 2]
    assert explanation.gap < 1e-5


def test_one_nameless_concept_by_default(make: Callable[..., LapModel], images: Tensor) -> None:
    levels = make().explain(images, 1).levels
    assert [level.names for level in levels[:-1]] == [("any",)] * 3
    assert all(torch.equal(level.concepts, level.scores) for level in levels)


@pytest.mark.slow
def test_a_map_belongs_to_its_name(make: Callable[..., LapModel], images: Tensor) -> None:
    """The scorer's second output is the second name's map."""
    lap = make(concepts=("fur", "eye"))
    with torch.no_grad():
        for block in gates(lap):
            block.scorer.expand.weight[1] = 0
            block.scorer.expand.bias[1] = -2.0  # type: ignore[index]
    for level in lap.explain(images, 1).levels[:-1]:
        maps = dict(zip(level.names, level.concepts.unbind(1), strict=True))
        torch.testing.assert_close(maps["eye"], torch.full_like(maps["eye"], 1 / (1 + math.exp(2))))
        assert maps["fur"].std() > 1e-4


# What the concepts do


@pytest.mark.slow
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_logits_stay_the_same_at_attach(
    aggregate: str, make: Callable[..., LapModel], make_backbone: Make, images: Tensor
) -> None:
    lap = make(a=0.0, concepts=BY_LEVEL, aggregate=aggregate)
    with torch.no_grad():
        assert torch.equal(lap(images), make_backbone()(images))


@pytest.mark.slow
@pytest.mark.parametrize("size", [(64, 64), (65, 97)])
@pytest.mark.parametrize("aggregate", AGGREGATES)
def test_scores_and_attention_come_from_all_concepts(
    aggregate: str, size: tuple[int, int], make: Callable[..., LapModel], images_of: Images
) -> None:
    lap = make(concepts=("fur", "eye", "ear"), aggregate=aggregate).double()
    shares = torch.tensor([0.2, 0.5, 0.3], dtype=torch.float64)
    for block in gates(lap):
        if block.mix is not None:
            block.mix.data = shares.log() + 7.0  # only differences count
    explanation = lap.explain(images_of(*size).double(), 1)
    assert explanation.gap < 1e-6  # the pixels are single precision
    for level in explanation.levels[:-1]:
        maps = level.concepts
        by_hand = {
            "max": maps.amax(1),
            "mean": maps.mean(1),
            "learned": (maps * shares[:, None, None]).sum(1),
        }[aggregate]
        torch.testing.assert_close(level.scores[:, 0], by_hand, rtol=0, atol=1e-12)
        gate = attention_gate(level.scores, 2.0, 2)
        sums = sums_per_window(level.attention)
        torch.testing.assert_close(sums, torch.ones_like(sums), rtol=0, atol=1e-12)
        counts = F.interpolate(sums_per_window(torch.ones_like(gate)), scale_factor=2)[
            ..., : gate.shape[2], : gate.shape[3]
        ]
        torch.testing.assert_close(level.attention * counts, gate, rtol=0, atol=1e-12)


@pytest.mark.slow
def test_a_concept_that_wins_nowhere_changes_nothing_under_max(make: Callable[..., LapModel], images: Tensor) -> None:
    lap = make(concepts=("fur", "eye"))
    silenced = copy.deepcopy(lap)
    with torch.no_grad():
        for model, bias in ((lap, -30.0), (silenced, -20.0)):
            for block in gates(model):
                block.scorer.expand.bias[1] = bias  # type: ignore[index]
    assert torch.equal(lap.explain(images, 1).map, silenced.explain(images, 1).map)


# Training


@pytest.mark.slow
def test_every_concept_and_mix_learn(make: Callable[..., LapModel], images: Tensor) -> None:
    lap = make(concepts=("fur", "eye"), aggregate="learned").train()
    F.cross_entropy(lap(images), torch.tensor([0, 1])).backward()
    for block in gates(lap):
        assert block.mix is not None
        for gradient in (block.mix.grad, block.scorer.expand.weight.grad, block.scorer.expand.bias.grad):  # type: ignore[union-attr]
            assert gradient is not None
            assert (gradient.flatten(1) if gradient.ndim > 1 else gradient[:, None]).abs().sum(1).gt(0).all()
        torch.testing.assert_close(block.mix.grad.sum(), torch.zeros(()), rtol=0, atol=1e-6)  # type: ignore[union-attr]


@pytest.mark.slow
def test_fit_moves_the_mix(make: Callable[..., LapModel], images_of: Images) -> None:
    lap = make(a=0.0, concepts=("fur", "eye"), aggregate="learned")
    assert all(torch.equal(block.mix, torch.zeros(2)) for block in gates(lap))  # type: ignore[arg-type]
    recipe = Recipe(epochs=2, batch_size=4, shift=0)
    interp_core.fit(lap, images_of(64, 64, count=8), torch.arange(8) % 4, recipe=recipe)
    for block in gates(lap):
        assert block.mix is not None
        assert block.mix.abs().min() > 1e-5
        assert block.mix.isfinite().all()


@pytest.mark.slow
def test_no_mix_where_nothing_is_learned(make: Callable[..., LapModel]) -> None:
    for aggregate in ("max", "mean"):
        lap = make(concepts=("fur", "eye"), aggregate=aggregate)
        assert not [name for name, _ in lap.named_parameters() if name.endswith("mix")]


@pytest.mark.slow
def test_a_concept_of_a_level_can_be_taught(make: Callable[..., LapModel], images: Tensor) -> None:
    """What a designer does with a name: a loss on its map, read from a recorded pass."""
    lap = make(concepts={"layer2": ("bright", "other")})
    target_maps = F.adaptive_avg_pool2d(images.mean(1, keepdim=True), 8).gt(0).float()
    block = gates(lap)[1]
    optimizer = torch.optim.Adam(block.scorer.parameters(), lr=0.02)
    losses = []
    for _ in range(15):
        recording = Recording()
        lap(images, recording)
        maps = recording.gates["layer2"].concepts[:, [block.concepts.index("bright")]]
        loss = F.binary_cross_entropy(maps, target_maps)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    assert losses[-1] < 0.9 * losses[0]


# Keeping them


def same(first: LapModel, second: LapModel, images: Tensor) -> bool:
    ours, theirs = first.explain(images, 1), second.explain(images, 1)
    levels = all(
        a.names == b.names and torch.equal(a.concepts, b.concepts) and torch.equal(a.contributions, b.contributions)
        for a, b in zip(ours.levels, theirs.levels, strict=True)
    )
    return levels and torch.equal(ours.map, theirs.map) and torch.equal(ours.logits, theirs.logits)


@pytest.mark.slow
@pytest.mark.parametrize(
    "concepts", [("fur", "eye"), BY_LEVEL, MappingProxyType(BY_LEVEL)], ids=["same", "by", "proxy"]
)
@pytest.mark.parametrize("aggregate", ["max", "learned"])
def test_a_saved_model_keeps_names_and_maps(
    concepts: Any, aggregate: str, make: Callable[..., LapModel], make_backbone: Make, images: Tensor, tmp_path: Path
) -> None:
    lap = make(concepts=concepts, aggregate=aggregate)
    for block in gates(lap):
        if block.mix is not None:
            nn.init.normal_(block.mix)
    interp_core.save(lap, tmp_path / "model")
    loaded = interp_core.load(tmp_path / "model", backbone=make_backbone())
    assert [block.concepts for block in gates(loaded)] == [block.concepts for block in gates(lap)]
    assert [block.aggregate for block in gates(loaded)] == [aggregate] * 3
    assert same(lap, loaded, images)
    assert same(lap, copy.deepcopy(lap), images)


@pytest.mark.slow
def test_the_file_tells_the_names(make: Callable[..., LapModel], tmp_path: Path) -> None:
    interp_core.save(make(concepts=BY_LEVEL), tmp_path / "model")
    options = json.loads((tmp_path / "model.json").read_text())["options"]
    assert options["concepts"] == {"layer1": ["edge", "spot", "line"], "layer3": ["fur", "eye"]}


def test_what_the_caller_does_with_the_names_later_is_no_matter(make: Callable[..., LapModel]) -> None:
    names = {"layer1": ["fur", "eye"]}
    lap = make(concepts=names)
    names["layer1"].append("ear")
    names["layer2"] = ["nose", "mouth"]
    assert lap.options.concepts == {"layer1": ["fur", "eye"]}
    assert [len(block.concepts) for block in gates(lap)] == [2, 1, 1]


@pytest.mark.slow
def test_weights_of_other_concepts_are_refused(
    make: Callable[..., LapModel], make_backbone: Make, tmp_path: Path
) -> None:
    interp_core.save(make(concepts=("fur", "eye")), tmp_path / "model")
    description = json.loads((tmp_path / "model.json").read_text())
    description["options"]["concepts"] = ["fur", "eye", "ear"]
    (tmp_path / "model.json").write_text(json.dumps(description))
    with pytest.raises(StoreError, match="cannot load"):
        interp_core.load(tmp_path / "model", backbone=make_backbone())


def test_new_classes_keep_the_concepts(make: Callable[..., LapModel], images: Tensor) -> None:
    lap = make(concepts=BY_LEVEL)
    before = [level.concepts for level in lap.explain(images, 1).levels[:2]]
    lap.reset_classifier(7)
    after = lap.explain(images, 6).levels
    assert [level.names for level in after[:-1]] == [("edge", "spot", "line"), ("any",), ("fur", "eye")]
    assert all(torch.equal(ours.concepts, theirs) for ours, theirs in zip(after, before, strict=False))


@pytest.mark.slow
def test_pictures_show_the_levels_of_several_concepts(make: Callable[..., LapModel], images: Tensor) -> None:
    assert make(concepts=BY_LEVEL).explain(images, 1)._repr_png_().startswith(b"\x89PNG")
