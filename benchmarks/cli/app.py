"""What all commands share: the application, the consoles, options, and how errors are told."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

FAILED, MENDABLE, STOPPED = 1, 2, 130

app = typer.Typer(
    help="Explanations of image classifiers, compared head-to-head.", no_args_is_help=True, add_completion=False
)
console = Console()
errors = Console(stderr=True, soft_wrap=True)

RunFolder = Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run, such as results/digits, or its URL.")]
Sets = Annotated[
    list[str] | None,
    typer.Option("--set", help="One value of the configuration, such as recipe.epochs=3; repeatable.", metavar="KEY=V"),
]


def told(message: str) -> int:
    """Print an error the user can mend; the exit code."""
    errors.print("[red]error:[/] " + escape(" ".join(message.split())), highlight=False)
    return MENDABLE


def warn(label: str, message: str) -> None:
    """One line about something that is wrong and stops nothing."""
    errors.print(f"[yellow]{label}[/] " + escape(message), highlight=False)


def show(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """Print a table."""
    headers = [Column(name, overflow="fold") for name in columns]
    table = Table(*headers, box=None, header_style="bold", title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table)
