"""Version of the project, and of everything a number depends on."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import (
    BaseModel,
)


def digest(*parts: Any) -> str:
    """Short content hash of anything that can be written as JSON."""
    text = json.dumps(parts, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: object) -> Any:
    if isinstance(value, BaseModel):
        return {"name": getattr(value, "name", ""), **value.model_dump(mode="json")}
    return str(value)


LIBRARIES = ("torch", "torchvision", "timm", "captum", "lime", "shap", "quantus", "numpy", "scipy", "scikit-learn")
# From the top of the checkout, so that results written into it do not count as changes.
CODE = (":/interp_core", ":/baselines", ":/benchmarks")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


VERSION = _version("interp-bench")


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
