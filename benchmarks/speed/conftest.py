"""Options, provenance and fixtures of the speed suite."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.config import resolve_device
from benchmarks.speed.compare import Compare
from benchmarks.speed.nets import NETS, SEED
from benchmarks.version import git_state, system, versions


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="few pairs and small images, to check that all works")


def pytest_configure(config: pytest.Config) -> None:
    if not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError("benchmarks/speed needs pytest-benchmark: pip install 'interp-bench[test]'")


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_generate_machine_info() -> dict[str, Any]:
    """In place of pytest-benchmark's own, which names the machine."""
    device = resolve_device("auto")
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return {**system(), "device": name, "threads": torch.get_num_threads()}


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    output_json["interp_bench"] = {
        "versions": versions(),
        "git": git_state(Path(__file__)),
        "nets": {net.name: net.describe() for net in NETS},
        "seed": SEED,
        "quick": config.getoption("--quick"),
    }


@pytest.fixture
def quick(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--quick"))


@pytest.fixture(scope="session")
def device() -> str:
    return resolve_device("auto")


@pytest.fixture
def compare(benchmark: Any, device: str, quick: bool) -> Iterator[Compare]:
    # What earlier comparisons left behind is collected at nobody's cost.
    gc.collect()
    gc.freeze()
    yield Compare(benchmark, device, quick)
    gc.unfreeze()
