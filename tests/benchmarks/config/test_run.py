from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from baselines import explainers
from benchmarks.config.device import resolve_device
from benchmarks.config.errors import ConfigError
from benchmarks.config.load import load_config, preset_path, presets
from benchmarks.config.models import Stage
from benchmarks.config.run import RunConfig
from benchmarks.metrics import metrics
from benchmarks.plan.cells import train_cells
from benchmarks.plan.components import RunComponents
from benchmarks.store.provenance import digest
from interp_core.datasets import FileDataset
from interp_core.errors import InterpError, UnknownNameError


@pytest.mark.parametrize("name", list(presets()))
def test_every_preset_loads_and_all_it_names_can_be_made(name: str) -> None:
    config = load_config(preset_path(name))
    components = RunComponents(config)
    assert list(components.explainers) == [choice.name for choice in config.explainers]
    assert [model.lap for model in config.models] == [False, True]
    if isinstance(components.dataset, FileDataset):  # its files are the user's, and cells are named by them
        with pytest.raises(InterpError, match=str(components.dataset.root)):
            train_cells(config, components)
    else:
        assert [cell.model.lap for cell in train_cells(config, components)] == [False, True] * len(config.seeds)


def test_the_paper_preset_leaves_nothing_out_that_is_ours() -> None:
    config = load_config(preset_path("paper"))
    ours = {name for name, cls in explainers.items() if cls.__module__.startswith("baselines.")}
    ours -= {"intrinsic"}  # the own map of rivals, which are not in this run
    assert {choice.name for choice in config.explainers} == ours
    assert {choice.name for choice in config.metrics} == set(metrics)
    assert len(config.seeds) >= 3


def test_default_preset_trains_twins_that_differ_in_lap_alone() -> None:
    plain, lap = load_config(preset_path("digits")).models
    assert lap.stages is not None
    assert lap == plain.model_copy(update={"name": lap.name, "lap": True, "attach": lap.attach, "stages": lap.stages})
    # The first stage is the twin's training; what follows leaves the network as it is.
    first, *later = lap.stages
    assert first == Stage()
    assert all(stage.recipe is not None and stage.recipe.mode == "frozen" for stage in later)


def test_parameters_of_named_parts_reach_them(tiny: Callable[..., RunConfig]) -> None:
    config = tiny(
        explainers=[{"name": "integrated_gradients", "steps": 7}, "random"], terms=[{"name": "area", "high": 0.5}]
    )
    components = RunComponents(config)
    assert components.explainers["integrated_gradients"].model_dump()["steps"] == 7
    assert components.terms is not None
    assert components.terms[0].model_dump()["high"] == 0.5


BAD: list[tuple[dict[str, Any], str]] = [
    ({"images": 0}, "images: Input should be greater than or equal to 1, got 0"),
    ({"images": "many"}, "images: Input should be a valid integer"),
    ({"imagez": 3}, "imagez: no such field: did you mean images?"),
    ({"dataset": None}, "dataset: is missing"),
    ({"models": []}, "models: give at least one, got []"),
    ({"explainers": [3]}, "explainers.0: give a name, or {name: ...} with parameters, got 3"),
    ({"models": [{"name": "a/b", "backbone": "test_resnet"}]}, "models.0.name"),
    ({"explainers": ["random", "random"]}, "given twice: random"),
    ({"seeds": [1, 1]}, "given twice: 1"),
    ({"recipe": {"epochs": -1}}, "recipe.epochs"),
    ({"recipe": {"epoch": 3}}, "recipe.epoch: no such field"),
    ({"name": "../elsewhere"}, "name"),
    ({"name": ".."}, "name"),
    ({"smoothing": [0]}, "smoothing.0"),
    ({"grids": [8, 8]}, "given twice: 8"),
    ({"batch_size": 0}, "batch_size"),
    ({"batch_size": "much"}, "batch_size"),
    ({"keep_maps": "float8"}, "keep_maps"),
    ({"engine": "steam"}, "engine"),
    ({"ray": {"gpus": -1}}, "ray.gpus"),
]


@pytest.mark.parametrize(("changes", "message"), BAD, ids=[message[:30] for _, message in BAD])
def test_wrong_fields_are_named_with_what_was_given(
    tiny_file: Callable[..., Path], changes: dict[str, Any], message: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        load_config(tiny_file(**changes))
    assert message in str(caught.value)
    assert "tiny.yaml" in str(caught.value)
    assert "\n" not in str(caught.value)


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


@pytest.mark.parametrize("content", ["a: [", "- 1\n- 2", "just words", ""])
def test_files_that_hold_no_configuration(tmp_path: Path, content: str) -> None:
    path = tmp_path / "bad.yaml"
    path.write_text(content)
    with pytest.raises(ConfigError, match=r"bad\.yaml"):
        load_config(path)


def test_file_that_is_not_there(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(tmp_path / "none.yaml")


def test_file_that_is_not_text(tmp_path: Path) -> None:
    path = tmp_path / "bytes.yaml"
    path.write_bytes(b"\xff\xfe\x00\x80")
    with pytest.raises(ConfigError, match="cannot read"):
        load_config(path)


def test_changes_replace_fields_of_the_file(tiny_file: Callable[..., Path]) -> None:
    assert load_config(tiny_file(), {"images": 9}).images == 9


def test_unknown_preset() -> None:
    with pytest.raises(UnknownNameError, match="smoke"):
        preset_path("smok")


def test_digest_sees_every_parameter_and_not_the_order_of_keys(tiny: Callable[..., RunConfig]) -> None:
    one, other = RunComponents(tiny()), RunComponents(tiny(metrics=["auc", {"name": "pixel_flipping", "steps": 5}]))
    assert digest(one.metrics["auc"]) == digest(other.metrics["auc"])
    assert digest(one.metrics["pixel_flipping"]) != digest(other.metrics["pixel_flipping"])
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})


def test_devices() -> None:
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") in ("cpu", "cuda")
    with pytest.raises(ConfigError, match="device 'abacus' cannot be used"):
        resolve_device("abacus")


PLUGIN = """
from typing import ClassVar

from baselines import Explainer, explainers


@explainers.register("{name}")
class Mine(Explainer):
    title: ClassVar[str] = "Mine"

    def explain(self, model, images, targets):
        return images.abs()
"""


@pytest.fixture
def plugin(tmp_path: Path) -> Path:
    path = tmp_path / "mine.py"
    path.write_text(PLUGIN.format(name="mine"))
    return path


def test_what_a_plugin_registers_joins_the_run(tiny: Callable[..., RunConfig], plugin: Path) -> None:
    config = tiny(plugins=[str(plugin)])
    assert list(RunComponents(config).explainers) == ["lap", "grad_cam", "random", "mine"]
    assert list(RunComponents(config).explainers) == ["lap", "grad_cam", "random", "mine"]


def test_plugins_that_cannot_be_imported(tiny: Callable[..., RunConfig], tmp_path: Path) -> None:
    broken = tmp_path / "broken.py"
    broken.write_text("import nothing_of_this_name")
    for name, reason in [
        (str(broken), "nothing_of_this_name"),
        ("no_such_file.py", "no file"),
        ("no.module", "No module"),
    ]:
        with pytest.raises(InterpError, match=reason):
            RunComponents(tiny(plugins=[name]))


def test_one_engine_for_all_metrics_that_have_it(tiny: Callable[..., RunConfig]) -> None:
    components = RunComponents(tiny(metric_engine="quantus", metrics=list(metrics)))
    assert {metric.engine for metric in components.metrics.values() if metric.has_reference()} == {"quantus"}
    assert {metric.engine for metric in components.metrics.values() if not metric.has_reference()} <= {"device"}
    mixed = [{"name": "auc", "engine": "quantus"}, "pixel_flipping"]
    assert [m.engine for m in RunComponents(tiny(metrics=mixed)).metrics.values()] == ["quantus", "device"]


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


def test_parts_of_stages_can_be_replaced_from_the_command_line(tiny_file: Callable[..., Path]) -> None:
    stages = [{}, {"recipe": {"epochs": 2}}]
    path = tiny_file(models=[{"name": "lap", "backbone": "test_resnet", "lap": True, "stages": stages}])
    config = load_config(path, assignments=["models.lap.stages.1.recipe.epochs=9"])
    assert config.models[0].stages is not None
    assert config.models[0].stages[1].recipe is not None
    assert config.models[0].stages[1].recipe.epochs == 9


def test_output_may_be_a_url(tiny: Callable[..., RunConfig]) -> None:
    assert str(tiny(output="memory://bucket/runs").folder) == "memory://bucket/runs/tiny"
    assert tiny(output="runs").folder == Path("runs/tiny")


def test_configuration_survives_a_round_trip(tiny: Callable[..., RunConfig], tmp_path: Path) -> None:
    config = tiny()
    path = tmp_path / "again.yaml"
    path.write_text(yaml.safe_dump(config.model_dump(mode="json")))
    assert load_config(path) == config
