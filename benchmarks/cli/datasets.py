"""Commands on data: list, check, unpack."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.markup import escape

from benchmarks.cli.app import FAILED, Sets, app, console, errors, show, warn
from interp_core.errors import InterpError

if TYPE_CHECKING:
    from benchmarks.checks.dataset import Report

SHOWN = 12

data = typer.Typer(
    help="Data sets: which there are, and whether one's files are as they should be.", no_args_is_help=True
)
app.add_typer(data, name="data")


@data.command(name="list")
def list_data() -> None:
    """Data sets and how they are called where they are offered."""
    from interp_core.datasets import FileDataset, datasets

    rows = [
        (name, kind.title, "--root DIR" if issubclass(kind, FileDataset) else "made here", _first_line(kind))
        for name, kind in datasets.items()
    ]
    show(("name", "title", "files", "what"), rows)


@data.command()
def check(
    name: Annotated[str, typer.Argument(metavar="NAME", help="Data set, such as imagenet; see data list.")],
    root: Annotated[Path, typer.Option(help="Folder that holds it, as downloaded and unpacked.")],
    sample: Annotated[int, typer.Option(min=0, help="How many images are decoded whole.")] = 200,
    everything: Annotated[bool, typer.Option("--all", help="Decode every image.")] = False,
    html: Annotated[Path | None, typer.Option(help="Also write a page with all of it.")] = None,
    sheet: Annotated[Path | None, typer.Option(help="PNG file for ten images with their evidence.")] = None,
    set: Sets = None,
) -> None:
    """Look at all files of a data set: layout, counts, what is unreadable or out of place, ten pictures."""
    from benchmarks.checks.dataset import check as checked
    from benchmarks.checks.dataset import without_identifiers
    from benchmarks.checks.dataset_page import sheet as drawn
    from benchmarks.checks.dataset_page import write

    dataset = _dataset(name, root, set or [])
    with console.status("Reading tables") as status:

        def begin(total: int) -> None:
            status.update(f"Reading the headers of {total} images")

        report = checked(dataset, None if everything else sample, begin=begin)
        status.update("Drawing pictures")
        pictures = drawn(dataset)
    _tell(report)
    to = sheet or (Path(f"data-check-{report.name}.png") if html is None else None)
    for path in write(without_identifiers(report, dataset), pictures, html, to):
        console.print(f"[bold]{escape(str(path))}[/]", soft_wrap=True, highlight=False)
    if report.unreadable or not sum(report.images.values()):
        raise typer.Exit(FAILED)


@data.command()
def unpack(
    archive: Annotated[Path, typer.Argument(metavar="ARCHIVE", help="Zip or tar file.")],
    into: Annotated[Path, typer.Option(help="Folder for what is in it.")],
) -> None:
    """Unpack an archive, unless it would write outside the folder, make links or fill the disk."""
    from interp_core.datasets.files.archives import unpack as unpacked

    console.print(f"{len(unpacked(archive, into))} files in {escape(str(into))}", soft_wrap=True, highlight=False)


def _dataset(name: str, root: Path, sets: list[str]) -> Any:
    """The data set with its parameters.

    Raises:
        InterpError: no such data set, or it has no files.
    """
    from benchmarks.config.choice import Named
    from benchmarks.config.overrides import parsed
    from interp_core.datasets import FileDataset, datasets

    if not issubclass(datasets[name], FileDataset):
        raise InterpError(f"{name} is made here and has no files to check; see interp-bench data list")
    fields = {key.removeprefix("dataset."): value for key, value in map(parsed, sets)}
    return Named(name=name, **{**fields, "root": root}).build(datasets)


def _tell(report: Report) -> None:
    """The report on the console; what is wrong goes to the error stream."""
    console.print(f"[bold]{escape(report.title)}[/] in {escape(str(report.root))}", soft_wrap=True, highlight=False)
    for line in report.layout:
        console.print(f"  {escape(line)}", soft_wrap=True, highlight=False)
    rows = [(split, str(n), str(report.with_evidence[split])) for split, n in report.images.items()]
    show(("split", "images", "with box or mask"), rows)
    show(("class", *report.counts), _class_rows(report))
    common, different = report.sizes
    sizes = ", ".join(f"{w} x {h} ({n})" for (w, h), n in common)
    console.print(f"{escape(report.balance())}; {different} sizes: {sizes}", soft_wrap=True, highlight=False)
    opened, decoded = report.opened
    console.print(
        f"{opened} headers read, {decoded} images decoded, {report.unreadable} unreadable, {report.seconds:.1f} s",
        highlight=False,
    )
    for kind, count, first in report.kinds():
        more = f" (and {count - 1} more)" if count > 1 else ""
        warn(escape(kind), f"{first.where}: {' '.join(first.what.split())}{more}")
    if not report.findings:
        errors.print("nothing is wrong", highlight=False)


def _class_rows(report: Report) -> list[tuple[str, ...]]:
    """The classes with most images; the others are counted."""
    total = {i: sum(counts[i] for counts in report.counts.values()) for i in range(len(report.classes))}
    first = sorted(total, key=lambda i: (-total[i], i))[:SHOWN]
    rows = [(escape(report.classes[i]), *(str(counts[i]) for counts in report.counts.values())) for i in first]
    rest = len(total) - len(first)
    return [*rows, (f"... {rest} more", *("" for _ in report.counts))] if rest > 0 else rows


def _first_line(kind: type) -> str:
    return (kind.__doc__ or "").strip().partition("\n")[0].partition(";")[0].rstrip(".")
