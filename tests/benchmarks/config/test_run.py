from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import yaml

from benchmarks.config.load import load_config
from benchmarks.config.run import RunConfig
from benchmarks.plan.components import RunComponents


def test_how_a_run_is_carried_out_is_no_part_of_its_hash(tiny: Callable[..., RunConfig]) -> None:
    config = tiny()
    assert config.hash() == tiny(engine="ray", ray={"workers": 2}, output="memory://elsewhere").hash()
    assert config.hash() != tiny(images=4).hash()


def test_what_a_model_says_of_its_training_is_written_as_it_was_read(tiny: Callable[..., RunConfig]) -> None:
    stages = [
        {},
        {
            "recipe": {"mode": "frozen"},
            "terms": [{"name": "region", "region": "near"}],
            "regions": {"near": {"share": 0.5}},
        },
    ]
    models = [
        {"name": "plain", "backbone": "test_resnet"},
        {"name": "lap", "backbone": "test_resnet", "lap": True, "stages": stages, "fixed": ["gates"]},
        {"name": "rival", "backbone": "test_resnet", "rival": {"name": "gain", "erase_weight": 2}},
    ]
    config = tiny(models=models)
    record = config.to_record()
    assert RunConfig.model_validate(record | {"output": config.output}) == config
    assert {"stages", "rival", "fixed"}.isdisjoint(record["models"][0])
    assert record["models"][2]["rival"] == {"name": "gain", "erase_weight": 2}
    (first, second) = RunComponents(config).training_stages["lap"]
    assert (first.recipe, second.recipe.mode, second.recipe.epochs) == (config.recipe, "frozen", 5)
    assert [term.name for term in second.terms] == ["region"]


def test_output_may_be_a_url(tiny: Callable[..., RunConfig]) -> None:
    assert str(tiny(output="memory://bucket/runs").folder) == "memory://bucket/runs/tiny"
    assert tiny(output="runs").folder == Path("runs/tiny")


def test_configuration_survives_a_round_trip(tiny: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = tiny()
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert load_config(path) == config
