"""Commands on data sets: list, check, unpack."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.markup import escape

from benchmarks.cli.app import FAILED, app, console, error_console, print_table, print_warning
from interp_core.errors import InterpError

if TYPE_CHECKING:
    from benchmarks.checks.dataset import DatasetReport
    from interp_core.datasets import FileDataset

MAX_CLASSES_SHOWN = 12

data = typer.Typer(help="List data sets, and check the files of one.", no_args_is_help=True)
app.add_typer(data, name="data")


@data.command(name="list")
def list_datasets() -> None:
    """List data sets with their titles."""
    from interp_core.datasets import FileDataset, datasets

    rows = [
        (name, cls.title, "--root DIR" if issubclass(cls, FileDataset) else "generated", _summary(cls))
        for name, cls in datasets.items()
    ]
    print_table(("name", "title", "files", "what"), rows)


@data.command()
def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Data set, such as imagenet; see data list.")],
    root: Annotated[Path, typer.Option(help="Folder that holds it, as downloaded and unpacked.")],
    sample: Annotated[int, typer.Option(min=0, help="Number of images that are decoded.")] = 200,
    decode_all: Annotated[bool, typer.Option("--all", help="Decode every image.")] = False,
    html: Annotated[Path | None, typer.Option(help="HTML file for the report with its pictures.")] = None,
    output: Annotated[
        Path | None, typer.Option("--output", "--sheet", help="PNG file for ten images with their evidence.")
    ] = None,
    parameters: Annotated[
        list[str] | None,
        typer.Option("--set", help="Parameter of the data set, such as image_size=128; repeatable.", metavar="KEY=V"),
    ] = None,
) -> None:
    """Check all files of a data set: layout, counts, unreadable files, boxes and masks that do not fit."""
    from benchmarks.checks.dataset import check, without_identifiers
    from benchmarks.checks.dataset_page import draw_sheet, write

    dataset = _build(name, root, parameters or [])
    with console.status("Reading tables") as status:
        report = check(
            dataset,
            None if decode_all else sample,
            begin=lambda total: status.update(f"Reading the headers of {total} images"),
        )
        status.update("Drawing pictures")
        pictures = draw_sheet(_without_workers(dataset)) if html or output else None
    _print_report(report)
    for path in write(without_identifiers(report, dataset), pictures, html, output):
        console.print(f"[bold]{escape(str(path))}[/]", soft_wrap=True, highlight=False)
    if report.unreadable or not sum(report.images.values()):
        raise typer.Exit(FAILED)


@data.command()
def unpack(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="Zip or tar file.")],
    into: Annotated[Path, typer.Option(help="Folder for the files.")],
) -> None:
    """Unpack an archive, unless it would write outside the folder, make links or fill the disk."""
    from interp_core.datasets.files.archives import unpack

    console.print(f"{len(unpack(archive, into))} files in {escape(str(into))}", soft_wrap=True, highlight=False)


def _build(name: str, root: Path, assignments: list[str]) -> FileDataset:
    """Build a data set of files from its name, its folder and further parameters.

    Raises:
        InterpError: no such data set, a wrong parameter, or a data set without files.
    """
    from benchmarks.config.choice import DatasetChoice
    from benchmarks.config.load import parse
    from benchmarks.config.overrides import parse_assignment
    from interp_core.datasets import FileDataset, datasets

    if not issubclass(datasets[name], FileDataset):
        raise InterpError(f"{name} is generated and has no files to check; see interp-bench data list")
    parameters = {key.removeprefix("dataset."): value for key, value in map(parse_assignment, assignments)}
    choice = parse(DatasetChoice, {**parameters, "name": name, "root": root}, "data set")
    return choice.build()


def _without_workers(dataset: FileDataset) -> FileDataset:
    """Return a data set that reads in this process: workers for ten pictures would outlive the command."""
    copy = dataset.model_copy(update={"workers": 0})
    copy.__dict__["checked_index"] = dataset.checked_index
    return copy


def _print_report(report: DatasetReport) -> None:
    """Print counts on standard output and findings on standard error."""
    console.print(f"[bold]{escape(report.title)}[/] in {escape(str(report.root))}", soft_wrap=True, highlight=False)
    for line in report.layout:
        console.print(f"  {escape(line)}", soft_wrap=True, highlight=False)
    rows = [(split, str(count), str(report.with_evidence[split])) for split, count in report.images.items()]
    print_table(("split", "images", "with box or mask"), rows)
    print_table(("class", *report.counts), _class_rows(report))
    sizes = ", ".join(f"{width} x {height} ({count})" for (width, height), count in report.common_sizes)
    console.print(f"{escape(report.balance())}; {report.size_count} sizes: {sizes}", soft_wrap=True, highlight=False)
    console.print(
        f"{report.headers} headers read, {report.decoded} images decoded, {report.unreadable} unreadable, "
        f"{report.seconds:.1f} s",
        highlight=False,
    )
    console.print(report.evidence.describe(), soft_wrap=True, highlight=False)
    for kind, count, first in report.findings_by_kind():
        more = f" (and {count - 1} more)" if count > 1 else ""
        print_warning(escape(kind), f"{first.where}: {' '.join(first.what.split())}{more}")
    if not report.findings and report.evidence.is_believable():
        error_console.print("no problems found", highlight=False)
    elif not report.findings:
        error_console.print("no problems found, but no evidence was decoded: see --sample", highlight=False)


def _class_rows(report: DatasetReport) -> list[tuple[str, ...]]:
    """Return a row for each of the largest classes, and one that counts the others."""
    totals = {i: sum(counts[i] for counts in report.counts.values()) for i in range(len(report.classes))}
    largest = sorted(totals, key=lambda i: (-totals[i], i))[:MAX_CLASSES_SHOWN]
    rows = [(escape(report.classes[i]), *(str(counts[i]) for counts in report.counts.values())) for i in largest]
    omitted = len(totals) - len(largest)
    return [*rows, (f"... {omitted} more", *("" for _ in report.counts))] if omitted > 0 else rows


def _summary(cls: type) -> str:
    """Return the first line of a class docstring, up to its first semicolon."""
    return (cls.__doc__ or "").strip().partition("\n")[0].partition(";")[0].rstrip(".")
