"""`python -m benchmarks.speed`: measure with pytest-benchmark and write results/speed/."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path

from benchmarks.speed.table import COMMAND, SpeedError, read, write
from interp_core.errors import InterpError, StoreError

OUTPUT = Path("results/speed")
QUICK_OUTPUT = Path("results/speed-quick")


def measure(path: Path, *, quick: bool) -> None:
    """Run the suite, its JSON to `path`.

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
    flags = ["--quick"] if quick else []
    columns = "--benchmark-columns=median,iqr,rounds"
    code = pytest.main([str(Path(__file__).parent), "-v", f"--benchmark-json={path}", columns, *flags])
    if code != pytest.ExitCode.OK:
        raise SpeedError(f"the speed suite did not end well (pytest: {int(code)}); what it printed above says why")


def main(arguments: Sequence[str] | None = None) -> int:
    """Exit status: 0, or 2 on an error the user can mend."""
    given = _parser().parse_args(arguments)
    output: Path = given.output or (QUICK_OUTPUT if given.quick else OUTPUT)
    try:
        path: Path = given.json or output / "speed.json"
        if given.json is None:
            measure(path, quick=given.quick)
        for written in write(read(path), output):
            print(written)
    except InterpError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog=COMMAND, description="Time LAP and external explainers; takes some minutes.")
    parser.add_argument("--output", type=Path, help=f"folder for the tables ({OUTPUT}; with --quick {QUICK_OUTPUT})")
    parser.add_argument("--quick", action="store_true", help="few pairs and small images, to check that all works")
    parser.add_argument("--json", type=Path, help="do not measure: tables from the JSON of an earlier run")
    return parser


if __name__ == "__main__":
    raise SystemExit(main())
