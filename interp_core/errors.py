"""Errors that a user can act on: what is wrong, where, and what to do, in one line."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

MOST_LISTED = 20


class InterpError(Exception):
    """Base of all errors that are the caller's to mend; the command line prints them in one line and exits with 2."""


class UnknownNameError(InterpError):
    """A name that no registry entry has."""

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        known = sorted(known)
        close = get_close_matches(name, known, n=3, cutoff=0.5)
        some = ", ".join(known[:MOST_LISTED]) + (f", ... ({len(known)} in all)" if len(known) > MOST_LISTED else "")
        hint = f"did you mean {' or '.join(close)}?" if close else f"known: {some}"
        super().__init__(f"unknown {kind} {name!r}: {hint}")


class BackboneError(InterpError):
    """The network given is not one LAP can be attached to, or its protocol is broken."""


class ContractError(InterpError):
    """An explainer, metric or data set returned something its contract does not allow."""


class StoreError(InterpError):
    """A run folder cannot be written, or a file in it cannot be read."""
