"""The network of the page joins a run."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.pages import code_block

from benchmarks.config.load import load_config, preset_path
from benchmarks.run.engine import Engine

pytestmark = pytest.mark.slow
SETTINGS = (
    "dataset.image_size=64", "dataset.train=32", "dataset.val=10", "dataset.test=60", "recipe.epochs=1",
    "images=1", "shard=1", "gallery=1", "explainers=[lap, grad_cam]", "metrics=[auc]",
)  # fmt: skip


def test_a_network_that_timm_does_not_have_joins_a_run(tmp_path: Path) -> None:
    plugin = tmp_path / "my_network.py"
    plugin.write_text(code_block("running.md", "register_model"))
    models = "models=[{name: plain, backbone: my_network}, {name: lap, backbone: my_network, lap: true}]"
    settings = (*SETTINGS, f"plugins=['{plugin}']", models, f"output={tmp_path}")
    engine = Engine(load_config(preset_path("smoke"), assignments=settings))
    assert engine.run().problems == []
    assert {model.name: model.grid for model in engine.record.models} == {"plain": [2, 2], "lap": [2, 2]}
