"""A run so small that it takes two seconds, as a configuration file that tests may change."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from benchmarks.config.load import load_config
from benchmarks.config.run import RunConfig
from benchmarks.run.engine import Engine, Outcome

TINY: dict[str, Any] = {
    "name": "tiny",
    "dataset": {
        "name": "digits-in-scenes",
        "image_size": 32,
        "train": 64,
        "val": 20,
        "test": 120,
        "digit_scale": [0.6, 0.7],
        "distractors": 0,
    },
    "models": [
        {"name": "plain", "backbone": "test_resnet", "kwargs": {"output_stride": 8}},
        {"name": "lap", "backbone": "test_resnet", "kwargs": {"output_stride": 8}, "lap": True},
    ],
    "recipe": {"epochs": 1, "batch_size": 16},
    "explainers": ["lap", "grad_cam", "random"],
    "metrics": ["auc", {"name": "pixel_flipping", "steps": 4}],
    "images": 3,
    "shard": 2,
    "gallery": 2,
    "threads": 1,
    "device": "cpu",
}


@pytest.fixture
def tiny_file(tmp_path: Path) -> Callable[..., Path]:
    """Return a function that writes the configuration with some fields changed; None removes a field."""

    def write(**changes: Any) -> Path:
        content = {"output": str(tmp_path / "runs"), **TINY, **changes}
        path = tmp_path / "tiny.yaml"
        path.write_text(yaml.safe_dump({key: value for key, value in content.items() if value is not None}))
        return path

    return write


@pytest.fixture
def tiny(tiny_file: Callable[..., Path]) -> Callable[..., RunConfig]:
    return lambda **changes: load_config(tiny_file(**changes))


@pytest.fixture(scope="session")
def _once(tmp_path_factory: pytest.TempPathFactory) -> Outcome:
    content = {"output": str(tmp_path_factory.mktemp("once")), **TINY}
    return Engine(RunConfig.model_validate(content)).run()


@pytest.fixture
def done(_once: Outcome, tiny: Callable[..., RunConfig]) -> tuple[RunConfig, Outcome]:
    """Return the finished tiny run, copied into a folder of this test."""
    config = tiny()
    shutil.copytree(_once.folder, config.folder)
    return config, replace(_once, folder=config.folder)


@pytest.fixture
def warm(_once: Outcome, tiny: Callable[..., RunConfig]) -> Callable[..., RunConfig]:
    """Return a function like `tiny`, whose runs have trained networks."""

    def make(**changes: Any) -> RunConfig:
        config = tiny(**changes)
        if not config.folder.exists():
            shutil.copytree(_once.folder / "models", config.folder / "models")
        return config

    return make
