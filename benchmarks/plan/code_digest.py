"""Hash the code that a cell's numbers depend on."""

from __future__ import annotations

import ast
import hashlib
import importlib
from functools import cache
from pathlib import Path

ROOT = Path(__file__).parents[2]


# Where explainers, metrics and rivals keep what they share.
SHARED = ("baselines.", "benchmarks.metrics.", "benchmarks.rivals.")


@cache
def code_digest(name: str) -> str:
    """Content hash of a package's Python files (not those of its sub-packages), or of one module's file.

    Cells carry it in their keys, so that edited code is never answered with numbers of the code before.
    """
    origin = Path(str(getattr(importlib.import_module(name), "__file__", None)))
    paths = sorted(origin.parent.glob("*.py")) if origin.name == "__init__.py" else [origin]
    content = hashlib.sha256()
    for path in paths:
        content.update(path.name.encode() + path.read_bytes() if path.is_file() else name.encode())
    return content.hexdigest()[:16]


@cache
def dependencies(name: str) -> tuple[str, ...]:
    """A module and those of the packages of explainers, metrics and rivals that it imports, directly or through others.

    Packages themselves are left out: whoever imports one would depend on every explainer.
    """
    found: set[str] = set()
    left = [name]
    while left:
        module = left.pop()
        found.add(module)
        left += [other for other in _imported(module) if other not in found]
    return tuple(sorted(found))


@cache
def _imported(name: str) -> tuple[str, ...]:
    path = Path(str(getattr(importlib.import_module(name), "__file__", None)))
    if not path.is_file() or path.name == "__init__.py":
        return ()
    named: set[str] = set()
    for node in ast.walk(ast.parse(path.read_bytes())):
        if isinstance(node, ast.Import):
            named |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            named |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    ours = {module for module in named if module.startswith(SHARED)}
    return tuple(sorted(module for module in ours if (ROOT / f"{module.replace('.', '/')}.py").is_file()))
