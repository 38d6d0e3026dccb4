"""Who watches a run, and where its seconds went."""

from __future__ import annotations

from typing import Protocol


class Progress(Protocol):
    """What the engine tells whoever watches."""

    def begin(self, what: str, total: int) -> None:
        """A phase of `total` steps starts."""

    def step(self, what: str, steps: int = 1) -> None:
        """So many steps of the phase are done; `what` says how it stands."""


class Silent:
    """Nobody watches."""

    def begin(self, what: str, total: int) -> None:
        """Nothing."""

    def step(self, what: str, steps: int = 1) -> None:
        """Nothing."""
