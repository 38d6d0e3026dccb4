"""`pytest benchmarks/speed --benchmark-compare` finds what it compares with."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from pytest_benchmark.storage.file import FileStorage

from benchmarks.speed.conftest import BASELINES, pytest_configure

pytestmark = pytest.mark.slow

DEFAULT = "file://./.benchmarks"


def configured_storage(storage: str, *, plugin: bool = True) -> str:
    config: Any = SimpleNamespace(
        pluginmanager=SimpleNamespace(hasplugin=lambda name: plugin), option=SimpleNamespace(benchmark_storage=storage)
    )
    pytest_configure(config)
    return str(config.option.benchmark_storage)


def test_baselines_lie_with_the_results_unless_told_otherwise() -> None:
    assert configured_storage(DEFAULT) == f"file://{BASELINES}"
    assert BASELINES.parts[-3:] == ("results", "speed", "baselines")
    assert configured_storage("file://mine") == "file://mine"


def test_the_plugins_own_default_is_known(pytestconfig: pytest.Config) -> None:
    # Fails when a release of pytest-benchmark changes it, which would leave the baselines unused.
    assert pytestconfig.getoption("benchmark_storage") == DEFAULT


def test_the_newest_baseline_has_the_whole_suite() -> None:
    if not BASELINES.exists():
        pytest.skip("the project is not checked out here")
    # As the plugin looks for them on a machine that has none of its own.
    entries = list(FileStorage(BASELINES, logger=None, default_machine_id="Nowhere-CPython-0").load())
    assert entries
    names = {entry["fullname"].split("::")[-1].split("[")[0] for entry in entries[-1][1]["benchmarks"]}
    assert {"test_forward", "test_explain", "test_train", "test_explainer"} <= names
    assert "node" not in entries[-1][1]["machine_info"]
