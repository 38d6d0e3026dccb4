from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from benchmarks.config.errors import ConfigError
from benchmarks.config.load import load_config, preset_path, presets
from benchmarks.plan.cells import train_cells
from benchmarks.plan.components import RunComponents
from interp_core.datasets import FileDataset
from interp_core.errors import InterpError, UnknownNameError

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


def test_parts_of_stages_can_be_replaced_from_the_command_line(tiny_file: Callable[..., Path]) -> None:
    stages = [{}, {"recipe": {"epochs": 2}}]
    path = tiny_file(models=[{"name": "lap", "backbone": "test_resnet", "lap": True, "stages": stages}])
    config = load_config(path, assignments=["models.lap.stages.1.recipe.epochs=9"])
    assert config.models[0].stages is not None
    assert config.models[0].stages[1].recipe is not None
    assert config.models[0].stages[1].recipe.epochs == 9


@pytest.mark.slow
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


def test_unknown_preset() -> None:
    with pytest.raises(UnknownNameError, match="smoke"):
        preset_path("smok")
