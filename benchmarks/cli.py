"""The command `interp-bench`: run, report, list. Errors a user can mend come out in one line and exit with 2."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, TaskID, TextColumn, TimeElapsedColumn, TimeRemainingColumn
from rich.progress import Progress as Bar
from rich.table import Column, Table

from interp_core.errors import InterpError

app = typer.Typer(
    help="Explanations of image classifiers, compared head-to-head.", no_args_is_help=True, add_completion=False
)
console = Console()
errors = Console(stderr=True, soft_wrap=True)
STOPPED = 130


class Things(StrEnum):
    """What `interp-bench list` knows."""

    explainers = "explainers"
    metrics = "metrics"
    models = "models"
    datasets = "datasets"
    presets = "presets"


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

    def step(self, what: str) -> None:
        """Move the bar on."""
        assert self._task is not None
        self._bar.update(self._task, advance=1, description=what)


@app.command()
def run(
    preset: Annotated[str, typer.Option(help="Configuration that comes with the package.")] = "digits",
    config: Annotated[Path | None, typer.Option(help="Your own YAML file, in place of a preset.")] = None,
    name: Annotated[str | None, typer.Option(help="Name of the run and of its folder.")] = None,
    output: Annotated[Path | None, typer.Option(help="Folder that holds the runs.")] = None,
    device: Annotated[str | None, typer.Option(help="cpu, cuda, cuda:1, ... instead of the best at hand.")] = None,
    images: Annotated[int | None, typer.Option(help="How many test images are explained.")] = None,
    plugin: Annotated[
        list[str] | None, typer.Option(help="Python file or module with explainers or metrics of your own; repeatable.")
    ] = None,
) -> None:
    """Train, explain, score and report. Stop it whenever you like: started again it computes what is missing."""
    from benchmarks.config import load_config, preset_path

    given = {"name": name, "output": output, "device": device, "images": images, "plugins": plugin}
    changes = {key: value for key, value in given.items() if value is not None}
    path = preset_path(preset) if config is None else config
    settings = load_config(path, changes)
    with console.status("Loading libraries"):
        from benchmarks.engine import Engine

    columns = (
        TextColumn("{task.description}", table_column=Column(ratio=1, no_wrap=True, overflow="ellipsis")),
        BarColumn(bar_width=16),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("left"),
        TimeRemainingColumn(),
    )
    with Bar(*columns, console=console, expand=True) as bar:
        outcome = Engine(settings, Watch(bar)).run()
    console.print(f"{outcome.computed} cells computed, {outcome.reused} found in the store")
    for problem in outcome.problems:
        errors.print("[yellow]problem[/] " + escape(f"{problem['where']}: {problem['what']}"), highlight=False)
    _report(outcome.folder)


@app.command()
def report(
    folder: Annotated[Path, typer.Argument(metavar="RUN", help="Folder of a run, such as results/digits.")],
) -> None:
    """Make tables, figures and the page again from the stored scores alone."""
    _report(folder)


@app.command(name="list")
def list_things(
    things: Annotated[Things, typer.Argument(help="What to list.")],
    pattern: Annotated[
        str, typer.Option("--filter", help="For models: timm names that match, such as 'resnet*'.")
    ] = "",
) -> None:
    """What can be named in a configuration."""
    title, rows = _listing(things, pattern)
    table = Table(*title, box=None, header_style="bold")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def _report(folder: Path) -> None:
    from benchmarks.report import find, write_report
    from benchmarks.store import read_run

    data = read_run(folder)
    written = write_report(data, folder)
    ranks = find(data, resamples=2).ranks
    for model in dict.fromkeys(ranks["model"]):
        _print_ranks(str(model), ranks[ranks["model"] == model], {i.name: i.title for i in data.explainers.values()})
    console.print(f"[bold]{written[-1]}[/]  the page to read; tables/ and figures/ lie beside it", soft_wrap=True)


def _print_ranks(model: str, ranks: Any, titles: dict[str, str]) -> None:
    table = Table(
        "explainer", "mean rank", "metrics", title=f"Model {model}: mean rank, 1 is best", title_justify="left"
    )
    for row in ranks.itertuples():
        table.add_row(titles.get(row.explainer, row.explainer), f"{row.mean_rank:.2f}", str(row.metrics))
    console.print(table)


def _listing(things: Things, pattern: str) -> tuple[tuple[str, ...], list[tuple[str, ...]]]:
    if things is Things.explainers:
        from baselines import explainers

        return ("name", "kind", "title", "source"), [(n, e.kind, e.title, e.source) for n, e in explainers.items()]
    if things is Things.metrics:
        from benchmarks.metrics import metrics

        return ("name", "family", "score", "better"), [
            (name, metric.family, score.name, score.direction)
            for name, metric in metrics.items()
            for score in metric.scores
        ]
    if things is Things.datasets:
        from interp_core.datasets import datasets

        return ("name", "title", "parameters"), [(n, d.title, ", ".join(d.model_fields)) for n, d in datasets.items()]
    if things is Things.presets:
        from benchmarks.config import presets

        return ("name", "file"), [(name, str(path)) for name, path in presets().items()]
    import timm

    modules = {name: module for module in timm.list_modules() for name in timm.list_models(module=module)}
    return ("name", "timm module"), [(name, modules.get(name, "")) for name in timm.list_models(pattern)]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exits with 2 on an error the user can mend, 130 when stopped by hand."""
    try:
        code = app(args=list(sys.argv[1:] if arguments is None else arguments), standalone_mode=False)
    except InterpError as error:
        raise SystemExit(_told(str(error))) from error
    except (KeyboardInterrupt, typer.Abort):
        code = STOPPED
    except Exception as error:
        if not hasattr(error, "format_message"):  # what typer raises for words it does not know
            raise
        raise SystemExit(_told(f"{error.format_message()}; see interp-bench --help")) from error
    if code == STOPPED:
        errors.print("stopped; the same command goes on where this one was")
    if code:
        raise SystemExit(code)


def _told(message: str) -> int:
    """Print an error the user can mend; the exit code."""
    errors.print("[red]error:[/] " + escape(" ".join(message.split())), highlight=False)
    return 2


if __name__ == "__main__":
    main()
