"""Cells that failed, in words: where, what, and the traceback without the places of this machine."""

from __future__ import annotations

import sys
import traceback
from collections.abc import Iterable, Mapping
from itertools import islice
from pathlib import Path
from typing import Any

from interp_core.errors import one_line

Problem = dict[str, Any]
# Unreadable images told by name in one line; run.json has them all.
NAMED = 10


def describe_failure(where: str, error: Exception, cell: str) -> Problem:
    """What run.json says of a failed cell."""
    return {"where": where, "what": one_line(error, with_type=True), "traceback": format_traceback(error), "cell": cell}


def format_traceback(error: Exception) -> str:
    """The traceback, paths from where Python looks for modules."""
    text = "".join(traceback.format_exception(error))
    roots = {str(Path(root or ".").resolve()) for root in sys.path}
    for root in sorted(roots - {"/"}, key=len, reverse=True):
        text = text.replace(f'File "{root}/', 'File "')
    return text


def unreadable_problem(split: str, reasons: Mapping[str, str]) -> Problem:
    """What run.json says of images that could not be read: how many, and some by name with the reason."""
    named = [f"{name} ({' '.join(reason.split())[:80]})" for name, reason in islice(reasons.items(), NAMED)]
    more = [f"and {len(reasons) - NAMED} more"] if len(reasons) > NAMED else []
    images = "1 image" if len(reasons) == 1 else f"{len(reasons)} images"
    what = f"{images} could not be read and had to be left out: {'; '.join(named + more)}"
    return {"where": f"data set, {split} images", "what": what}


def merge_equal_problems(problems: Iterable[Problem]) -> list[Problem]:
    """One entry for what went wrong alike in several cells, with their number; the first one's cell and traceback."""
    found: dict[tuple[str, str], Problem] = {}
    for entry in problems:
        same = found.setdefault((entry["where"], entry["what"]), {**entry})
        if "cell" in entry:
            same["cells"] = same.get("cells", 0) + 1
    return list(found.values())
