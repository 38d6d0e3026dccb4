"""`interp-bench run`."""

from __future__ import annotations

import time
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from benchmarks.cli.app import FAILED, Assignments, app, console, print_warning
from benchmarks.cli.runs import write_page

if TYPE_CHECKING:
    from collections.abc import Mapping

    from benchmarks.run.engine import Outcome

# Parts of a run in run.json whose name says too little.
TIME_NAMES = {
    "train": "training",
    "pairs": "training of pairs",
    "select": "choosing images",
    "explain": "explaining",
    "metrics_model": "passes of metrics",
    "metrics_library": "rest of metrics",
    "harness": "storing and the rest",
    "libraries": "loading libraries",
    "page": "tables, figures and page",
}


@app.command()
def run(
    preset: Annotated[str, typer.Option(help="Configuration that comes with the package.")] = "digits",
    config: Annotated[Path | None, typer.Option(help="Your own YAML file, in place of a preset.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run and of its folder.")] = None,
    output: Annotated[str | None, typer.Option(help="Folder that holds the runs, or a URL such as s3://...")] = None,
    images: Annotated[int | None, typer.Option("--limit", "--images", help="Number of test images to explain.")] = None,
    seeds: Annotated[
        list[int] | None, typer.Option("--seed", help="Seed of training and all that follows; repeatable.")
    ] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ...; the best available by default.")] = None,
    batch_size: Annotated[str | None, typer.Option(help="Images explained at once, or auto.")] = None,
    plugins: Annotated[
        list[str] | None,
        typer.Option("--plugin", help="Python file or module with your own explainers or metrics; repeatable."),
    ] = None,
    assignments: Assignments = None,
    metric_engine: Annotated[str | None, typer.Option(help="device or quantus, for all metrics with both.")] = None,
    smoothing: Annotated[list[float] | None, typer.Option(help="Also score maps blurred by so many pixels.")] = None,
    grids: Annotated[
        list[int] | None, typer.Option("--grid", help="Also score maps averaged on a grid of so many cells.")
    ] = None,
    sharpening: Annotated[
        list[float] | None, typer.Option("--sharpen", help="Also score maps raised to this power.")
    ] = None,
    keep_maps: Annotated[str | None, typer.Option(help="none, float16 or float32.")] = None,
    engine: Annotated[str | None, typer.Option(help="local, or ray for a cluster.")] = None,
    address: Annotated[str | None, typer.Option(help="Address of a Ray cluster; auto for the local one.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh/--resume", help="Delete the contents of the run's folder, or continue the run.")
    ] = False,
    retry_failed: Annotated[
        bool, typer.Option("--retry-failed", help="Compute cells again that failed before.")
    ] = False,
) -> None:
    """Train, explain, score and report. A run that was stopped computes only what is missing."""
    begin = time.perf_counter()
    from benchmarks.config.load import load_config, preset_path
    from benchmarks.config.overrides import parse_assignment

    options: dict[str, Any] = {
        "name": name, "output": output, "images": images, "seeds": seeds, "device": device, "plugins": plugins,
        "batch_size": int(batch_size) if batch_size and batch_size.isdigit() else batch_size,
        "metric_engine": metric_engine, "smoothing": smoothing, "grids": grids, "sharpening": sharpening,
        "keep_maps": keep_maps, "engine": engine,
    }  # fmt: skip
    changes = {field: value for field, value in options.items() if value not in (None, [])}
    assignments = [*(assignments or []), *([] if address is None else [f"ray.address={address}"])]
    settings = load_config(preset_path(preset) if config is None else config, changes, assignments)
    overrides = {field: value for field, value in changes.items() if field != "output"}
    overrides |= dict(map(parse_assignment, assignments))
    with console.status("Loading libraries"):
        from benchmarks.run.engine import Engine
        from benchmarks.run.phase_progress import PhaseProgress

    before = {"libraries": time.perf_counter() - begin}
    with PhaseProgress(console) as progress:
        executor = Engine(
            settings, progress, overrides=overrides, fresh=fresh, retry_failed=retry_failed, has_helper=True
        )
        outcome = executor.run()
    _print_outcome(outcome)
    begin = time.perf_counter()
    write_page(outcome.folder)
    _print_times(executor.record.times, before | {"page": time.perf_counter() - begin})
    if outcome.failed:
        raise typer.Exit(FAILED)


def _print_times(times: Mapping[str, float], around: Mapping[str, float]) -> None:
    """Print how long each part of the command took, the longest first.

    Args:
        times: seconds of the parts of the run, and their total, as in run.json.
        around: seconds of what comes before and after the run.
    """
    from benchmarks.run.phase_progress import format_seconds

    parts = {**times, **around}
    total = parts.pop("total", 0.0) + sum(around.values())
    longest_first = sorted(parts.items(), key=lambda part: -part[1])
    texts = [f"{TIME_NAMES.get(name, name)} {format_seconds(max(0.0, seconds))}" for name, seconds in longest_first]
    console.print(f"Time {format_seconds(total)}: {', '.join(texts)}", highlight=False, soft_wrap=True)


def _print_outcome(outcome: Outcome) -> None:
    """Print counts of cells, problems and degenerate maps."""
    console.print(f"{outcome.computed} cells computed, {outcome.reused} found in the store")
    for problem in outcome.problems:
        times = f" ({problem.cells} cells)" if problem.cells > 1 else ""
        print_warning("problem", f"{problem.where}: {problem.what}{times}")
    for entry in outcome.degenerate:
        if entry.degenerate:
            pair = f"{entry.model}, {entry.explainer}"
            print_warning("degenerate", f"{pair}: {entry.degenerate} of {entry.maps} maps are constant or not finite")
    if outcome.failed:
        hint = "see run.json for tracebacks; --retry-failed computes them again"
        print_warning("failed", f"{outcome.failed} cells: {hint}")
