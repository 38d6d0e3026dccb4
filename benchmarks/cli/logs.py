"""How much every command says, and where: `--quiet`, `--verbose` and `--log-file`, over standard `logging`.

Results and errors are printed on the consoles of `benchmarks.cli.app`. Progress goes to the logger PROGRESS: its lines
appear on standard error where no terminal shows bars. Progress, warnings and errors all go to the log file.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks.run.progress import PROGRESS
from interp_core.errors import StoreError

ROOT = PROGRESS.rpartition(".")[0]
FLAGS, VALUED = ("--quiet", "--verbose"), "--log-file"
LINE_FORMAT, TIME_FORMAT = "%(asctime)s %(message)s", "%H:%M:%S"
FILE_FORMAT = "%(asctime)s %(levelname)-7s %(message)s"


class StandardErrorHandler(logging.Handler):
    """Handler that prints on what is standard error at the time of the line."""

    def emit(self, record: logging.LogRecord) -> None:
        """See `logging.Handler`."""
        print(self.format(record), file=sys.stderr, flush=True)


def move_to_front(arguments: Sequence[str]) -> list[str]:
    """Return command-line words with the options of this module first, so that they may stand anywhere."""
    front: list[str] = []
    remainder: list[str] = []
    words = iter(arguments)
    for word in words:
        if word in FLAGS or word.startswith(f"{VALUED}="):
            front.append(word)
        elif word == VALUED:
            front += [word, *[value for value in [next(words, None)] if value is not None]]
        else:
            remainder.append(word)
    return front + remainder


def configure_logging(*, quiet: bool, verbose: bool, log_file: Path | None, terminal: bool) -> None:
    """Set the loggers of the command up, in place of those of an earlier command of this process.

    Args:
        quiet: whether only errors and warnings are shown.
        verbose: whether every step is logged, and not only every tenth.
        log_file: file to which all lines are added.
        terminal: whether bars are shown, so that lines of progress are not needed.

    Raises:
        StoreError: the log file cannot be written.
    """
    root, progress = logging.getLogger(ROOT), logging.getLogger(PROGRESS)
    for logger in (root, progress):
        for handler in list(logger.handlers):
            logger.removeHandler(handler)
            handler.close()
    root.setLevel(logging.DEBUG if verbose else logging.INFO)
    root.propagate = False
    root.addHandler(logging.NullHandler())
    if not quiet and (verbose or not terminal):
        progress.addHandler(_with_format(StandardErrorHandler(), LINE_FORMAT, TIME_FORMAT))
    if log_file is not None:
        root.addHandler(_with_format(_open_file(log_file), FILE_FORMAT, None))


def _open_file(path: Path) -> logging.Handler:
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        return logging.FileHandler(path, encoding="utf-8")
    except OSError as error:
        raise StoreError(f"cannot write {path}: {error.strerror or error}; choose another --log-file") from error


def _with_format(handler: logging.Handler, line: str, time: str | None) -> logging.Handler:
    handler.setFormatter(logging.Formatter(line, time))
    return handler


def log_message(level: int, message: str) -> None:
    """Add a line to the log file, if there is one. What a console has printed already goes there only."""
    logging.getLogger(ROOT).log(level, message)
