"""The command `interp-bench`.

Exit codes: 0 for success, 1 where cells failed or a check did not hold, 2 for an error that the user can fix, reported
in one line, and 130 where the user stopped the command.

Modules of this package import libraries inside their functions, so that `interp-bench --help` takes a fraction of a
second.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from benchmarks.cli import (  # noqa: F401 - registers commands
    amend,
    datasets,
    diagnose,
    explain,
    fit,
    inspect,
    run,
    runs,
    study,
    verify,
)
from benchmarks.cli.app import FAILED, STOPPED, app, console, error_console, print_error
from benchmarks.cli.logs import move_to_front
from benchmarks.run.malloc import keep_freed_memory
from interp_core.errors import FailedRunError, InterpError

__all__ = ["app", "console", "error_console", "main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Run the command and exit with the codes above."""
    keep_freed_memory()
    try:
        code = app(args=move_to_front(sys.argv[1:] if arguments is None else arguments), standalone_mode=False)
    except InterpError as error:
        code = print_error(str(error))
        raise SystemExit(FAILED if isinstance(error, FailedRunError) else code) from error
    except (KeyboardInterrupt, typer.Abort):
        code = STOPPED
    except Exception as error:
        if not hasattr(error, "format_message"):  # typer's errors about unknown commands and options have it
            raise
        raise SystemExit(print_error(f"{error.format_message()}; see interp-bench --help")) from error
    if code == STOPPED:
        error_console.print("stopped; run the same command again to continue")
    if code:
        raise SystemExit(code)
