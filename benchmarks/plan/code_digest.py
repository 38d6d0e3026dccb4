"""Hash the code that a cell's numbers depend on.

A digest covers a few root modules and every module of this project that they import, directly or through others.
Comments, docstrings, blank lines and formatting do not count: the syntax tree is hashed. A name imported from a package
counts as the module that defines it, so that a new explainer, metric, term or data set in that package changes nothing
for the others.

Known limit: modules that are found by their names at run time, such as plugins of plugins, are not followed.
"""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import inspect
import sys
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path
from types import FunctionType

ROOT = Path(__file__).parents[2]
PACKAGES = ("interp_core", "baselines", "benchmarks")
# Messages, pictures and files: no score depends on them.
WITHOUT_NUMBERS = (
    "interp_core.errors",
    "interp_core.pictures",
    "interp_core.deploy",
    "interp_core.lap.checkpoint",
    "interp_core.lap.hub",
    "interp_core.lap.saved_files",
)


def code_digest(modules: Iterable[str]) -> str:
    """Return the hash of the code of modules; see `dependencies` for what they import."""
    content = hashlib.sha256()
    for name in sorted(set(modules)):
        content.update(f"{name} {module_digest(name)}\n".encode())
    return content.hexdigest()[:16]


def class_digest(cls: type, without: tuple[str, ...] = ()) -> str:
    """Return the hash of the code a class depends on; of a class without a source file, of its methods alone.

    Args:
        cls: an explainer, a metric, or any class; those typed into a notebook have no file.
        without: see `dependencies`.
    """
    if _source(cls.__module__) is not None:
        return code_digest(dependencies((cls.__module__,), without))
    bases = [base for base in cls.__mro__ if base.__module__ == cls.__module__]
    functions = [member for base in bases for member in vars(base).values() if inspect.isfunction(member)]
    content = hashlib.sha256("\n".join(map(_function_text, functions)).encode()).hexdigest()[:16]
    parents = {base.__module__ for base in cls.__mro__ if base.__module__.partition(".")[0] in PACKAGES}
    return f"{content}-{code_digest(dependencies(tuple(sorted(parents)), without))}"


def _function_text(function: FunctionType) -> str:
    """Return the source of a function, or its bytecode where that is all there is."""
    try:
        return inspect.getsource(function)
    except (OSError, TypeError):
        code = function.__code__
        return f"{function.__qualname__} {code.co_code.hex()} {code.co_names} {code.co_consts}"


@cache
def dependencies(roots: tuple[str, ...], without: tuple[str, ...] = ()) -> frozenset[str]:
    """Return the root modules and the project's modules that they import, directly or through others.

    Args:
        roots: dotted names; modules of other packages follow imports within their own package, too.
        without: modules and packages that are neither followed nor returned.
    """
    skipped = (*WITHOUT_NUMBERS, *without)
    modules: set[str] = set()
    pending = list(roots)
    while pending:
        name = pending.pop()
        if name in modules or _is_within(name, skipped):
            continue
        modules.add(name)
        pending += _imports(name)
    return frozenset(modules)


@cache
def module_digest(name: str) -> str:
    """Return the hash of one module's syntax tree without docstrings; of its name if it has no source.

    Raises:
        ModuleNotFoundError: there is no such module.
    """
    path = _source(name)
    if path is None and importlib.util.find_spec(name) is None:
        raise ModuleNotFoundError(f"no module {name}, whose code is part of a key", name=name)
    text = name if path is None else _structure(_parse(path))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _structure(node: object) -> str:
    """Write a syntax tree as text that is equal in all versions of Python: empty fields are left out."""
    if isinstance(node, ast.AST):
        fields = ((name, value) for name, value in ast.iter_fields(node) if value is not None and value != [])
        return f"{type(node).__name__}({','.join(f'{name}={_structure(value)}' for name, value in fields)})"
    if isinstance(node, list):
        return f"[{','.join(_structure(item) for item in node if not _is_docstring(item))}]"
    return repr(node)


def _is_docstring(node: object) -> bool:
    """Return whether a statement is a bare string, which has no effect."""
    return isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant) and isinstance(node.value.value, str)


@cache
def _imports(name: str) -> tuple[str, ...]:
    """Return the modules of this project, or of its own package, that a module imports.

    Imports for type checkers do not count.
    """
    path = _source(name)
    if path is None:
        return ()
    packages = {*PACKAGES, name.partition(".")[0]}
    modules: list[str] = []
    for node in _walk_executed(_parse(path)):
        if isinstance(node, ast.Import):
            modules += [alias.name for alias in node.names if alias.name.partition(".")[0] in packages]
        elif isinstance(node, ast.ImportFrom):
            base = _absolute(node, name, path)
            if base.partition(".")[0] in packages:
                modules += [module for alias in node.names if (module := _definition(base, alias.name)) is not None]
    return tuple(dict.fromkeys(modules))


def _walk_executed(node: ast.AST) -> Iterator[ast.AST]:
    """Yield all nodes of a tree but the bodies of `if TYPE_CHECKING`."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            continue
        yield child
        yield from _walk_executed(child)


def _absolute(node: ast.ImportFrom, name: str, path: Path) -> str:
    """Return the absolute name of the module that a `from` import reads."""
    if not node.level:
        return node.module or ""
    parents = name.split(".") if path.name == "__init__.py" else name.split(".")[:-1]
    package = parents[: len(parents) - node.level + 1]
    return ".".join([*package, *([node.module] if node.module else [])])


@cache
def _definition(module: str, name: str) -> str | None:
    """Return the module that defines a name which is imported from `module`.

    A package's face is followed to the module it imports the name from; None where the face imports no such name. Faces
    that import lazily list their names under `if TYPE_CHECKING`.
    """
    if _source(f"{module}.{name}") is not None:
        return f"{module}.{name}"
    path = _source(module)
    if path is None or path.name != "__init__.py":
        return module
    for node in ast.walk(_parse(path)):
        if isinstance(node, ast.ImportFrom):
            for alias in node.names:
                if (alias.asname or alias.name) == name:
                    return _definition(_absolute(node, module, path), alias.name)
    return None


@cache
def _parse(path: Path) -> ast.Module:
    return ast.parse(path.read_bytes())


@cache
def _source(name: str) -> Path | None:
    """Return the file of a module; None without Python source."""
    if name.partition(".")[0] in PACKAGES:
        stem = ROOT.joinpath(*name.split("."))
        return next((path for path in (stem.with_suffix(".py"), stem / "__init__.py") if path.is_file()), None)
    if name in sys.modules:  # __main__ has no specification to ask
        origin = getattr(sys.modules[name], "__file__", None)
    else:
        try:
            origin = getattr(importlib.util.find_spec(name), "origin", None)
        except ModuleNotFoundError:  # its parent is a module, not a package
            return None
    return Path(origin) if origin and origin.endswith(".py") and Path(origin).is_file() else None


def _is_within(name: str, packages: Iterable[str]) -> bool:
    return any(name == package or name.startswith(f"{package}.") for package in packages)
