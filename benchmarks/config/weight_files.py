"""Read weights from a user's file without running code that the file may contain.

Safetensors files hold only numbers. From PyTorch files, only tensors and plain containers are unpickled
(`weights_only`), and a file that needs more is refused. Timm removes the usual wrappings: `state_dict`, `model`, an
EMA, `module.` before names.
"""

from __future__ import annotations

import hashlib
import pickle
from functools import lru_cache
from pathlib import Path

from safetensors import SafetensorError
from torch import Tensor, nn

from benchmarks.config.errors import ConfigError
from interp_core.errors import one_line


def load_weights(network: nn.Module, path: Path) -> None:
    """Load the weights of a file, which must fit the network exactly.

    Args:
        network: a timm network, or one with LAP if the file includes LAP.
        path: the file.

    Raises:
        ConfigError: the file is missing, holds anything but weights, or the weights of another network.
    """
    try:
        network.load_state_dict(read_weights(path))
    except RuntimeError as error:
        raise ConfigError(f"checkpoint {path} is of another network: {one_line(error, limit=200)}") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    Raises:
        ConfigError: the file is missing, or holds anything but weights.
    """
    from timm.models import load_state_dict

    _check_exists(path)
    try:
        weights = load_state_dict(str(path), device="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, OSError, EOFError, ValueError) as error:
        if "weights_only" in str(error):  # torch and timm name this option when they refuse to unpickle
            raise ConfigError(
                f"checkpoint {path} is refused: it is not a PyTorch file, or holds Python objects besides tensors, "
                "which could run code when loaded; save model.state_dict() alone, best as safetensors"
            ) from error
        raise ConfigError(f"checkpoint {path} cannot be read: {one_line(error, limit=200)}") from error
    if not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        raise ConfigError(f"checkpoint {path} holds no state dict (tensors by name)")
    return weights


def holds_lap(path: Path) -> bool:
    """Return whether a file has the weights of a network with LAP, not only those of its backbone.

    Raises:
        ConfigError: the file is missing, or holds anything but weights.
    """
    names = read_weights(path)
    return "head.a" in names and any(name.startswith("backbone.") for name in names)


def _check_exists(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"checkpoint {path}: there is no such file")


@lru_cache(maxsize=64)
def _digest(path: Path, _size: int, _time: int) -> str:
    """Return the SHA-256 of a file; size and time are part of the cache key."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def file_digest(path: Path) -> str:
    """Return the SHA-256 of a file's content.

    Raises:
        ConfigError: the file is missing.
    """
    _check_exists(path)
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)
