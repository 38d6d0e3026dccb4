"""Options, provenance and fixtures of the speed suite."""

from __future__ import annotations

import gc
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

from benchmarks.config.device import resolve_device
from benchmarks.speed.compare import Compare
from benchmarks.speed.networks import NETS, SEED, SHARPNESS
from benchmarks.speed.zoo import CLASSES, LARGEST, batch_size, chosen_nets, chosen_variants, words
from benchmarks.store.provenance import git_state, system, versions
from interp_core.errors import UnknownNameError

ZOO_SUITE = "test_zoo.py"
CHOICES = ("--nets", "--variants")


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--quick", action="store_true", help="few pairs and small images, to check that all works")
    parser.addoption("--zoo", action="store_true", help="LAP in the most used networks of timm, in place of the rest")
    parser.addoption("--nets", default="", help="with --zoo: names of networks, with commas between them")
    parser.addoption("--variants", default="", help="with --zoo: names of variants, with commas between them")


# Where `--benchmark-save` writes and `--benchmark-compare` looks, unless `--benchmark-storage` says otherwise.
BASELINES = Path(__file__).parents[2] / "results" / "speed" / "baselines"


def pytest_configure(config: pytest.Config) -> None:
    if not config.pluginmanager.hasplugin("benchmark"):
        raise pytest.UsageError("benchmarks/speed needs pytest-benchmark: pip install 'interp-bench[test]'")
    # pytest-benchmark's own default; it opens its storage after this.
    if config.option.benchmark_storage == "file://./.benchmarks":
        config.option.benchmark_storage = f"file://{BASELINES}"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """One of the two suites at a time."""
    if collection_path.suffix == ".py" and (collection_path.name == ZOO_SUITE) != config.getoption("--zoo"):
        return True
    return None


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "zoo_net" not in metafunc.fixturenames:
        return
    config, device = metafunc.config, resolve_device("auto")
    try:
        nets = chosen_nets(words(config.getoption("--nets")), quick=config.getoption("--quick"))
        variants = chosen_variants(words(config.getoption("--variants")), device)
    except UnknownNameError as error:
        raise pytest.UsageError(str(error)) from error
    # Each network once, so that it is made once.
    pairs = [(net, variant) for net in nets for variant in variants]
    metafunc.parametrize(("zoo_net", "variant"), pairs, ids=[f"{net}-{variant.name}" for net, variant in pairs])


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_generate_machine_info() -> dict[str, Any]:
    """In place of pytest-benchmark's own, which names the machine."""
    device = resolve_device("auto")
    name = torch.cuda.get_device_name(device) if device.startswith("cuda") else device
    return {**system(), "device": name, "threads": torch.get_num_threads()}


@pytest.hookimpl(optionalhook=True)
def pytest_benchmark_update_json(config: pytest.Config, output_json: dict[str, Any]) -> None:
    zoo = bool(config.getoption("--zoo"))
    output_json["interp_bench"] = {
        "versions": versions(),
        "git": git_state(Path(__file__)),
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
        "part": bool(words(config.getoption("--nets"))),
        "flags": ["--zoo", *(f"{name} {given}" for name in CHOICES if (given := config.getoption(name)))],
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
