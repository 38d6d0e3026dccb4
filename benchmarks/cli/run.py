"""`interp-bench run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column

from benchmarks.cli.app import FAILED, Sets, app, console, warn
from benchmarks.cli.runs import write_page

if TYPE_CHECKING:
    from benchmarks.run.engine import Outcome


class Watch:
    """Rich progress bars, one a phase, with the time left."""

    def __init__(self, bar: Bar) -> None:
        self._bar = bar
        self._task: TaskID | None = None

    def begin(self, what: str, total: int) -> None:
        """Finish the bar before and start one."""
        if self._task is not None:
            self._bar.update(self._task, completed=self._bar.tasks[self._task].total)
        self._task = self._bar.add_task(what, total=total)

    def step(self, what: str, steps: int = 1) -> None:
        """Move the bar on."""
        assert self._task is not None
        self._bar.update(self._task, advance=steps, description=what)


@app.command()
def run(
    preset: Annotated[str, typer.Option(help="Configuration that comes with the package.")] = "digits",
    config: Annotated[Path | None, typer.Option(help="Your own YAML file, in place of a preset.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run and of its folder.")] = None,
    output: Annotated[str | None, typer.Option(help="Folder that holds the runs, or a URL such as s3://...")] = None,
    limit: Annotated[
        int | None, typer.Option("--limit", "--images", help="How many test images are explained.")
    ] = None,
    seed: Annotated[list[int] | None, typer.Option(help="Seed of training and all that follows; repeatable.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ... instead of the best at hand.")] = None,
    batch_size: Annotated[str | None, typer.Option(help="Images explained at once, or auto.")] = None,
    plugin: Annotated[
        list[str] | None, typer.Option(help="Python file or module with explainers or metrics of your own; repeatable.")
    ] = None,
    set: Sets = None,
    metric_engine: Annotated[str | None, typer.Option(help="device or quantus, for all metrics with both.")] = None,
    smoothing: Annotated[list[float] | None, typer.Option(help="Also score maps blurred by so many pixels.")] = None,
    grid: Annotated[list[int] | None, typer.Option(help="Also score maps averaged on a grid of so many cells.")] = None,
    sharpen: Annotated[list[float] | None, typer.Option(help="Also score maps raised to this power.")] = None,
    keep_maps: Annotated[str | None, typer.Option(help="none, float16 or float32.")] = None,
    engine: Annotated[str | None, typer.Option(help="local, or ray for a cluster.")] = None,
    address: Annotated[str | None, typer.Option(help="Of a Ray cluster; auto for the one at hand.")] = None,
    fresh: Annotated[
        bool, typer.Option("--fresh/--resume", help="Delete what the run's folder holds, or go on with it.")
    ] = False,
    retry_failed: Annotated[bool, typer.Option("--retry-failed", help="Try cells again that failed before.")] = False,
) -> None:
    """Train, explain, score and report. Stop it whenever you like: started again it computes what is missing."""
    from benchmarks.config.load import load_config, preset_path
    from benchmarks.config.overrides import parsed

    given = {
        "name": name, "output": output, "images": limit, "seeds": seed, "device": device, "plugins": plugin,
        "batch_size": int(batch_size) if batch_size and batch_size.isdigit() else batch_size,
        "metric_engine": metric_engine,
        "smoothing": smoothing, "grids": grid, "sharpening": sharpen, "keep_maps": keep_maps, "engine": engine,
    }  # fmt: skip
    changes: dict[str, Any] = {key: value for key, value in given.items() if value not in (None, [])}
    sets = [*(set or []), *([] if address is None else [f"ray.address={address}"])]
    path = preset_path(preset) if config is None else config
    settings = load_config(path, changes, sets)
    overrides = {key: value for key, value in changes.items() if key != "output"} | dict(map(parsed, sets))
    with console.status("Loading libraries"):
        from benchmarks.run.engine import Engine

    with Bar(*_columns(), console=console, expand=True) as bar:
        outcome = Engine(settings, Watch(bar), overrides=overrides, fresh=fresh, retry_failed=retry_failed).run()
    _tell(outcome)
    write_page(outcome.folder)
    if outcome.failed:
        raise typer.Exit(FAILED)


def _columns() -> tuple[Any, ...]:
    return (
        TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )


def _tell(outcome: Outcome) -> None:
    """How a run ended: cells, problems, degenerate maps."""
    console.print(f"{outcome.computed} cells computed, {outcome.reused} found in the store")
    for problem in outcome.problems:
        times = f" ({problem['cells']} cells)" if problem.get("cells", 1) > 1 else ""
        warn("problem", f"{problem['where']}: {problem['what']}{times}")
    for entry in outcome.degenerate:
        if entry["degenerate"]:
            pair = f"{entry['model']}, {entry['explainer']}"
            warn("degenerate", f"{pair}: {entry['degenerate']} of {entry['maps']} maps say nothing")
    if outcome.failed:
        warn("failed", f"{outcome.failed} cells; tracebacks are in run.json, --retry-failed tries them again")
