from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from baselines import explainers
from benchmarks.config.json_schema import json_schema
from benchmarks.config.load import presets
from benchmarks.metrics import metrics
from benchmarks.rivals import rivals

jsonschema = pytest.importorskip("jsonschema")


@pytest.fixture(scope="module")
def validator() -> Any:
    schema = json_schema()
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(presets()))
def test_presets_fit(validator: Any, name: str) -> None:
    assert list(validator.iter_errors(yaml.safe_load(presets()[name].read_text()))) == []


@pytest.mark.slow
@pytest.mark.parametrize(
    "changes",
    [
        {"imagez": 3},
        {"images": "many"},
        {"images": 0},
        {"explainers": []},
        {"explainers": [3]},
        {"explainers": [{"steps": 3}]},
        {"explainers": [{"name": "integrated_gradients", "steps": "few"}]},
        {"explainers": [{"name": "integrated_gradients", "colour": 1}]},
        {"metrics": [{"name": "pixel_flipping", "steps": 1}]},
        {"models": [{"name": "x"}]},
        {"batch_size": "much"},
        {"recipe": {"epochs": -1}},
        {"models": [{"name": "a", "backbone": "b", "stages": []}]},
        {"models": [{"name": "a", "backbone": "b", "stages": [{"recipee": {}}]}]},
        {"models": [{"name": "a", "backbone": "b", "stages": [{"terms": [{"name": "area", "high": "much"}]}]}]},
        {"models": [{"name": "a", "backbone": "b", "stages": [{"regions": {"tag": {"share": 0}}}]}]},
        {"models": [{"name": "a", "backbone": "b", "rival": {"name": "gain", "erase_weight": -1}}]},
        {"models": [{"name": "a", "backbone": "b", "rival": {"name": "gain", "knob": 1}}]},
        {"models": [{"name": "a", "backbone": "b", "fixed": ["b"]}]},
    ],
)
def test_what_is_wrong_does_not_fit(validator: Any, tiny_file: Callable[..., Path], changes: dict[str, Any]) -> None:
    assert validator.is_valid(yaml.safe_load(tiny_file().read_text()))
    assert not validator.is_valid(yaml.safe_load(tiny_file(**changes).read_text()))


def test_names_of_plugins_are_let_through(validator: Any, tiny_file: Callable[..., Path]) -> None:
    content = yaml.safe_load(tiny_file(explainers=["mine", {"name": "other", "knob": 3}]).read_text())
    assert validator.is_valid(content)


def test_editors_are_told_every_name(validator: Any) -> None:
    definitions = validator.schema["$defs"]
    assert definitions["ExplainerChoice"]["anyOf"][0]["enum"] == list(explainers)
    assert definitions["MetricChoice"]["anyOf"][0]["enum"] == list(metrics)
    assert definitions["RivalChoice"]["anyOf"][0]["enum"] == list(rivals)


def test_stages_and_rivals_fit(validator: Any, tiny_file: Callable[..., Path]) -> None:
    stage = {"recipe": {"mode": "frozen"}, "terms": ["area"], "regions": {"tag": {"of": "tag", "share": 0.01}}}
    models = [
        {"name": "a", "backbone": "b", "lap": True, "stages": [{}, stage], "fixed": ["gates"]},
        {"name": "c", "backbone": "b", "rival": "cam"},
        {"name": "d", "backbone": "b", "rival": {"name": "gain", "erase_weight": 2}},
    ]
    assert list(validator.iter_errors(yaml.safe_load(tiny_file(models=models).read_text()))) == []
