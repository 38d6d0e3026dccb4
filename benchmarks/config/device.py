"""Choose and check the device of a run."""

from __future__ import annotations

import importlib.util

import torch

from benchmarks.config.errors import ConfigError
from interp_core.errors import one_line


def require_ray() -> None:
    """Check that Ray is installed.

    Raises:
        ConfigError: it is not.
    """
    if importlib.util.find_spec("ray") is None:
        raise ConfigError("engine ray needs the package ray: pip install 'interp-bench[ray]'")


def resolve_device(name: str) -> str:
    """The best device at hand for "auto"; others are checked.

    Raises:
        ConfigError: torch has no such device here.
    """
    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} cannot be used: {one_line(error, limit=120)}") from error
    return name
