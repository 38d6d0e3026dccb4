"""The comparisons of the training method are runs like any other: their files can be read and ask what was promised."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.shared import ROOT

from benchmarks.config.load import load_config
from benchmarks.config.run import RunConfig
from benchmarks.plan.stages import training_stages
from interp_core.training import DEFAULT_TERMS

pytestmark = pytest.mark.slow

FILES = sorted((ROOT / "benchmarks" / "studies" / "configs").glob("*.yaml"))
FOUR = ("digits", "tiny", "pets", "imagenet")
CONTROLS = {"random", "smoothed_random", "centre_gaussian", "edges", "mask"}


def config(name: str) -> RunConfig:
    return load_config(next(path for path in FILES if path.stem == name))


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_a_comparison_can_be_read_and_trained(path: Path) -> None:
    settings = load_config(path)
    assert settings.name == f"method-{path.stem}"
    for model in settings.models:
        for stage in training_stages(model, settings.recipe, DEFAULT_TERMS):
            assert stage.recipe.epochs >= 0


@pytest.mark.parametrize("name", FOUR)
def test_budgets_are_those_of_the_papers(name: str) -> None:
    choices = {choice.name: choice for choice in config(name).explainers}
    assert set(choices) > CONTROLS
    assert {"lap", "lap_refined", "lap_steps"} < set(choices)
    assert len(set(choices) - CONTROLS) == 3 + 11
    assert choices["rise"].model_dump()["masks"] >= 1000
    assert len(config(name).metrics) == 12  # eleven that rank, and sparseness
    assert config(name).split == "test"


def test_an_ablation_leaves_out_one_part_at_a_time() -> None:
    models = {model.name: model for model in config("ablation").models}
    terms = {name: [[term.name for term in stage.terms or ()] for stage in model.stages or ()]
             for name, model in models.items()}  # fmt: skip
    assert terms["full"] == [
        ["presence", "absence", "area"],
        ["sufficiency", "necessity", "area"],
        ["removal", "order"],
    ]
    assert terms["no_first_terms"][0] == []
    assert terms["no_necessity"][1] == ["sufficiency", "area"]
    assert terms["no_order"][2] == ["removal"]
    assert terms["no_removal"][2] == ["order"]
    assert terms["no_effects"] == terms["full"][:2]
    assert models["no_attention"].fixed == ("a",)
    assert {model.attach.get("aggregate", "max") for model in models.values()} == {"max", "mean", "learned"}
    assert models["one_level"].attach["finest"] == 8  # the reduction of the last features
    assert {model.attach.get("weighting", "rbf") for model in models.values()} == {"rbf", "softmax", "lip"}
