"""Describe in run.json what went wrong, without the paths of this machine."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path

from benchmarks.store.record import Problem
from interp_core.errors import one_line

# Unreadable images named in one line; run.json lists them all.
MAX_NAMES_SHOWN = 10


def describe_failure(where: str, error: Exception, cell: str) -> Problem:
    """Describe a failed cell.

    Args:
        where: what failed, such as "lap, lime".
        error: the exception that ended it.
        cell: its key.
    """
    return Problem(where=where, what=one_line(error, with_type=True), traceback=format_traceback(error), cell=cell)


def format_traceback(error: Exception) -> str:
    """Return the traceback with paths relative to the folders in which Python looks for modules."""
    text = "".join(traceback.format_exception(error))
    roots = {str(Path(root or ".").resolve()) for root in sys.path}
    for root in sorted(roots - {"/"}, key=len, reverse=True):
        text = text.replace(f'File "{root}/', 'File "')
    return text


def unreadable_problem(split: str, reasons: Mapping[str, str]) -> Problem:
    """Describe the images of a split that could not be read.

    Args:
        split: "train", "val" or "test".
        reasons: by image id.

    Returns:
        A problem with their number, and some of them by name.
    """
    examples = [
        f"{name} ({' '.join(reason.split())[:80]})" for name, reason in islice(reasons.items(), MAX_NAMES_SHOWN)
    ]
    remainder = [f"and {len(reasons) - MAX_NAMES_SHOWN} more"] if len(reasons) > MAX_NAMES_SHOWN else []
    images = "1 image" if len(reasons) == 1 else f"{len(reasons)} images"
    message = f"{images} could not be read and had to be left out: {'; '.join(examples + remainder)}"
    return Problem(where=f"data set, {split} images", what=message)


def annotation_problem(findings: Mapping[str, int]) -> Problem:
    """Describe the defects of a data set's annotations, counted by kind."""
    counts = ", ".join(f"{kind}: {count}" for kind, count in sorted(findings.items()))
    return Problem(where="data set, annotations", what=f"{counts}; interp-bench data check lists them")


def merge_equal_problems(problems: Iterable[Problem]) -> list[Problem]:
    """Merge problems that read alike, and count their cells; the first one's key and traceback are kept."""
    merged: dict[tuple[str, str], Problem] = {}
    for problem in problems:
        first = merged.setdefault((problem.where, problem.what), problem.model_copy())
        if problem.cell is not None:
            first.cells += 1
    return list(merged.values())
