"""The command `interp-bench`.

Exit codes: 0 all went well, 1 cells failed or a check did not hold, 2 an error the user can mend (told in one line),
130 stopped by hand.
"""

from __future__ import annotations

import sys
from collections.abc import Sequence

import typer

from benchmarks.cli import datasets, inspect, run, runs  # noqa: F401 - imported to be registered
from benchmarks.cli.app import STOPPED, app, console, errors, told
from benchmarks.run.malloc import keep_freed_memory
from interp_core.errors import InterpError

__all__ = ["app", "console", "errors", "main"]


def main(arguments: Sequence[str] | None = None) -> None:
    """Entry point; exits with the codes above."""
    keep_freed_memory()
    try:
        code = app(args=list(sys.argv[1:] if arguments is None else arguments), standalone_mode=False)
    except InterpError as error:
        raise SystemExit(told(str(error))) from error
    except (KeyboardInterrupt, typer.Abort):
        code = STOPPED
    except Exception as error:
        if not hasattr(error, "format_message"):  # what typer raises for words it does not know
            raise
        raise SystemExit(told(f"{error.format_message()}; see interp-bench --help")) from error
    if code == STOPPED:
        errors.print("stopped; the same command goes on where this one was")
    if code:
        raise SystemExit(code)
