"""LAP models are timm models: named, listed, created and fed as timm does it, and timm's own list stays as it was."""

from __future__ import annotations

import importlib
import subprocess
import sys
import warnings
from pathlib import Path
from typing import Any

import pytest
import timm
import torch
from torch import nn

import interp_core
from interp_core import LapModel
from interp_core.deploy import zoo
from interp_core.errors import BackboneError, InterpError, UnknownNameError

pytestmark = pytest.mark.slow

# Any, for timm says of its models only that they are modules.
create: Any = timm.create_model
described: Any = timm.models.get_pretrained_cfg


def test_the_families_are_modules_of_timm_and_no_module_is_in_both() -> None:
    modules = set(timm.list_modules())
    assert set(zoo.CONVOLUTIONAL) <= modules
    assert set(zoo.HYBRID) <= modules
    assert len({*zoo.CONVOLUTIONAL, *zoo.HYBRID}) == len(zoo.CONVOLUTIONAL) + len(zoo.HYBRID)


def test_names_follow_the_modules() -> None:
    convolutional, hybrid = zoo.names("convolutional"), zoo.names("hybrid")
    assert {"resnet50", "mobilenetv2_050", "convnext_atto", "densenet121", "vgg11_bn"} <= set(convolutional)
    assert {"maxvit_tiny_rw_224", "mobilevit_xxs", "levit_128s", "vit_base_r50_s16_224"} <= set(hybrid)
    assert sorted(zoo.names()) == sorted(convolutional + hybrid)
    assert not set(convolutional) & set(hybrid)
    # A transformer without convolutions, and an alias that timm has retired.
    assert "vit_base_patch16_224" not in zoo.names()
    assert "tf_efficientnet_b0_ns" not in zoo.names()
    with pytest.raises(UnknownNameError, match="convolutional"):
        zoo.names("convolutionall")  # type: ignore[arg-type]


def test_every_name_is_listed() -> None:
    assert timm.list_models("lap_*") == timm.list_models(module="zoo")
    assert set(timm.list_models("lap_*")) >= {f"lap_{name}" for name in zoo.names()}
    assert timm.is_model("lap_resnet50")
    assert timm.is_model("lap_resnet50.a1_in1k")
    assert not timm.is_model("lap_vit_base_patch16_224")


def test_weights_are_listed_with_the_tags_of_the_backbone() -> None:
    tags = {f"lap_{name}" for name in timm.list_pretrained("resnet50")}
    assert "lap_resnet50.a1_in1k" in tags
    assert set(timm.list_pretrained("lap_resnet50")) == tags
    ours, theirs = (described(name) for name in ("lap_resnet50.a1_in1k", "resnet50.a1_in1k"))
    assert (ours.hf_hub_id, ours.mean, ours.input_size) == (theirs.hf_hub_id, theirs.mean, theirs.input_size)
    assert described("lap_resnet50").tag == described("resnet50").tag


# In a process of its own, for here the registry has been changed already.
UNTOUCHED = """
import warnings, timm
before = timm.list_models(), timm.list_pretrained(), timm.list_models(module="resnet"), set(timm.list_modules())
cfgs = {name: timm.models.get_pretrained_cfg(name) for name in before[1]}
entries = {name: timm.model_entrypoint(name) for name in before[0]}
warnings.simplefilter("error")
import interp_core.deploy.zoo
own = lambda names: [name for name in names if not name.startswith("lap_")]
assert own(timm.list_models()) == before[0]
assert own(timm.list_pretrained()) == before[1]
assert timm.list_models(module="resnet") == before[2]
assert set(timm.list_modules()) == before[3] | {"zoo"}
assert cfgs == {name: timm.models.get_pretrained_cfg(name) for name in before[1]}
assert entries == {name: timm.model_entrypoint(name) for name in before[0]}
"""


def test_what_timm_had_is_untouched_and_nothing_warns() -> None:
    done = subprocess.run(
        [sys.executable, "-c", UNTOUCHED],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(interp_core.__file__).parents[1],
    )
    assert done.returncode == 0, done.stderr


def test_registering_again_changes_nothing() -> None:
    before = timm.list_models("lap_*"), timm.list_pretrained("lap_*"), timm.model_entrypoint("lap_resnet50")
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert zoo.register() == []
        importlib.reload(zoo)
    assert (timm.list_models("lap_*"), timm.list_pretrained("lap_*"), timm.model_entrypoint("lap_resnet50")) == before


def test_a_network_of_ones_own_joins_by_name() -> None:
    def lap_test_own_network(pretrained: bool = False, **kwargs: Any) -> nn.Module:
        return create("test_resnet", **{key: value for key, value in kwargs.items() if value is not None})

    lap_test_own_network.__name__ = "test_own_network"
    timm.models.register_model(lap_test_own_network)
    assert zoo.register(["test_own_network"]) == ["lap_test_own_network"]
    assert isinstance(create("lap_test_own_network", num_classes=3), LapModel)
    with pytest.raises(UnknownNameError, match="did you mean test_own_network"):
        zoo.register(["test_own_networks"])


def test_creation_is_attach_after_creation(images: torch.Tensor) -> None:
    torch.manual_seed(0)
    lap = create("lap_test_resnet", num_classes=4, lap={"finest": 8, "hidden": 7}).eval()
    torch.manual_seed(0)
    backbone = create("test_resnet", num_classes=4).eval()
    assert isinstance(lap, LapModel)
    assert (lap.options.finest, lap.options.hidden) == (8, 7)
    with torch.no_grad():
        torch.testing.assert_close(lap(images), backbone(images))
    assert lap.explain(images).map.shape == (2, 1, 64, 64)


def test_classes_channels_and_options_of_timm_reach_the_backbone() -> None:
    lap = create("lap_test_resnet", num_classes=5, in_chans=1, drop_rate=0.25, exportable=True)
    assert (lap.info.classes, lap.info.in_channels) == (5, 1)
    assert lap.backbone.drop_rate == 0.25
    assert lap(torch.randn(2, 1, 64, 64)).shape == (2, 5)


def test_weights_come_from_the_tag(tmp_path: Path, images: torch.Tensor) -> None:
    torch.manual_seed(3)
    backbone = create("test_resnet").eval()
    torch.save(backbone.state_dict(), tmp_path / "weights.pth")
    overlay = {"file": str(tmp_path / "weights.pth")}
    lap = create("lap_test_resnet.r160_in1k", pretrained=True, pretrained_cfg_overlay=overlay).eval()
    for name, value in backbone.state_dict().items():
        assert torch.equal(lap.backbone.state_dict()[name], value), name
    assert lap.backbone.pretrained_cfg["tag"] == "r160_in1k"
    assert lap.backbone_spec["name"] == "test_resnet.r160_in1k"


@pytest.mark.parametrize("form", [dict, timm.models.PretrainedCfg])
def test_a_configuration_of_ones_own_is_used_and_remembered(form: Any, tmp_path: Path) -> None:
    cfg = form(input_size=(3, 96, 96), num_classes=4, url="https://example.org/weights.pth")
    lap = create("lap_test_resnet", num_classes=4, pretrained_cfg=cfg).eval()
    assert lap.backbone.pretrained_cfg["input_size"] == (3, 96, 96)
    interp_core.save(lap, tmp_path / "model")
    assert "example.org" not in (tmp_path / "model.json").read_text()
    backbone: Any = interp_core.load(tmp_path / "model").backbone
    assert tuple(backbone.pretrained_cfg["input_size"]) == (3, 96, 96)


def test_a_model_made_by_timm_is_saved_and_comes_back(images: torch.Tensor, tmp_path: Path) -> None:
    lap = create("lap_test_resnet.r160_in1k", num_classes=4, lap={"finest": 8}, dtype=torch.float32).eval()
    interp_core.save(lap, tmp_path / "model")
    loaded = interp_core.load(tmp_path / "model")
    assert loaded.options == lap.options
    assert torch.equal(loaded.explain(images, 1).map, lap.explain(images, 1).map)


def test_a_checkpoint_of_a_lap_model_is_loaded_by_timm(images: torch.Tensor, tmp_path: Path) -> None:
    torch.manual_seed(0)
    lap = create("lap_test_resnet", num_classes=4).eval()
    for gate in lap.gates:
        nn.init.constant_(gate.a, 2.0)
    weights = interp_core.save(lap, tmp_path / "model")
    loaded = create("lap_test_resnet", num_classes=4, checkpoint_path=str(weights)).eval()
    assert torch.equal(loaded.explain(images, 1).map, lap.explain(images, 1).map)


def test_timm_reads_how_images_must_be_prepared() -> None:
    """By `pretrained_cfg`, which timm looks for on the model it made."""
    overlay = {"mean": (0.1, 0.2, 0.3), "input_size": (3, 96, 96)}
    lap = create("lap_test_resnet", pretrained_cfg_overlay=overlay)
    config = timm.data.resolve_model_data_config(lap)
    assert (config["mean"], config["input_size"]) == ((0.1, 0.2, 0.3), (3, 96, 96))


def test_timm_reads_the_number_of_classes_and_the_classifier() -> None:
    lap = create("lap_test_resnet", num_classes=4)
    assert lap.num_classes == 4
    assert lap.get_classifier() is lap.backbone.get_classifier()


def test_what_has_no_classifier_is_refused() -> None:
    with pytest.raises(BackboneError):
        create("lap_test_resnet", features_only=True)


def test_a_wrong_tag_and_wrong_options_are_told() -> None:
    with pytest.raises(RuntimeError, match="Invalid pretrained tag"):
        create("lap_resnet18.no_such_tag")
    with pytest.raises((InterpError, TypeError), match="depth"):
        create("lap_test_resnet", lap={"depth": 3})
