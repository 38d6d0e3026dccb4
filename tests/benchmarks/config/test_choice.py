from __future__ import annotations

import pickle
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from pydantic import TypeAdapter, ValidationError

from baselines import explainers
from benchmarks.config.choice import MetricChoice, TermChoice
from benchmarks.config.errors import ConfigError, path_of
from benchmarks.config.load import load_config
from benchmarks.config.run import RunConfig
from benchmarks.plan.components import RunComponents


@pytest.mark.parametrize(
    ("changes", "where", "close"),
    [
        ({"explainers": ["gradcam"]}, "explainers.0", "grad_cam"),
        ({"metrics": ["pixel_fliping"]}, "metrics.0", "pixel_flipping"),
        ({"dataset": "digits-in-scene"}, "dataset", "digits-in-scenes"),
        ({"models": [{"name": "a", "backbone": "resnet118"}]}, "models.0.backbone", "resnet18"),
        ({"terms": ["presense"]}, "terms.0", "presence"),
    ],
)
def test_unknown_names_come_with_close_ones(
    tiny: Callable[..., RunConfig], changes: dict[str, Any], where: str, close: str
) -> None:
    with pytest.raises(ConfigError, match=rf"tiny\.yaml: {where}: unknown .*did you mean.* {close}"):
        tiny(**changes)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"explainers": [{"name": "integrated_gradients", "steps": 0}]},
            r"explainers\.0 \(integrated_gradients\)\.steps: .*got 0",
        ),
        ({"explainers": [{"name": "random", "colour": 1}]}, r"explainers\.0 \(random\)\.colour: no such field"),
        ({"metrics": [{"name": "pixel_flipping", "steps": -1}]}, r"metrics\.0 \(pixel_flipping\)\.steps: .*got -1"),
        ({"dataset": {"name": "digits-in-scenes", "image_size": "big"}}, r"dataset \(digits-in-scenes\)\.image_size"),
        ({"terms": [{"name": "area", "low": 0.9, "high": 0.1}]}, r"terms\.0 \(area\): low must not exceed high"),
    ],
)
def test_wrong_parameters_name_the_part(tiny: Callable[..., RunConfig], changes: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        tiny(**changes)


def test_parameters_of_named_parts_reach_them(tiny: Callable[..., RunConfig]) -> None:
    config = tiny(
        explainers=[{"name": "integrated_gradients", "steps": 7}, "random"], terms=[{"name": "area", "high": 0.5}]
    )
    components = RunComponents(config)
    assert components.explainers["integrated_gradients"].model_dump()["steps"] == 7
    assert components.terms is not None
    assert components.terms[0].model_dump()["high"] == 0.5


@pytest.fixture
def plugin(tmp_path: Path) -> Iterator[Path]:
    """A plugin with an explainer "blurred", which leaves the registry after the test."""
    path = tmp_path / "blurred_plugin.py"
    path.write_text(
        "from baselines import Explainer, explainers\n"
        "@explainers.register('blurred')\nclass Blurred(Explainer):\n    width: int = 3\n"
    )
    yield path
    explainers._entries.pop("blurred", None)
    sys.modules.pop("interp_bench_plugin_blurred_plugin", None)


def test_plugins_are_imported_before_names_are_checked(tiny_file: Callable[..., Path], plugin: Path) -> None:
    chosen = [{"name": "blurred", "width": 5}, "random"]
    with pytest.raises(ConfigError, match=r"explainers\.0: unknown explainer 'blurred'"):
        load_config(tiny_file(explainers=chosen))
    config = load_config(tiny_file(explainers=chosen, plugins=[str(plugin)]))
    assert RunComponents(config).explainers["blurred"].model_dump() == {"width": 5}
    with pytest.raises(ConfigError, match=r"explainers\.0 \(blurred\)\.widht: no such field: did you mean width\?"):
        load_config(tiny_file(explainers=[{"name": "blurred", "widht": 5}], plugins=[str(plugin)]))


def test_parameters_stay_as_they_were_written() -> None:
    choice = TermChoice.model_validate({"name": "area", "high": 1})
    assert choice.model_dump_json() == '{"name":"area","high":1}'
    assert choice.build().model_dump()["high"] == 1.0
    assert TermChoice.model_validate("area").model_dump() == {"name": "area"}
    assert pickle.loads(pickle.dumps(choice)) == choice


def test_errors_have_the_path_of_the_entry_and_its_parameter() -> None:
    with pytest.raises(ValidationError) as caught:
        TypeAdapter(list[MetricChoice]).validate_python(["aux", 3, {"steps": 1}, {"name": "auc", "engine": "steam"}])
    paths = [path_of(detail["loc"]) for detail in caught.value.errors()]
    assert paths == ["0", "1", "2.name", "3 (auc).engine"]
