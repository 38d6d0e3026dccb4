"""Version of the project, and of everything a number depends on."""

from __future__ import annotations

import platform
import subprocess
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

LIBRARIES = ("torch", "torchvision", "timm", "captum", "lime", "shap", "quantus", "numpy", "scipy", "scikit-learn")


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "not installed"


VERSION = _version("interp-bench")


def versions() -> dict[str, str]:
    """Versions of the project and of the libraries behind the numbers."""
    return {name: _version(name) for name in ("interp-bench", *LIBRARIES)}


def git_state(folder: Path) -> dict[str, Any] | None:
    """Commit of the checkout the code runs from and whether it has changes; None outside a checkout."""
    try:
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--untracked-files=no"))}
    except (OSError, subprocess.SubprocessError):
        return None


def _git(folder: Path, *words: str) -> str:
    return subprocess.run(
        ["git", "-C", str(folder), *words], capture_output=True, text=True, check=True, timeout=10
    ).stdout.strip()


def system() -> dict[str, str]:
    """Python and platform, without anything that names the machine."""
    return {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}
