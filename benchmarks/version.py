"""Version of the project, and of everything a number depends on."""

from __future__ import annotations

import ast
import hashlib
import importlib
import platform
import subprocess
from functools import cache
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "torchvision", "timm", "captum", "lime", "shap", "quantus", "numpy", "scipy", "scikit-learn")
# From the top of the checkout, so that results written into it do not count as changes.
CODE = (":/interp_core", ":/baselines", ":/benchmarks")
ROOT = Path(__file__).parent.parent
# Where explainers, metrics and rivals keep what they share.
SHARED = ("baselines.", "benchmarks.metrics.", "benchmarks.rivals.")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


VERSION = _version("interp-bench")


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


def versions() -> dict[str, str]:
    """Versions of the project and of the libraries behind the numbers."""
    return {name: _version(name) for name in ("interp-bench", *LIBRARIES)}


def git_state(file: Path, code: tuple[str, ...] = CODE) -> dict[str, Any] | None:
    """Commit of the checkout that `file` runs from and whether its `code` folders have changes.

    None if git does not track the file: installed packages may lie inside a checkout of something else.
    """
    folder = file.parent
    try:
        _git(folder, "ls-files", "--error-unmatch", file.name)
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--", *code))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()


def system() -> dict[str, str]:
    """Python and platform, without anything that names the machine."""
    return {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
