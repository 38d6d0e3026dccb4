from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from benchmarks.config import presets
from benchmarks.validate import validate


def told(path: Path, *sets: str) -> dict[str, str]:
    return {finding.where: finding.what for finding in validate(path, sets)}


@pytest.mark.parametrize("name", list(presets()))
def test_every_preset_is_valid(name: str) -> None:
    assert validate(presets()[name]) == []


def test_all_that_is_wrong_is_told_at_once_with_its_place(tiny_file: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_this_name")
    found = told(
        tiny_file(
            imagez=3,
            shard=0,
            dataset={"name": "digits-in-scenes", "image_size": "big"},
            models=[{"name": "a", "backbone": "resnet118"}, {"name": "b"}],
            recipe={"epochs": -1, "batch_sise": 4},
            terms=["presense"],
            explainers=["gradcam", {"name": "integrated_gradients", "steps": 0, "colour": 1}],
            metrics=["aux", {"steps": 3}],
            device="abacus",
            plugins=[str(tmp_path / "broken.py")],
        )
    )
    expected = {
        "imagez": "did you mean images",
        "shard": "greater than or equal to 1, got 0",
        "dataset (digits-in-scenes).image_size": "valid integer",
        "models.0.backbone": "resnet18",
        "models.1.backbone": "is missing",
        "recipe.epochs": "greater than",
        "recipe.batch_sise": "no such field",
        "terms.0": "did you mean presence",
        "explainers.0": "did you mean grad_cam",
        "explainers.1 (integrated_gradients).steps": "got 0",
        "explainers.1 (integrated_gradients).colour": "no such field",
        "metrics.0": "did you mean auc",
        "metrics.1.name": "is missing",
        "device": "abacus",
        "plugins.0": "nothing_of_this_name",
    }
    assert found.keys() == expected.keys()
    assert all(expected[where] in what for where, what in found.items())


def test_findings_come_in_the_order_of_the_file(tiny_file: Callable[..., Path]) -> None:
    found = list(told(tiny_file(explainers=["gradcam"], metrics=["aux"], shard=0, dataset="digit")))
    assert found == sorted(found, key=list(yaml_order(tiny_file)).index)


def yaml_order(tiny_file: Callable[..., Path]) -> list[str]:
    import yaml

    fields = list(
        yaml.safe_load(tiny_file(explainers=["gradcam"], metrics=["aux"], shard=0, dataset="digit").read_text())
    )
    return [f"{field}.0" if field in ("explainers", "metrics") else field for field in fields]


def test_replaced_values_are_checked_too(tiny_file: Callable[..., Path]) -> None:
    assert told(tiny_file()) == {}
    assert "got -1" in told(tiny_file(), "metrics.pixel_flipping.steps=-1")["metrics.1 (pixel_flipping).steps"]


def test_nothing_is_written(tiny_file: Callable[..., Path], tmp_path: Path) -> None:
    validate(tiny_file())
    assert not (tmp_path / "runs").exists()
