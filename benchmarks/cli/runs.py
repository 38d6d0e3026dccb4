"""Commands on finished runs: report, compare, merge, pack, unpack, export."""

from __future__ import annotations

import logging
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from benchmarks.cli.app import RunFolder, app, console, print_table
from benchmarks.run.progress import PROGRESS

if TYPE_CHECKING:
    from benchmarks.store.locations import Location


@app.command()
def report(folder: RunFolder) -> None:
    """Write tables, figures and page again, from the stored scores alone."""
    from benchmarks.store.locations import open_location

    write_page(open_location(folder))


@app.command()
def compare(
    first: RunFolder,
    second: RunFolder,
    output: Annotated[Path | None, typer.Option(help="CSV file to which the table is written, too.")] = None,
) -> None:
    """Print paired differences of two runs, second minus first, on the images that both explained."""
    from benchmarks.statistics.comparison import compare, only_in_one
    from benchmarks.store.atomic import write_atomically
    from benchmarks.store.run_folder import read_run

    runs = read_run(first), read_run(second)
    table = compare(*runs)
    for line in only_in_one(*runs):
        console.print(line, soft_wrap=True)
    columns = ("explainer", "metric", "first", "second", "difference, 95 %", "images", "second is")
    for model, differences in table.groupby("model", sort=False, observed=True):
        rows = [_comparison_row(row) for row in differences.itertuples()]
        print_table(columns, rows, title=f"Model {model}: second run minus first")
    if output is not None:
        console.print(f"[bold]{write_atomically(output, table.to_csv(index=False))}[/]", soft_wrap=True)


@app.command()
def merge(
    runs: Annotated[list[str], typer.Argument(metavar="RUN...", help="Folders of runs.")],
    into: Annotated[str, typer.Option(help="Folder of the merged run; must not hold one yet.")],
) -> None:
    """Merge runs that differ only in seeds, explainers or metrics."""
    from benchmarks.store.locations import open_location
    from benchmarks.store.merging import merge

    cells = merge([open_location(run) for run in runs], open_location(into))
    console.print(f"{cells} cells of {len(runs)} runs")
    write_page(open_location(into))


@app.command()
def pack(folder: RunFolder) -> None:
    """Pack the cells of a finished run into one Parquet file, cells.parquet."""
    from benchmarks.store.locations import open_location
    from benchmarks.store.packing import pack

    console.print(f"{pack(open_location(folder))} cells in {folder}/cells.parquet", soft_wrap=True)


@app.command()
def unpack(folder: RunFolder) -> None:
    """Write the cells of a packed run to one file each again."""
    from benchmarks.store.locations import open_location
    from benchmarks.store.packing import unpack

    console.print(f"{unpack(open_location(folder))} cells in {folder}/cells", soft_wrap=True)


@app.command()
def export(
    folder: RunFolder,
    output: Annotated[Path, typer.Option(help="Folder for the tables.")],
    table_format: Annotated[str, typer.Option("--format", help="csv or latex.")] = "csv",
) -> None:
    """Write one CSV file, or one LaTeX tabular, for every table of a run."""
    from benchmarks.report.export import ENDINGS, export
    from benchmarks.store.run_folder import read_run
    from interp_core.errors import UnknownNameError

    if table_format not in ENDINGS:
        raise UnknownNameError("format", table_format, ENDINGS)
    for path in export(read_run(folder), output, table_format):  # type: ignore[arg-type]
        console.print(str(path), soft_wrap=True, highlight=False)


def write_page(folder: Location) -> None:
    """Write tables, figures and page into a run's folder, and print the mean ranks."""
    from benchmarks.report import analyse, write_report
    from benchmarks.statistics import Resampling
    from benchmarks.store.locations import write_file
    from benchmarks.store.run_folder import read_run

    data = read_run(folder)
    logging.getLogger(PROGRESS).info("Writing tables, figures and page")
    if isinstance(folder, Path):
        page: Any = write_report(data, folder)[-1]
    else:
        with tempfile.TemporaryDirectory() as local:
            for path in write_report(data, Path(local)):
                page = folder / path.relative_to(local).as_posix()
                write_file(page, path.read_bytes())
    titles = {info.name: info.title for info in data.explainers.values()}
    for model, ranks in analyse(data, Resampling(resamples=2)).ranks.groupby("model", sort=False, observed=True):
        rows = [_rank_row(row, titles) for row in ranks.itertuples()]
        print_table(("explainer", "mean rank", "metrics"), rows, title=f"Model {model}: mean rank, 1 is best")
    console.print(f"[bold]{page}[/]  (page; tables/ and figures/ are beside it)", soft_wrap=True)


def _rank_row(row: Any, titles: dict[str, str]) -> tuple[str, ...]:
    return titles.get(row.explainer, row.explainer), f"{row.mean_rank:.2f}", str(row.metrics)


def _comparison_row(row: Any) -> tuple[str, ...]:
    interval = f" [{row.ci_low:+.3f}, {row.ci_high:+.3f}]" if row.n > 1 else ""
    difference = escape(f"{row.difference:+.3f}{interval}")
    return row.explainer, row.metric, f"{row.first:.3f}", f"{row.second:.3f}", difference, str(row.n), row.verdict
