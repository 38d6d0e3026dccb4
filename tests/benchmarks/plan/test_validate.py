from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.shared import ROOT

from benchmarks.config.load import load_config, presets
from benchmarks.plan.components import RunComponents
from benchmarks.plan.validate import validate


def problems_of(path: Path, *sets: str) -> dict[str, str]:
    return {problem.where: problem.what for problem in validate(path, sets)}


@pytest.mark.parametrize("name", list(presets()))
def test_every_preset_is_valid(name: str) -> None:
    assert validate(presets()[name]) == []


def test_all_that_is_wrong_is_told_at_once_with_its_place(tiny_file: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "broken.py").write_text("import nothing_of_this_name")
    problems = problems_of(
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
    assert problems.keys() == expected.keys()
    assert all(expected[where] in what for where, what in problems.items())


def test_wrong_stages_rivals_and_terms_are_told_with_their_place(tiny_file: Callable[..., Path]) -> None:
    net = {"backbone": "test_resnet"}
    forbid = {"name": "forbid", "region": "tag"}
    models = [
        {**net, "name": "a", "stages": [{}, {"recipe": {"mode": "frozen"}}]},
        {**net, "name": "b", "lap": True, "stages": [{"terms": ["presense", {"name": "area", "low": 2}]}]},
        {**net, "name": "c", "rival": "camm"},
        {**net, "name": "d", "rival": {"name": "gain", "erase_weight": -1, "knob": 1}},
        {**net, "name": "e", "lap": True, "rival": "cam"},
        {**net, "name": "f", "lap": True, "stages": [{"terms": [forbid]}]},
        {**net, "name": "g", "lap": True, "stages": [{"terms": [forbid], "regions": {"tag": {"share": 2}}}]},
        {**net, "name": "h", "rival": "rrr", "stages": [{"regions": {"tag": {}}}]},
        {**net, "name": "i", "lap": True, "stages": [{"terms": [forbid], "regions": {"tag": {"of": "tag"}}}]},
    ]
    problems = problems_of(tiny_file(models=models))
    expected = {
        "models.0": "model a, stage 2: in mode frozen a plain network",
        "models.1.stages.0.terms.0": "did you mean presence",
        "models.1.stages.0.terms.1 (area).low": "got 2",
        "models.2.rival": "did you mean cam",
        "models.3.rival (gain).erase_weight": "got -1",
        "models.3.rival (gain).knob": "no such field",
        "models.4": "lap and rival exclude each other",
        "models.5": "model f, stage 1: terms use regions that the stage does not have: tag",
        "models.6.stages.0.regions.tag.share": "less than or equal to 1, got 2",
        "models.7": "rivals know the regions object and irrelevant, not tag",
    }
    assert problems.keys() == expected.keys()
    assert all(expected[where] in what for where, what in problems.items())


def test_the_example_of_the_manual_is_valid(tmp_path: Path) -> None:
    manual = ROOT / "docs" / "running.md"
    (example,) = re.findall(r"```yaml\n(.*?)```", manual.read_text(), re.DOTALL)
    (tmp_path / "example.yaml").write_text(example)
    assert validate(tmp_path / "example.yaml") == []
    guided, gain = (
        RunComponents(load_config(tmp_path / "example.yaml")).training_stages[name] for name in ("guided", "gain")
    )
    assert [list(stage.regions) for stage in (*guided, *gain)] == [[], ["tag", "near"], ["irrelevant"]]


def test_findings_come_in_the_order_of_the_file(tiny_file: Callable[..., Path]) -> None:
    problems = list(problems_of(tiny_file(explainers=["gradcam"], metrics=["aux"], shard=0, dataset="digit")))
    assert problems == sorted(problems, key=list(yaml_order(tiny_file)).index)


def yaml_order(tiny_file: Callable[..., Path]) -> list[str]:
    import yaml

    fields = list(
        yaml.safe_load(tiny_file(explainers=["gradcam"], metrics=["aux"], shard=0, dataset="digit").read_text())
    )
    return [f"{field}.0" if field in ("explainers", "metrics") else field for field in fields]


def test_replaced_values_are_checked_too(tiny_file: Callable[..., Path]) -> None:
    assert problems_of(tiny_file()) == {}
    assert "got -1" in problems_of(tiny_file(), "metrics.pixel_flipping.steps=-1")["metrics.1 (pixel_flipping).steps"]


def test_nothing_is_written(tiny_file: Callable[..., Path], tmp_path: Path) -> None:
    validate(tiny_file())
    assert not (tmp_path / "runs").exists()
