"""Trained weights of a user's own, read without running anything that a file might bring.

Safetensors hold numbers only. Of PyTorch's files only tensors and plain containers are unpickled (`weights_only`); a
file that needs more is refused. Usual wrappings (`state_dict`, `model`, an EMA, `module.` before names) are taken off
by timm.
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
    """Put the weights of a file into a network, which they must fit exactly.

    Args:
        network: of timm, or with LAP where the file holds that too.
        path: of the file.

    Raises:
        ConfigError: the file is not there, holds other things than weights, or weights of another network.
    """
    try:
        network.load_state_dict(read_weights(path))
    except RuntimeError as error:
        raise ConfigError(f"checkpoint {path} is of another network: {one_line(error, limit=200)}") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Tensors of a file by name.

    Raises:
        ConfigError: the file is not there, or holds other things than weights.
    """
    from timm.models import load_state_dict

    _check_there(path)
    try:
        found = load_state_dict(str(path), device="cpu", weights_only=True)
    except (pickle.UnpicklingError, SafetensorError, RuntimeError, OSError, EOFError, ValueError) as error:
        if "weights_only" in str(error):  # torch's or timm's word for what it will not unpickle
            raise ConfigError(
                f"checkpoint {path} is refused: it is no file of PyTorch, or holds Python objects besides tensors, "
                "which could run code when loaded; save model.state_dict() alone, best as safetensors"
            ) from error
        raise ConfigError(f"checkpoint {path} cannot be read: {one_line(error, limit=200)}") from error
    if not found or not all(isinstance(value, Tensor) for value in found.values()):
        raise ConfigError(f"checkpoint {path} holds no state dict, that is, tensors by name")
    return found


def holds_lap(path: Path) -> bool:
    """Whether the weights are of a network with LAP, and not of its backbone alone.

    Raises:
        ConfigError: the file is not there, or holds other things than weights.
    """
    names = read_weights(path)
    return "head.a" in names and any(name.startswith("backbone.") for name in names)


def _check_there(path: Path) -> None:
    if not path.is_file():
        raise ConfigError(f"checkpoint {path}: there is no such file")


@lru_cache(maxsize=64)
def _digest(path: Path, _size: int, _time: int) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def digest_of(path: Path) -> str:
    """SHA-256 of a file's content.

    Raises:
        ConfigError: it is not there.
    """
    _check_there(path)
    facts = path.stat()
    return _digest(path, facts.st_size, facts.st_mtime_ns)
