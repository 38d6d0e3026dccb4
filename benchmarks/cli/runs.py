"""Commands on runs that are there: report, compare, merge, pack, export."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from benchmarks.cli.app import RunFolder, app, console, show

if TYPE_CHECKING:
    from benchmarks.store.locations import Location


@app.command()
def report(folder: RunFolder) -> None:
    """Make tables, figures and the page again from the stored scores alone."""
    from benchmarks.store.locations import open_location

    write_page(open_location(folder))


@app.command()
def compare(
    first: RunFolder,
    second: RunFolder,
    to: Annotated[Path | None, typer.Option(help="Also write the table as CSV.")] = None,
) -> None:
    """Paired differences of two runs, second minus first, on the images that both have explained."""
    from benchmarks.statistics.comparison import compare as compared
    from benchmarks.statistics.comparison import only_in_one
    from benchmarks.store.atomic import write_atomically
    from benchmarks.store.run_folder import read_run

    runs = read_run(first), read_run(second)
    table = compared(*runs)
    for line in only_in_one(*runs):
        console.print(line, soft_wrap=True)
    columns = ("explainer", "metric", "first", "second", "difference, 95 %", "images", "second is")
    for model in dict.fromkeys(table["model"]):
        own = table[table["model"] == model]
        show(columns, [_row(row) for row in own.itertuples()], title=f"Model {model}: second run minus first")
    if to is not None:
        console.print(f"[bold]{write_atomically(to, table.to_csv(index=False))}[/]", soft_wrap=True)


@app.command()
def merge(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    into: Annotated[str, typer.Option(help="Folder of the merged run; must hold none yet.")],
) -> None:
    """Put runs together that differ in seeds, explainers or metrics alone."""
    from benchmarks.store.locations import open_location
    from benchmarks.store.merging import merge as merged

    cells = merged([open_location(run) for run in runs], open_location(into))
    console.print(f"{cells} cells of {len(runs)} runs")
    write_page(open_location(into))


@app.command()
def pack(folder: RunFolder) -> None:
    """Put all cells of a finished run into one Parquet file, cells.parquet, in place of thousands of small ones."""
    from benchmarks.store.locations import open_location
    from benchmarks.store.packing import pack as packed

    console.print(f"{packed(open_location(folder))} cells in {folder}/cells.parquet", soft_wrap=True)


@app.command()
def unpack(folder: RunFolder) -> None:
    """Give every cell of a packed run a file of its own again."""
    from benchmarks.store.locations import open_location
    from benchmarks.store.packing import unpack as unpacked

    console.print(f"{unpacked(open_location(folder))} cells in {folder}/cells", soft_wrap=True)


@app.command()
def export(
    folder: RunFolder,
    to: Annotated[Path, typer.Option(help="Folder for the tables.")],
    form: Annotated[str, typer.Option("--format", help="csv or latex.")] = "csv",
) -> None:
    """Write one CSV, or one LaTeX tabular, for every table of a run."""
    from benchmarks.report.export import ENDINGS
    from benchmarks.report.export import export as exported
    from benchmarks.store.run_folder import read_run
    from interp_core.errors import UnknownNameError

    if form not in ENDINGS:
        raise UnknownNameError("format", form, ENDINGS)
    for path in exported(read_run(folder), to, form):  # type: ignore[arg-type]
        console.print(str(path), soft_wrap=True, highlight=False)


def write_page(folder: Location) -> None:
    """Tables, figures and page of a run, into its folder, and its mean ranks on the console."""
    from benchmarks.report import analyse, write_report
    from benchmarks.statistics import Resampling
    from benchmarks.store.locations import write_file
    from benchmarks.store.run_folder import read_run

    data = read_run(folder)
    if isinstance(folder, Path):
        last: Any = write_report(data, folder)[-1]
    else:
        with tempfile.TemporaryDirectory() as local:
            for path in write_report(data, Path(local)):
                last = folder / path.relative_to(local).as_posix()
                write_file(last, path.read_bytes())
    ranks = analyse(data, Resampling(resamples=2)).ranks
    titles = {info.name: info.title for info in data.explainers.values()}
    for model in dict.fromkeys(ranks["model"]):
        own = ranks[ranks["model"] == model]
        rows = [(titles.get(r.explainer, r.explainer), f"{r.mean_rank:.2f}", str(r.metrics)) for r in own.itertuples()]
        show(("explainer", "mean rank", "metrics"), rows, title=f"Model {model}: mean rank, 1 is best")
    console.print(f"[bold]{last}[/]  the page to read; tables/ and figures/ lie beside it", soft_wrap=True)


def _row(row: Any) -> tuple[str, ...]:
    interval = f" [{row.ci_low:+.3f}, {row.ci_high:+.3f}]" if row.n > 1 else ""
    difference = escape(f"{row.difference:+.3f}{interval}")
    return row.explainer, row.metric, f"{row.first:.3f}", f"{row.second:.3f}", difference, str(row.n), row.verdict
