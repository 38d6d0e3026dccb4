"""Options, provenance and fixtures of the speed suite."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.config.device import resolve_device
from benchmarks.speed.networks import NETS, SEED, SHARPNESS
from benchmarks.speed.pairs import PairTimer
from benchmarks.speed.zoo import CLASSES, LARGEST, batch_size, select_nets, select_variants, split_names
from benchmarks.store.provenance import git_state, system, versions
from interp_core.errors import UnknownNameError

ZOO_SUITE = "test_zoo.py"
CHOICES = ("--nets", "--variants")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="few pairs and small images, to check that all works")
    parser.addoption(
        "--zoo", action="store_true", help="time LAP in the most used networks of timm, not the other suite"
    )
    parser.addoption("--nets", default="", help="with --zoo: comma-separated names of networks")
    parser.addoption("--variants", default="", help="with --zoo: comma-separated names of variants")


# Where `--benchmark-save` writes and `--benchmark-compare` looks, unless `--benchmark-storage` says otherwise.
BASELINES = Path(__file__).parents[2] / "results" / "speed" / "baselines"


def pytest_configure(config: pytest.Config) -> None:
    if not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError("benchmarks/speed needs pytest-benchmark: pip install 'interp-bench[test]'")
    # pytest-benchmark's own default; it opens its storage after this.
    if config.option.benchmark_storage == "file://./.benchmarks":
        config.option.benchmark_storage = f"file://{BASELINES}"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore the suite that is not selected."""
    if collection_path.suffix == ".py" and (collection_path.name == ZOO_SUITE) != config.getoption("--zoo"):
        return True
    return None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "zoo_net" not in metafunc.fixturenames:
        return
    config, device = metafunc.config, resolve_device("auto")
    try:
        nets = select_nets(split_names(config.getoption("--nets")), quick=config.getoption("--quick"))
        variants = select_variants(split_names(config.getoption("--variants")), device)
    except UnknownNameError as error:
        raise pytest.UsageError(str(error)) from error
    # Network by network, so that each is built once.
    pairs = [(net, variant) for net in nets for variant in variants]
    metafunc.parametrize(("zoo_net", "variant"), pairs, ids=[f"{net}-{variant.name}" for net, variant in pairs])


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_generate_machine_info() -> dict[str, Any]:
    """Describe the machine without its name, which pytest-benchmark's own hook would store."""
    device = resolve_device("auto")
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return {**system(), "device": name, "threads": torch.get_num_threads()}


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    zoo = bool(config.getoption("--zoo"))
    output_json["interp_bench"] = {
        "versions": versions(),
        "git": git_state(),
        "nets": {} if zoo else {net.name: net.describe() for net in NETS},
        "seed": SEED,
        "quick": config.getoption("--quick"),
        **({"zoo": _zoo_facts(config)} if zoo else {}),
    }


def _zoo_facts(config: pytest.Config) -> dict[str, Any]:
    from benchmarks.speed.test_zoo import BUDGET, FEWEST

    return {
        "images": batch_size(resolve_device("auto"), quick=config.getoption("--quick")),
        "largest": LARGEST,
        "classes": CLASSES,
        "sharpness": SHARPNESS,
        "budget": BUDGET,
        "fewest": FEWEST,
        "part": bool(split_names(config.getoption("--nets"))),
        "flags": ["--zoo", *(f"{name} {value}" for name in CHOICES if (value := config.getoption(name)))],
    }


@pytest.fixture
def quick(request: pytest.FixtureRequest) -> bool:
    return bool(request.config.getoption("--quick"))


@pytest.fixture(scope="session")
def device() -> str:
    return resolve_device("auto")


@pytest.fixture
def compare(benchmark: Any, device: str, quick: bool) -> Iterator[PairTimer]:
    # Collect the garbage of earlier comparisons outside the timed part.
    gc.collect()
    gc.freeze()
    yield PairTimer(benchmark, device, quick)
    gc.unfreeze()
