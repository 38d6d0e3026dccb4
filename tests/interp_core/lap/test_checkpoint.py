"""A saved model comes back the same to the bit, without pickle, and damaged files are told apart."""

from __future__ import annotations

import copy
import json
import pickle
import re
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

import interp_core
from interp_core import LapModel, Recipe
from interp_core.errors import StoreError, UnknownNameError

DEFAULTS = {"concepts": None, "aggregate": "max", "weighting": "rbf", "refine": False, "cell": None, "image_size": None}

MakeLap = Callable[..., LapModel]


@pytest.fixture
def lap(sharpen: Callable[..., LapModel]) -> LapModel:
    torch.manual_seed(0)
    model = interp_core.create("test_resnet", num_classes=4, zero_init_last=False)
    for block in (*model.gates, model.head):
        block.scorer.expand.weight.data.normal_()  # type: ignore[union-attr, operator]
    for out in model.redistribution.out:
        nn.init.normal_(out.weight)  # type: ignore[arg-type]
    return sharpen(model).eval()


def same(first: LapModel, second: LapModel, images: Tensor) -> bool:
    ours, theirs = first.explain(images, 1), second.explain(images, 1)
    maps = all(
        torch.equal(a.contributions, b.contributions)
        and (a.record is b.record is None or torch.equal(a.record.scores, b.record.scores))
        for a, b in zip(ours.levels, theirs.levels, strict=True)
    )
    return maps and torch.equal(ours.logits, theirs.logits) and torch.equal(ours.map, theirs.map)


@pytest.mark.slow
def test_a_saved_model_comes_back_the_same_to_the_bit(lap: LapModel, images: Tensor, tmp_path: Path) -> None:
    weights = interp_core.save(lap, tmp_path / "new" / "folder" / "model")
    assert weights == tmp_path / "new" / "folder" / "model.safetensors"
    assert weights.is_file()
    loaded = interp_core.load(str(tmp_path / "new" / "folder" / "model"))
    assert same(lap, loaded, images)
    assert loaded.backbone_spec == lap.backbone_spec
    assert not any(module.training for module in loaded.modules())
    assert {parameter.device.type for parameter in loaded.parameters()} == {"cpu"}


@pytest.mark.slow
def test_options_come_back(images: Tensor, tmp_path: Path, make_backbone: Callable[..., nn.Module]) -> None:
    model = interp_core.attach(make_backbone(classes=12), finest=8, hidden=7, gate_hidden=3, candidates=5).eval()
    interp_core.save(model, tmp_path / "model.v1")
    loaded = interp_core.load(tmp_path / "model.v1", backbone=make_backbone(classes=12))
    options = {"finest": 8, "hidden": 7, "gate_hidden": 3, "candidates": 5}
    assert asdict(loaded.options) == {**options, **DEFAULTS}
    assert same(model, loaded, images)
    assert loaded.backbone_spec is None


@pytest.mark.slow
def test_a_trained_model_comes_back(lap: LapModel, images: Tensor, tmp_path: Path) -> None:
    interp_core.fit(lap, images.repeat(2, 1, 1, 1), torch.arange(4), recipe=Recipe(epochs=1, batch_size=4))
    interp_core.save(lap, tmp_path / "model")
    loaded = interp_core.load(tmp_path / "model")
    for name, value in lap.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    ours, theirs = lap.explain(images, 1), loaded.explain(images, 1)
    torch.testing.assert_close(theirs.logits, ours.logits)
    torch.testing.assert_close(theirs.map, ours.map, rtol=1e-4, atol=1e-5)


def test_a_backbone_of_ones_own_must_be_given(make_lap: MakeLap, images: Tensor, tmp_path: Path) -> None:
    model = make_lap()
    interp_core.save(model, tmp_path / "model")
    with pytest.raises(StoreError, match=r"does not say how its backbone is made: give load\(\.\.\., backbone="):
        interp_core.load(tmp_path / "model")
    fresh = interp_core.detach(copy.deepcopy(model))
    nn.init.zeros_(fresh.get_classifier().weight)  # type: ignore[operator]
    assert same(model, interp_core.load(tmp_path / "model", backbone=fresh), images)


def test_what_is_told_beside_the_weights(lap: LapModel, tmp_path: Path) -> None:
    interp_core.save(lap, tmp_path / "model", classes=["a", "b", "c", "d"], extra={"accuracy": 0.5})
    content = json.loads((tmp_path / "model.json").read_text())
    assert content["classes"] == ["a", "b", "c", "d"]
    assert content["extra"] == {"accuracy": 0.5}
    assert content["recipe"] == {"name": "test_resnet", "kwargs": {"num_classes": 4, "zero_init_last": False}}
    assert content["options"] == asdict(lap.options)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["model.json", "model.safetensors"]


@pytest.mark.slow
def test_there_is_no_pickle_in_the_file(
    lap: LapModel, images: Tensor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    content = interp_core.save(lap, tmp_path / "model").read_bytes()
    length = int.from_bytes(content[:8], "little")
    header = json.loads(content[8 : 8 + length])
    tensors = [entry for name, entry in header.items() if name != "__metadata__"]
    # Header and tensors account for every byte of the file.
    assert 8 + length + max(entry["data_offsets"][1] for entry in tensors) == len(content)
    assert {entry["dtype"] for entry in tensors} <= {"F32", "I64", "BOOL"}

    def forbidden(*_args: Any, **_kwargs: Any) -> None:
        raise AssertionError("pickle was used")

    for target, name in ((pickle, "load"), (pickle, "loads"), (pickle, "Unpickler"), (torch, "load")):
        monkeypatch.setattr(target, name, forbidden)
    assert same(lap, interp_core.load(tmp_path / "model"), images)


def truncated(path: Path) -> None:
    path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])


def headless(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:5])


def scrambled(path: Path) -> None:
    path.write_bytes(b"\xff" * path.stat().st_size)


@pytest.mark.slow
@pytest.mark.parametrize("damage", [truncated, headless, scrambled, Path.unlink])
def test_damaged_weights_are_told(damage: Callable[[Path], None], lap: LapModel, tmp_path: Path) -> None:
    damage(interp_core.save(lap, tmp_path / "model"))
    with pytest.raises(StoreError, match=r"cannot load .*model\.safetensors") as caught:
        interp_core.load(tmp_path / "model")
    assert "\n" not in str(caught.value)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("{", "cannot read"),
        ("", "cannot read"),
        ("[]", "is not a LAP model of format 1"),
        ("null", "is not a LAP model of format 1"),
        ("{}", "is not a LAP model of format 1"),
        ('{"format": 2, "recipe": null, "options": {}}', "is not a LAP model of format 1"),
    ],
)
def test_a_damaged_description_is_told(text: str, says: str, lap: LapModel, tmp_path: Path) -> None:
    interp_core.save(lap, tmp_path / "model")
    (tmp_path / "model.json").write_text(text)
    with pytest.raises(StoreError, match=says) as caught:
        interp_core.load(tmp_path / "model")
    assert "model.json" in str(caught.value)


@pytest.mark.parametrize("content", [b"\xff\xfe\x00", None])
def test_a_description_that_cannot_be_read_is_told(content: bytes | None, lap: LapModel, tmp_path: Path) -> None:
    interp_core.save(lap, tmp_path / "model")
    description = tmp_path / "model.json"
    description.unlink() if content is None else description.write_bytes(content)
    with pytest.raises(StoreError, match=r"cannot read .*model\.json"):
        interp_core.load(tmp_path / "model")


@pytest.mark.slow
@pytest.mark.parametrize(
    "content",
    [
        {"format": 1},
        {"format": 1, "recipe": {"name": "test_resnet"}, "options": {}},
        {"format": 1, "recipe": {"name": "test_resnet", "kwargs": {"num_classes": 4}}, "options": {"depth": 1}},
        {"format": 1, "recipe": "test_resnet", "options": {}},
    ],
)
def test_a_description_with_missing_parts_is_told(content: dict[str, Any], lap: LapModel, tmp_path: Path) -> None:
    interp_core.save(lap, tmp_path / "model")
    (tmp_path / "model.json").write_text(json.dumps(content))
    with pytest.raises(StoreError):
        interp_core.load(tmp_path / "model")


def test_a_backbone_that_no_longer_exists_is_told(lap: LapModel, tmp_path: Path) -> None:
    lap.backbone_spec = {"name": "test_resnett", "kwargs": {}}
    interp_core.save(lap, tmp_path / "model")
    with pytest.raises(UnknownNameError, match="did you mean test_resnet"):
        interp_core.load(tmp_path / "model")


@pytest.mark.slow
def test_a_backbone_that_does_not_fit_is_told(
    lap: LapModel, tmp_path: Path, make_backbone: Callable[..., nn.Module]
) -> None:
    interp_core.save(lap, tmp_path / "model")
    with pytest.raises(StoreError, match="give the backbone it was saved with"):
        interp_core.load(tmp_path / "model", backbone=make_backbone(classes=7))


def test_a_load_that_fails_leaves_the_backbone_free(
    lap: LapModel,
    tmp_path: Path,
    make_backbone: Callable[..., nn.Module],
    snapshot: Callable[[nn.Module], dict],
) -> None:
    interp_core.save(lap, tmp_path / "model").unlink()
    backbone = make_backbone()
    before = snapshot(backbone)
    with pytest.raises(StoreError):
        interp_core.load(tmp_path / "model", backbone=backbone)
    assert snapshot(backbone) == before


@pytest.mark.slow
def test_a_detached_model_is_saved_and_comes_back_attached(lap: LapModel, images: Tensor, tmp_path: Path) -> None:
    expected = lap.explain(images, 1)
    interp_core.detach(lap)
    interp_core.save(lap, tmp_path / "model")
    loaded = interp_core.load(tmp_path / "model")
    assert loaded.attached
    assert torch.equal(loaded.explain(images, 1).map, expected.map)


def rewrite(path: Path, keep: Callable[[str], bool]) -> None:
    """Write the weights in a file again without some of them."""
    save_file({key: value for key, value in load_file(path).items() if keep(key)}, path)


@pytest.mark.slow
def test_a_file_of_the_first_version_loads_and_gives_its_logits(lap: LapModel, images: Tensor, tmp_path: Path) -> None:
    """It has no weights of the redistribution: evidence is then upsampled, and no level counts as trained."""
    weights = interp_core.save(lap, tmp_path / "model")
    description = json.loads((tmp_path / "model.json").read_text())
    del description["options"]["cell"]
    (tmp_path / "model.json").write_text(json.dumps(description))
    rewrite(weights, lambda key: not key.startswith("redistribution.") and not key.endswith(".trained"))
    loaded, plain = interp_core.load(tmp_path / "model"), copy.deepcopy(lap)
    plain.redistribution.reset_parameters()
    ours, theirs = loaded.explain(images, 1), plain.explain(images, 1)
    assert torch.equal(ours.logits, theirs.logits)
    torch.testing.assert_close(ours.map, theirs.map)
    assert ours.gap <= 1e-5
    assert all(level.scores is None for level in ours.levels[:-1])


@pytest.mark.slow
@pytest.mark.parametrize("missing", ["head.a", "gates.0.scorer.reduce.weight", "backbone.conv1.0.weight"])
def test_any_other_weight_that_is_missing_is_told(missing: str, lap: LapModel, tmp_path: Path) -> None:
    weights = interp_core.save(lap, tmp_path / "model")
    assert missing in load_file(weights)
    rewrite(weights, lambda key: key != missing)
    with pytest.raises(StoreError, match=f"these weights do not fit: {re.escape(missing)};"):
        interp_core.load(tmp_path / "model")


@pytest.mark.slow
def test_weights_that_are_not_expected_are_told(lap: LapModel, tmp_path: Path) -> None:
    weights = interp_core.save(lap, tmp_path / "model")
    save_file({**load_file(weights), "redistribution.fifth.weight": torch.zeros(1)}, weights)
    with pytest.raises(StoreError, match=r"these weights do not fit: redistribution\.fifth\.weight;"):
        interp_core.load(tmp_path / "model")


@pytest.mark.slow
def test_whether_levels_are_trained_is_saved(lap: LapModel, images: Tensor, tmp_path: Path) -> None:
    lap.gates[1].trained.fill_(True)  # type: ignore[operator]
    interp_core.save(lap, tmp_path / "model")
    levels = interp_core.load(tmp_path / "model").explain(images, 1).levels
    assert [level.scores is not None for level in levels] == [False, True, False, True]


@pytest.mark.slow
@pytest.mark.parametrize("change", ["deep", "hidden", "classes", "name", "empty"])
def test_descriptions_that_no_model_can_have_are_refused(change: str, lap: LapModel, tmp_path: Path) -> None:
    interp_core.save(lap, tmp_path / "model")
    path = tmp_path / "model.json"
    content = json.loads(path.read_text())
    match change:
        case "hidden":
            content["options"]["hidden"] = 10**12  # would take all memory
        case "classes":
            content["recipe"]["kwargs"]["num_classes"] = 10**400
        case "name":
            content["recipe"]["name"] = 3
        case "empty":
            content["recipe"] = []
    path.write_text("[" * 100_000 if change == "deep" else json.dumps(content))
    with pytest.raises(StoreError, match=r"model\.json") as raised:
        interp_core.load(tmp_path / "model")
    assert "\n" not in str(raised.value)
