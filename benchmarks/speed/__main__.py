"""`python -m benchmarks.speed`: measure with pytest-benchmark and write results/speed/.

Two suites: three networks with explainers besides (speed.csv), and with `--zoo` thirty networks of timm (zoo.csv).
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.config.device import resolve_device
from benchmarks.speed.table import COMMAND, SpeedError, read, write
from benchmarks.speed.zoo import VARIANTS, chosen_nets, chosen_variants, words
from benchmarks.speed.zoo_table import read_zoo, write_zoo
from interp_core.errors import InterpError, StoreError

OUTPUT = Path("results/speed")
QUICK_OUTPUT = Path("results/speed-quick")


def measure(path: Path, *, quick: bool, flags: Sequence[str] = ()) -> None:
    """Run a suite, its JSON to `path`.

    Args:
        path: of the JSON.
        quick: few pairs and small images.
        flags: more options for pytest: which suite, networks and variants.

    Raises:
        SpeedError: pytest-benchmark is missing, or pytest did not end well.
        StoreError: the folder cannot be made.
    """
    if find_spec("pytest_benchmark") is None:
        raise SpeedError(f"{COMMAND} needs pytest-benchmark: pip install 'interp-bench[test]'")
    import pytest

    try:
        path.parent.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise StoreError(f"cannot write to {path.parent}: {error.strerror}; choose another with --output") from error
    options = ["--quick", *flags] if quick else list(flags)
    columns = "--benchmark-columns=median,iqr,rounds"
    code = pytest.main([str(Path(__file__).parent), "-v", f"--benchmark-json={path}", columns, *options])
    if code != pytest.ExitCode.OK:
        raise SpeedError(f"the speed suite did not end well (pytest: {int(code)}); what it printed above says why")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 on an error the user can mend."""
    given = _parser().parse_args(arguments)
    output: Path = given.output or (QUICK_OUTPUT if given.quick else OUTPUT)
    try:
        _check(given)
        path: Path = given.json or output / ("zoo.json" if given.zoo else "speed.json")
        if given.json is None:
            measure(path, quick=given.quick, **({"flags": _zoo_flags(given)} if given.zoo else {}))
        for written in write_zoo(read_zoo(path), output) if given.zoo else write(read(path), output):
            print(written)
    except InterpError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _check(given: argparse.Namespace) -> None:
    if (given.nets or given.variants) and not given.zoo:
        raise SpeedError("--nets and --variants choose from the networks of --zoo: add --zoo")
    if given.zoo:
        chosen_nets(words(given.nets), quick=given.quick)
        chosen_variants(words(given.variants), resolve_device("auto"))


def _zoo_flags(given: argparse.Namespace) -> list[str]:
    chosen = [f"--{name}={value}" for name in ("nets", "variants") if (value := getattr(given, name))]
    return ["--zoo", *chosen]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description="Time LAP and external explainers; takes some minutes.")
    parser.add_argument("--output", type=Path, help=f"folder for the tables ({OUTPUT}; with --quick {QUICK_OUTPUT})")
    parser.add_argument("--quick", action="store_true", help="few pairs and small images, to check that all works")
    parser.add_argument("--zoo", action="store_true", help="LAP in thirty networks of timm: time and peak memory")
    parser.add_argument("--nets", help="with --zoo: only these networks of timm, commas between them")
    parser.add_argument("--variants", help=f"with --zoo: {', '.join(VARIANTS)}; commas between them")
    parser.add_argument("--json", type=Path, help="do not measure: tables from the JSON of an earlier run")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
