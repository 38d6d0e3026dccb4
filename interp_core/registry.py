"""A registry is a dict and a decorator; tests and the command line walk it.

Third parties add to it by importing it and decorating, or through an entry point whose group is the registry's.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import entry_points
from typing import Generic, TypeVar

from interp_core.errors import ContractError, UnknownNameError

T = TypeVar("T")


def _origin(thing: object) -> object:
    """Module and name of a definition: the same when it is run again, as in a notebook or a reloaded plugin."""
    return (getattr(thing, "__module__", None), name) if (name := getattr(thing, "__qualname__", None)) else thing


class Registry(Mapping[str, T], Generic[T]):
    """Names to things of one kind.

    Args:
        kind: what the things are, for error messages ("explainer").
        group: entry point group from which third-party entries are loaded at first look-up; None for none.
    """

    def __init__(self, kind: str, group: str | None = None) -> None:
        self.kind = kind
        self._group = group
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Decorator that enters a thing under `name`.

        Raises:
            ContractError: another thing already has this name.
        """

        def enter(thing: T) -> T:
            old = self._entries.get(name)
            if old is not None and _origin(old) != _origin(thing):
                raise ContractError(f"two {self.kind}s want the name {name!r}: rename one of them")
            self._entries[name] = thing
            return thing

        return enter

    def _load_entry_points(self) -> None:
        group, self._group = self._group, None
        if group is not None:
            for point in entry_points(group=group):
                point.load()

    def __getitem__(self, name: str) -> T:
        self._load_entry_points()
        if name not in self._entries:
            raise UnknownNameError(self.kind, name, self._entries)
        return self._entries[name]

    def __contains__(self, name: object) -> bool:
        self._load_entry_points()
        return name in self._entries

    def __iter__(self) -> Iterator[str]:
        self._load_entry_points()
        return iter(sorted(self._entries))

    def __len__(self) -> int:
        self._load_entry_points()
        return len(self._entries)
