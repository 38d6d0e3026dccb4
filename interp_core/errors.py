"""Errors that a user can act on. Each message says in one line what is wrong, where, and what to do."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches

MAX_NAMES_LISTED = 20


class InterpError(Exception):
    """Base of all errors that the caller can fix.

    The command line prints the message in one line and exits with status 2.
    """


class UnknownNameError(InterpError):
    """A name that is not in a registry.

    Args:
        kind: kind of entry, such as "explainer".
        name: the unknown name.
        known: all names of the registry.
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        close = get_close_matches(name, names, n=3, cutoff=0.5)
        if close:
            hint = f"did you mean {' or '.join(close)}?"
        else:
            count = f", ... ({len(names)} in all)" if len(names) > MAX_NAMES_LISTED else ""
            hint = f"known: {', '.join(names[:MAX_NAMES_LISTED])}{count}"
        super().__init__(f"unknown {kind} {name!r}: {hint}")


class BackboneError(InterpError):
    """A network that LAP cannot be attached to, or one that breaks its protocol."""


class ContractError(InterpError):
    """An argument or a return value that a contract does not allow."""


class DivergenceError(InterpError):
    """A training whose loss is not finite or grows without bound."""


class FailedRunError(InterpError):
    """A run in which everything failed though its settings are right. The command exits with 1."""


class StoreError(InterpError):
    """A folder or file that cannot be written or read."""


def one_line(error: BaseException, limit: int = 300, *, with_type: bool = False) -> str:
    """Return the text of an error in one line, or the name of its type if it has no text.

    Args:
        error: any exception. Its text may come from a file: letters that cannot be printed become "?".
        limit: maximum number of letters; a longer text ends in "...".
        with_type: whether to put the name of its type in front, as in "ValueError: text".
    """
    kind = type(error).__name__
    text = "".join(letter if letter.isprintable() else "?" for letter in " ".join(str(error).split()))
    line = f"{kind}: {text}" if with_type and text else text or kind
    return line if len(line) <= limit else line[: limit - 3] + "..."
