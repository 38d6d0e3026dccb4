"""Ready-made redistributions: they load into the backbone they were trained on, and nowhere else."""

from __future__ import annotations

from pathlib import Path

import pytest
import timm
import torch
from helpers.shared import SHARED
from torch import nn

import interp_core
from interp_core import LapModel
from interp_core.deploy import ready_made
from interp_core.errors import ContractError, UnknownNameError

pytestmark = pytest.mark.slow


def fitted(seed: int = 0, name: str = "test_resnet", classes: int = 5) -> LapModel:
    torch.manual_seed(seed)
    lap = interp_core.attach(timm.create_model(name, num_classes=classes), image_size=64)
    for layer in lap.redistribution.out:
        nn.init.normal_(layer.weight)
    return lap


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(ready_made, "FOLDER", tmp_path)
    return tmp_path


def test_a_written_file_is_recognised_by_the_weights_of_the_backbone(folder: Path) -> None:
    lap = fitted()
    files = ready_made.write_ready_made(lap, {"images": 3}, folder / "test_resnet.tag")
    assert [file.name for file in files] == ["test_resnet.tag.safetensors", "test_resnet.tag.json"]
    assert ready_made.names() == ["test_resnet.tag"]
    assert ready_made.read_facts("test_resnet.tag")["images"] == 3
    torch.manual_seed(0)
    same = interp_core.attach(timm.create_model("test_resnet", num_classes=5), image_size=64)
    same.backbone.reset_classifier(3)  # no weight belongs to a class
    assert ready_made.load_ready_made(same) == "test_resnet.tag"
    for before, after in zip(lap.redistribution.parameters(), same.redistribution.parameters(), strict=True):
        torch.testing.assert_close(after, before, rtol=1e-3, atol=1e-4)
    assert all(parameter.dtype == torch.float32 for parameter in same.redistribution.parameters())


def test_other_weights_and_other_networks_are_left_alone(folder: Path) -> None:
    ready_made.write_ready_made(fitted(), {}, folder / "one")
    others = [fitted(seed=1), fitted(name="test_efficientnet")]
    for lap in others:
        before = [parameter.clone() for parameter in lap.redistribution.parameters()]
        assert ready_made.load_ready_made(lap) is None
        assert all(torch.equal(a, b) for a, b in zip(before, lap.redistribution.parameters(), strict=True))
        with pytest.raises(ContractError, match="one is of another backbone"):
            ready_made.load_ready_made(lap, "one")
    coarse = fitted()
    coarse = interp_core.attach(interp_core.detach(coarse), image_size=64, finest=8, cell=8)
    assert ready_made.load_ready_made(coarse) is None
    with pytest.raises(ContractError, match="other levels"):
        ready_made.load_ready_made(coarse, "one")
    with pytest.raises(UnknownNameError, match="two"):
        ready_made.load_ready_made(coarse, "two")


@pytest.mark.parametrize("name", ready_made.names())
def test_what_ships_is_small_and_says_how_it_was_made(name: str) -> None:
    size = (ready_made.FOLDER / f"{name}.safetensors").stat().st_size
    assert size < 1_000_000
    facts = ready_made.read_facts(name)
    assert {"backbone", "data", "own", "recipes", "images", "versions", "answers_kept"} <= set(facts)
    assert facts["answers_kept"] == 1
    lap = interp_core.attach(timm.create_model(facts["backbone"], **facts["kwargs"]))
    own = dict(lap.redistribution.named_parameters())
    from safetensors.torch import load_file

    weights = load_file(str(ready_made.FOLDER / f"{name}.safetensors"))
    assert {key: value.shape for key, value in weights.items()} == {key: value.shape for key, value in own.items()}
    assert all(bool(weights[key].any()) for key in weights if key.startswith("out.") and key.endswith("weight"))


@pytest.mark.skipif(not SHARED.exists(), reason="needs trained weights at ../shared")
def test_the_network_at_hand_gets_its_own() -> None:
    backbone = timm.create_model("mobilenetv2_100", num_classes=1000, pad_type="same").eval()
    backbone.load_state_dict(torch.load(SHARED / "weights/mobilenetv2_100_tf2ptq.pt", weights_only=True))
    lap = interp_core.attach(backbone)
    assert ready_made.load_ready_made(lap) == "mobilenetv2_100.tf2ptq"
    images = torch.randn(1, 3, 160, 224, generator=torch.Generator().manual_seed(0))
    explanation = lap.explain(images)
    assert explanation.gap <= 1e-5
    assert torch.equal(explanation.logits, backbone(images))
