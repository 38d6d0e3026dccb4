"""Record what a result was made with: versions, platform, commit, command and seed."""

from __future__ import annotations

import hashlib
import json
import platform
import subprocess
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from pydantic import BaseModel

from benchmarks.store.atomic import write_atomically
from benchmarks.store.json_text import json_text

LIBRARIES = ("torch", "torchvision", "timm", "captum", "lime", "shap", "quantus", "numpy", "scipy", "scikit-learn")
# From the top of the checkout, so that results written into it do not count as changes.
CODE_FOLDERS = (":/interp_core", ":/baselines", ":/benchmarks")


def digest(*values: Any) -> str:
    """Return a short content hash of values that can be written as JSON."""
    text = json.dumps(values, sort_keys=True, default=_to_json)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _to_json(value: object) -> Any:
    if isinstance(value, BaseModel):
        return {"name": getattr(value, "name", ""), **value.model_dump(mode="json")}
    return str(value)


def _version_of(distribution: str) -> str:
    try:
        return version(distribution)
    except PackageNotFoundError:
        return "not installed"


VERSION = _version_of("interp-bench")


def provenance(*, command: str | None = None, seed: int | None = None) -> dict[str, Any]:
    """Return what to write beside a result, so that it can be made again.

    Args:
        command: that makes the result, such as "interp-bench study faces"; left out if None.
        seed: of its random numbers; left out if None.

    Returns:
        Plain data with the keys command, seed, git (see `git_state`), versions (see `versions`), python and platform.
    """
    settings = {"command": command, "seed": seed}
    stated = {key: value for key, value in settings.items() if value is not None}
    return {**stated, "git": git_state(), "versions": versions(), **system()}


def write_provenance(path: Path, facts: Mapping[str, Any], *, command: str, seed: int | None = None) -> Path:
    """Write facts about a result with its provenance as JSON.

    Args:
        path: of the file, beside the result.
        facts: settings and measurements.
        command: see `provenance`.
        seed: see `provenance`.

    Raises:
        StoreError: the file cannot be written.
    """
    content = {**provenance(command=command, seed=seed), **facts}
    return write_atomically(path, json_text(content))


def versions() -> dict[str, str]:
    """Return the versions of the project and of the libraries behind the numbers."""
    return {name: _version_of(name) for name in ("interp-bench", *LIBRARIES)}


def system() -> dict[str, str]:
    """Return the Python version and the platform, without anything that identifies the machine."""
    return {"python": platform.python_version(), "platform": f"{platform.system()} {platform.machine()}"}


def git_state(file: Path = Path(__file__), code: tuple[str, ...] = CODE_FOLDERS) -> dict[str, Any] | None:
    """Return the commit of a checkout and whether its code has uncommitted changes.

    Args:
        file: any file of the checkout.
        code: git path patterns of the code; changes elsewhere do not count.

    Returns:
        The keys commit and dirty. None if git does not track the file: an installed package may lie inside a checkout
        of another project.
    """
    folder = file.parent
    try:
        _git(folder, "ls-files", "--error-unmatch", file.name)
        commit = _git(folder, "rev-parse", "HEAD")
        return {"commit": commit, "dirty": bool(_git(folder, "status", "--porcelain", "--", *code))}
    except (OSError, subprocess.SubprocessError):
        return None


def short_commit() -> str:
    """Return the first seven digits of the project's commit, with a "+" if code has changed; "" outside a checkout."""
    state = git_state()
    return "" if state is None else state["commit"][:7] + "+" * state["dirty"]


def _git(folder: Path, *words: str) -> str:
    command = ["git", "-C", str(folder), *words]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=10).stdout.strip()
