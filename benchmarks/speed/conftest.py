"""Options, provenance and the fixture `compare` of the speed suite."""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.config import resolve_device
from benchmarks.speed.nets import NETS, SEED, Net, counts
from benchmarks.speed.ratios import Reference, Row, Work, paired_ratios, spread
from benchmarks.version import git_state, system, versions

WARM_UP = 3
QUICK_PAIRS = 3

# Takes the network, memory format, what and against what, images, and both sides; then keywords.
Compare = Callable[..., None]


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
        "git": git_state(Path(__file__).parent),
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
def _no_foreign_garbage() -> Iterator[None]:
    """What earlier comparisons left behind is collected at nobody's cost."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


@pytest.fixture
def compare(benchmark: Any, device: str, quick: bool, _no_foreign_garbage: None) -> Compare:
    """Times both sides in turn and leaves the row of the table in `extra_info`."""

    def run(
        net: Net,
        memory_format: str,
        what: tuple[str, str],
        images: int,
        sides: tuple[Work, Work],
        *,
        pairs: int,
        warm_up: int = WARM_UP,
        repeats: int = 1,
        asked: float | None = None,
    ) -> None:
        pairs = min(pairs, QUICK_PAIRS) if quick else pairs
        plain, other = (_finished(side, device) for side in sides)
        reference = Reference(plain, repeats)
        benchmark.group = f"{net.name}, {memory_format}"
        benchmark.pedantic(other, setup=reference, rounds=pairs, warmup_rounds=warm_up)
        if benchmark.stats is None:  # --benchmark-disable
            return
        seconds = reference.seconds[warm_up : warm_up + pairs]
        ratios = spread(paired_ratios(seconds, benchmark.stats.stats.data))
        row = Row(
            net=net.name,
            image_size=net.size(quick),
            images=images,
            memory_format=memory_format,
            what=what[0],
            reference=what[1],
            ratio=ratios.median,
            q1=ratios.q1,
            q3=ratios.q3,
            asked=asked if counts(memory_format) else None,
            reference_seconds=spread(seconds).median,
            pairs=pairs,
        )
        benchmark.extra_info.update(asdict(row), reference_data=seconds)

    return run


def _finished(work: Work, device: str) -> Work:
    """`work`, and the wait until the device has done it."""
    if not device.startswith("cuda"):
        return work

    def run() -> None:
        work()
        torch.cuda.synchronize(device)

    return run
