"""A run says before it computes what it cannot give."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from PIL import Image

from benchmarks.config.errors import ConfigError
from benchmarks.config.plugins import load_plugin
from benchmarks.config.run import RunConfig
from benchmarks.metrics import metrics
from benchmarks.run.engine import Engine
from benchmarks.run.preconditions import check_classes, idle_plugins, unscored_metrics
from interp_core.datasets import DatasetConfig, datasets
from interp_core.errors import FailedRunError

pytestmark = pytest.mark.slow
SCORES = {name: metrics[name]() for name in ("pointing_game", "sparseness")}


def build_folder(root: Path, *classes: str) -> DatasetConfig:
    """Return a data set of class folders without masks."""
    values = np.random.default_rng(0)
    for name in classes:
        (root / name).mkdir(parents=True)
        for number in range(10):
            pixels = values.integers(0, 255, (12, 12, 3), dtype=np.uint8)
            Image.fromarray(pixels).save(root / name / f"{name}{number}.png")
    return datasets["folder"](root=root, image_size=12)


def test_one_class_is_nothing_to_classify(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="'red'"):
        check_classes(build_folder(tmp_path / "one", "red"))
    check_classes(build_folder(tmp_path / "two", "red", "green"))


def test_metrics_that_need_masks_are_named_where_there_are_none(tmp_path: Path) -> None:
    dataset = build_folder(tmp_path, "red", "green")
    assert [problem.where for problem in unscored_metrics(SCORES, dataset, "test")] == ["pointing_game"]
    with pytest.raises(ConfigError, match="pointing_game"):
        unscored_metrics({"pointing_game": SCORES["pointing_game"]}, dataset, "test")
    assert unscored_metrics(SCORES, datasets["digits-in-scenes"](), "test") == []


def test_plugins_that_register_nothing_are_named(tmp_path: Path) -> None:
    (tmp_path / "idle.py").write_text("value = 1\n")
    (tmp_path / "busy.py").write_text(
        "from baselines import Explainer, explainers\n"
        "@explainers.register('busy-explainer')\n"
        "class Busy(Explainer):\n    def explain(self, model, images, targets): return images[:, :1]\n"
    )
    modules: list[ModuleType] = [load_plugin(str(tmp_path / name)) for name in ("idle.py", "busy.py")]
    problems = idle_plugins(modules)
    assert len(problems) == 1
    assert "idle" in problems[0].where


def test_a_network_that_diverges_is_left_out_and_named(tiny: Callable[..., RunConfig]) -> None:
    good, bad = ({"name": name, "backbone": "test_resnet", "kwargs": {"output_stride": 8}} for name in ("good", "bad"))
    bad["stages"] = [{"recipe": {"epochs": 1, "batch_size": 16, "learning_rate": 1e30}}]
    outcome = Engine(tiny(models=[good, bad], seeds=[0])).run()
    (problem,) = [problem for problem in outcome.problems if problem.cell is not None]
    assert problem.where.startswith("bad")
    assert "diverged" in problem.what
    assert outcome.failed == 1
    with pytest.raises(FailedRunError):
        Engine(tiny(models=[bad], seeds=[0], name="alone")).run()
