"""`python -m benchmarks.speed`: measure with pytest-benchmark and write results/speed/.

Two suites: three networks with explainers (speed.csv), and with `--zoo` thirty networks of timm (zoo.csv). Sub-commands
measure the engines of the metrics, their passes, the loading of images, the growth of a run with its images, and Ray
workers.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import typer

from benchmarks.config.device import resolve_device
from benchmarks.speed.table import COMMAND, SpeedError, read, to_csv, write
from benchmarks.speed.zoo import VARIANTS, select_nets, select_variants, split_names
from benchmarks.speed.zoo_figure import zoo_png
from benchmarks.speed.zoo_rows import ZooResults, read_zoo
from benchmarks.speed.zoo_table import FIGURE, to_markdown
from benchmarks.store.atomic import write_atomically
from interp_core.errors import InterpError, StoreError

OUTPUT = Path("results/speed")
QUICK_OUTPUT = Path("results/speed-quick")

app = typer.Typer(help="Time LAP and external explainers; takes some minutes.", add_completion=False)
Folder = Annotated[Path, typer.Option("--output", help="Folder for the tables.")]


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command; return 0, or 2 on an error that the user can fix."""
    try:
        return app(args=list(sys.argv[1:] if arguments is None else arguments), standalone_mode=False) or 0
    except InterpError as error:
        message = str(error)
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer raises these for unknown options
            raise
        message = f"{error.format_message()}; see {COMMAND} --help"
    print(f"error: {message}", file=sys.stderr)
    return 2


@app.callback(invoke_without_command=True)
def suite(
    context: typer.Context,
    output: Annotated[
        Path | None, typer.Option(help=f"Folder for the tables ({OUTPUT}; with --quick {QUICK_OUTPUT}).")
    ] = None,
    quick: Annotated[bool, typer.Option("--quick", help="Few pairs and small images, to check the code.")] = False,
    zoo: Annotated[bool, typer.Option("--zoo", help="LAP in thirty networks of timm: time and peak memory.")] = False,
    nets: Annotated[str | None, typer.Option(help="With --zoo: only these networks, comma-separated.")] = None,
    variants: Annotated[str | None, typer.Option(help=f"With --zoo: {', '.join(VARIANTS)}; comma-separated.")] = None,
    stored: Annotated[
        Path | None, typer.Option("--json", help="Do not measure: tables from the JSON of an earlier run.")
    ] = None,
) -> None:
    """Time LAP and external explainers; takes some minutes."""
    if context.invoked_subcommand is not None:
        return
    flags = _zoo_flags(nets, variants, zoo=zoo, quick=quick)
    folder = output or (QUICK_OUTPUT if quick else OUTPUT)
    path = stored or folder / ("zoo.json" if zoo else "speed.json")
    if stored is None:
        measure(path, quick=quick, flags=flags)
    _print_paths(write_zoo(read_zoo(path), folder) if zoo else write(read(path), folder))


@app.command()
def engines(
    output: Folder = OUTPUT,
    images: Annotated[
        int | None, typer.Option(help="Images to score; by default few enough for a quarter of an hour.")
    ] = None,
    pairs: Annotated[int, typer.Option(help="Rounds of both engines.")] = 3,
    nets: Annotated[str | None, typer.Option(help="Networks, comma-separated.")] = None,
) -> None:
    """Time the device engine's metrics against Quantus' and against bare forward passes."""
    from benchmarks.speed.engines import write_engines

    _print_paths(write_engines(output, images, pairs, split_names(nets)))


@app.command()
def loading(
    output: Folder = OUTPUT,
    images: Annotated[int, typer.Option(help="Files of each kind.")] = 384,
    rounds: Annotated[int, typer.Option(help="Rounds of all sides.")] = 7,
) -> None:
    """Time how fast images of files reach the benchmark, against decoding them alone."""
    from benchmarks.speed.loading import write_loading

    _print_paths(write_loading(output, images, rounds))


@app.command()
def passes(
    run: Annotated[Path, typer.Argument(help="Folder of a stored run that kept its maps.")],
    output: Folder = OUTPUT,
    images: Annotated[int, typer.Option(help="Images to score, at most those of a shard.", min=1)] = 8,
) -> None:
    """Count the passes that metrics ask for and those that are run, and try curves of half the steps."""
    from benchmarks.speed.passes import write_passes

    _print_paths(write_passes(output, run, images))


@app.command()
def scale(
    output: Folder = OUTPUT,
    images: Annotated[
        list[int] | None, typer.Option(help="Images to explain, one run for each; repeatable (50, 500, 5000).")
    ] = None,
) -> None:
    """Measure how time and peak memory of a run grow with its images."""
    from benchmarks.speed.scale import IMAGES, write_scale

    _print_paths(write_scale(output, images or IMAGES))


@app.command(hidden=True)
def scale_once(images: int, test_images: int, folder: Path) -> None:
    """Run once for `scale` and print the measurement as JSON."""
    from benchmarks.speed.scale import run_once

    typer.echo(json.dumps(run_once(images, test_images, folder)))


@app.command()
def workers(
    output: Folder = OUTPUT,
    images: Annotated[int | None, typer.Option(help="Images to explain (128).")] = None,
    count: Annotated[list[int] | None, typer.Option(help="Ray workers; repeatable (1, 2).")] = None,
    rounds: Annotated[int | None, typer.Option(help="Runs for each number of workers (3).")] = None,
) -> None:
    """Measure how much sooner a run ends on several Ray workers."""
    from benchmarks.speed.workers import IMAGES, ROUNDS, WORKERS, write_workers

    _print_paths(write_workers(output, images or IMAGES, count or WORKERS, rounds or ROUNDS))


@app.command(hidden=True)
def workers_once(images: int, test_images: int, count: int, folder: Path) -> None:
    """Run once for `workers` and print the seconds as JSON."""
    from benchmarks.speed.workers import run_once

    typer.echo(json.dumps({"seconds": run_once(images, test_images, count, folder)}))


def measure(path: Path, *, quick: bool, flags: Sequence[str] = ()) -> None:
    """Run a suite and write its JSON to `path`.

    Args:
        path: of the JSON.
        quick: few pairs and small images.
        flags: more options for pytest: suite, networks and variants.

    Raises:
        SpeedError: pytest-benchmark is missing, or pytest failed.
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
        raise SpeedError(f"the speed suite failed (pytest: {int(code)}); its output above says why")


def write_zoo(results: ZooResults, folder: Path) -> list[Path]:
    """Write zoo.csv, zoo.md and zoo.png.

    Raises:
        StoreError: the folder or a file cannot be written.
    """
    return [
        write_atomically(folder / "zoo.csv", to_csv(results.rows)),
        write_atomically(folder / "zoo.md", to_markdown(results)),
        write_atomically(folder / FIGURE, zoo_png(results)),
    ]


def _zoo_flags(nets: str | None, variants: str | None, *, zoo: bool, quick: bool) -> list[str]:
    """Return pytest's options for the zoo suite.

    Raises:
        SpeedError: options of the zoo without it.
        UnknownNameError: no such network or variant.
    """
    if not zoo:
        if nets or variants:
            raise SpeedError("--nets and --variants choose from the networks of --zoo: add --zoo")
        return []
    select_nets(split_names(nets), quick=quick)
    select_variants(split_names(variants), resolve_device("auto"))
    choices = {"nets": nets, "variants": variants}
    return ["--zoo", *(f"--{name}={value}" for name, value in choices.items() if value)]


def _print_paths(paths: Sequence[Path]) -> None:
    for path in paths:
        typer.echo(path)


if __name__ == "__main__":
    raise SystemExit(main())
