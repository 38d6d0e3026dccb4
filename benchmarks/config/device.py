"""Choose and check the device of a run."""

from __future__ import annotations

import importlib.util

import torch

from benchmarks.config.errors import ConfigError
from interp_core.errors import one_line


def require_ray() -> None:
    """Check that Ray is installed.

    Raises:
        ConfigError: Ray is missing.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("engine ray needs the package ray: pip install 'interp-bench[ray]'")


def resolve_device(name: str) -> str:
    """Return the name of a usable device; "auto" stands for a GPU if there is one, else the CPU.

    Raises:
        ConfigError: torch has no such device on this machine.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} cannot be used: {one_line(error, limit=120)}") from error
    return name
