"""A trained network is fitted without labels and keeps its answers."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from benchmarks.config.models import ModelConfig
from benchmarks.run.networks import build_network
from benchmarks.studies import retrofit
from interp_core.errors import ContractError
from interp_core.lap.model import LapModel

pytestmark = pytest.mark.slow


SIDE = 48


ATTACH = {"refine": True, "image_size": SIDE}  # finer cells than the backbone's own image size would give


def test_a_retrofit_keeps_every_answer_and_is_a_checkpoint(photographs: str, weights: Path, tmp_path: Path) -> None:
    out = tmp_path / "lap.safetensors"
    settings = retrofit.RetrofitSettings(
        backbone="test_resnet",
        weights=weights,
        classes=5,
        out=out,
        attach=ATTACH,
        recipe={"epochs": 1, "batch_size": 8, "learning_rate": 0.01},
        effects={"epochs": 2, "crop": 0.5, "answers": True},
        teach=["order", {"name": "removal", "patches": 2}],
        data=[f"{photographs}:train:20", f"{photographs}:test:6"],
    )
    assert retrofit.run(settings) == [out, out.with_suffix(".json")]
    assert not list(tmp_path.glob(".*.training"))
    about = json.loads(out.with_suffix(".json").read_text())
    assert about["images"] == 26
    assert about["answers_kept"] == 1
    stages = {
        name: [recipe[field] for field in ("epochs", "crop", "answers", "batch_size")]
        for name, recipe in about["recipes"].items()
    }
    assert stages == {"own": [1, 1.0, False, 8], "regions": [1, 1.0, False, 8], "effects": [2, 0.5, True, 8]}
    assert [set(terms) - {"cross_entropy"} for terms in about["history"]] == [
        {"own_order"}, {"sufficiency", "necessity", "area"}, {"order", "removal"}, {"order", "removal"},
    ]  # fmt: skip
    model = ModelConfig(name="lap", backbone="test_resnet", checkpoint=out, lap=True, attach=ATTACH)
    lap = build_network(model, 5, 0).eval()
    plain = build_network(ModelConfig(name="plain", backbone="test_resnet", checkpoint=weights), 5, 1).eval()
    images = torch.randn(2, 3, SIDE, SIDE, generator=torch.Generator().manual_seed(0))
    assert isinstance(lap, LapModel)
    assert lap.refiner is not None
    assert all(bool(layer.weight.abs().sum() > 0) for layer in lap.redistribution.out)
    assert bool(lap.refiner.region.out.weight.abs().sum() > 0)
    assert bool(lap.refiner.effects.out.weight.abs().sum() > 0)
    assert torch.equal(lap(images), plain(images))

    # Its decoders serve another head on the same backbone, not another backbone.
    three = build_network(ModelConfig(name="lap", backbone="test_resnet", lap=True, attach=ATTACH), 3, 1)
    assert isinstance(three, LapModel)
    retrofit.load_fit(out, three)
    assert three.refiner is not None
    assert torch.equal(three.refiner.effects.out.weight, lap.refiner.effects.out.weight)
    other_backbone = build_network(
        ModelConfig(name="lap", backbone="test_efficientnet", lap=True, attach={"refine": True}), 3, 1
    )
    assert isinstance(other_backbone, LapModel)
    with pytest.raises(ContractError, match=r"lap\.safetensors holds no fit for this backbone"):
        retrofit.load_fit(out, other_backbone)


def test_a_stopped_retrofit_ends_with_the_same_network(
    photographs: str, weights: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def settings(name: str) -> retrofit.RetrofitSettings:
        return retrofit.RetrofitSettings(
            backbone="test_resnet",
            weights=weights,
            classes=5,
            out=tmp_path / name,
            attach=ATTACH,
            recipe={"epochs": 1, "batch_size": 8, "learning_rate": 0.01},
            data=[f"{photographs}:train:20"],
        )

    retrofit.run(settings("whole.safetensors"))
    fit, stages = retrofit.fit, []

    def stop_before_the_second_stage(*arguments: Any, **options: Any) -> Any:
        stages.append(options["checkpoint"].name)
        if len(stages) == 2:
            raise KeyboardInterrupt
        return fit(*arguments, **options)

    monkeypatch.setattr(retrofit, "fit", stop_before_the_second_stage)
    with pytest.raises(KeyboardInterrupt):
        retrofit.run(settings("stopped.safetensors"))
    assert not (tmp_path / "stopped.safetensors").exists()
    assert (tmp_path / stages[0]).is_file()
    retrofit.run(settings("stopped.safetensors"))
    whole, stopped = (load_file(tmp_path / f"{name}.safetensors") for name in ("whole", "stopped"))
    assert all(torch.equal(value, stopped[name]) for name, value in whole.items())
    facts = [json.loads((tmp_path / f"{name}.json").read_text()) for name in ("whole", "stopped")]
    assert facts[0]["history"] == facts[1]["history"]
    assert not list(tmp_path.glob(".*.training"))
