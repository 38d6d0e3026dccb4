"""Show the progress of a study on standard error."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TypeVar

from rich.console import Console

from benchmarks.run.phase_progress import PhaseProgress

Item = TypeVar("Item")


def track(items: Sequence[Item], description: str) -> Iterable[Item]:
    """Iterate over items and show their number and the time left; without items show nothing."""
    if not items:
        return
    with PhaseProgress(Console(stderr=True)) as progress:
        progress.begin(description, len(items))
        for item in items:
            yield item
            progress.step(description)
