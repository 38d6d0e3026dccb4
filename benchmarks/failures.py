"""Cells that failed, in words: where, what, and the traceback without the places of this machine."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable
from pathlib import Path
from typing import Any

Problem = dict[str, Any]
LONGEST = 300


def problem(where: str, error: Exception, cell: str) -> Problem:
    """What run.json says of a failed cell."""
    return {"where": where, "what": in_a_line(error), "traceback": trace(error), "cell": cell}


def in_a_line(error: Exception) -> str:
    """Kind and message of an error."""
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:LONGEST]


def trace(error: Exception) -> str:
    """The traceback, paths from where Python looks for modules."""
    text = "".join(traceback.format_exception(error))
    roots = {str(Path(root or ".").resolve()) for root in sys.path}
    for root in sorted(roots - {"/"}, key=len, reverse=True):
        text = text.replace(f'File "{root}/', 'File "')
    return text


def gathered(problems: Iterable[Problem]) -> list[Problem]:
    """One entry for what went wrong alike in several cells, with their number; the first one's cell and traceback."""
    found: dict[tuple[str, str], Problem] = {}
    for entry in problems:
        same = found.setdefault((entry["where"], entry["what"]), {**entry})
        if "cell" in entry:
            same["cells"] = same.get("cells", 0) + 1
    return list(found.values())
