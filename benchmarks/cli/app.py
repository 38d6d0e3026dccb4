"""Shared parts of all commands: application, consoles, options, printing."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Annotated

import typer
from rich.console import Console
from rich.markup import escape
from rich.table import Column, Table

from benchmarks.cli.logs import configure_logging, log_message

FAILED, USER_ERROR, STOPPED = 1, 2, 130
COLOURS = {
    "FAIL": "red", "WARN": "yellow", "PASS": "green", "NOT RUN": "dim", "cause": "red", "bystander": "green",
    "better": "green", "worse": "red",
}  # fmt: skip

app = typer.Typer(
    no_args_is_help=True,
    add_completion=False,
    epilog="--quiet, --verbose and --log-file may also stand behind the command.",
)
console = Console()
error_console = Console(stderr=True, soft_wrap=True)

RunFolder = Annotated[str, typer.Argument(metavar="RUN", help="Folder of a run, such as results/digits, or its URL.")]
Assignments = Annotated[
    list[str] | None,
    typer.Option("--set", help="One value of the configuration, such as recipe.epochs=3; repeatable.", metavar="KEY=V"),
]


@app.callback()
def set_speech(
    quiet: Annotated[bool, typer.Option("--quiet", help="Print errors and warnings only.")] = False,
    verbose: Annotated[bool, typer.Option("--verbose", help="Log every step.")] = False,
    log_file: Annotated[Path | None, typer.Option(help="File to which progress and problems are added.")] = None,
) -> None:
    """Compare explanations of image classifiers head-to-head."""
    console.quiet = quiet
    configure_logging(quiet=quiet, verbose=verbose, log_file=log_file, terminal=console.is_terminal)


def print_error(message: str) -> int:
    """Print an error that the user can fix, in one line, and return the exit code."""
    error_console.print("[red]error:[/] " + escape(" ".join(message.split())), highlight=False)
    log_message(logging.ERROR, message)
    return USER_ERROR


def print_warning(label: str, message: str) -> None:
    """Print one line about a problem that stops nothing."""
    error_console.print(f"[yellow]{label}[/] " + escape(message), highlight=False)
    log_message(logging.WARNING, f"{label} {message}")


def print_table(columns: Sequence[str], rows: Iterable[Sequence[str]], title: str | None = None) -> None:
    """Print a table without lines, long cells folded."""
    headers = [Column(name, overflow="fold") for name in columns]
    table = Table(*headers, box=None, header_style="bold", title=title, title_justify="left")
    for row in rows:
        table.add_row(*row)
    console.print(table)


def colour_word(word: str) -> str:
    """Return a status or verdict as console text in its colour."""
    colour = COLOURS.get(word)
    return f"[{colour}]{word}[/]" if colour else word
