"""Registries: things of one kind by name, filled by decorators, walked by tests and the command line.

Third parties register theirs by importing a registry and decorating, or through an entry point in its group.
"""

from __future__ import annotations

import pkgutil
from collections.abc import Callable, Iterable, Iterator, Mapping
from importlib import import_module
from importlib.metadata import entry_points
from typing import ClassVar, Generic, Protocol, TypeVar

from interp_core.errors import ContractError, UnknownNameError


class Named(Protocol):
    """A class that `ClassRegistry` can name. It may also have a `title`, for tables and figures."""

    name: ClassVar[str]


T = TypeVar("T")
N = TypeVar("N", bound=Named)


def import_modules(path: Iterable[str], package: str, *, recursive: bool = False) -> None:
    """Import all modules of a package, so that their decorators run.

    Call it at the end of the package's `__init__.py`: `import_modules(__path__, __name__)`.

    Args:
        path: folders of the package, its `__path__`.
        package: full name of the package, its `__name__`.
        recursive: whether to walk sub-packages too; else they are imported, but not their modules.
    """
    for module in pkgutil.iter_modules(path):
        imported = import_module(f"{package}.{module.name}")
        if recursive and module.ispkg:
            import_modules(imported.__path__, imported.__name__, recursive=True)


class Registry(Mapping[str, T], Generic[T]):
    """Mapping of names to things of one kind.

    Args:
        kind: what the things are, for error messages ("explainer").
        group: entry point group from which third-party entries are loaded at the first look-up; None for none.
    """

    def __init__(self, kind: str, group: str | None = None) -> None:
        self.kind = kind
        self._group = group
        self._entries: dict[str, T] = {}

    def register(self, name: str) -> Callable[[T], T]:
        """Return a decorator that registers a thing under `name`.

        A definition may be registered again, as happens in a notebook or when a plugin is reloaded.

        Raises:
            ContractError: another thing already has this name.
        """

        def enter(thing: T) -> T:
            present = self._entries.get(name)
            if present is not None and _definition(present) != _definition(thing):
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


class ClassRegistry(Registry[type[N]], Generic[N]):
    """Registry of classes that know the name they are registered under."""

    def register(self, name: str) -> Callable[[type[N]], type[N]]:
        """Return a decorator that registers a class under `name`.

        It sets the class attribute `name`, and `title` to the same text where that is an empty string.

        Raises:
            ContractError: another class already has this name.
        """
        enter = super().register(name)

        def enter_and_name(cls: type[N]) -> type[N]:
            enter(cls)
            for attribute in ("name", "title") if getattr(cls, "title", None) == "" else ("name",):
                setattr(cls, attribute, name)
            return cls

        return enter_and_name


def _definition(thing: object) -> object:
    """Return module and name of a definition, which stay the same when it runs again; a plain value as it is."""
    name = getattr(thing, "__qualname__", None)
    return (getattr(thing, "__module__", None), name) if name else thing
