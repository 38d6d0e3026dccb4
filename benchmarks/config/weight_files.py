"""Read weights from a user's file without running code that the file may contain.

Safetensors files hold only numbers. From PyTorch files, only tensors and plain containers are unpickled
(`weights_only`), and a file that needs more is refused. A folder stands for the file of weights in it, under the names
of Hugging Face. Wrappings are removed, see `config.state_dicts`.
"""

from __future__ import annotations

import argparse
import hashlib
import pathlib
import re
import warnings
from collections.abc import Mapping
from contextlib import nullcontext
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors import SafetensorError
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.config.errors import ConfigError
from benchmarks.config.state_dicts import describe_misfit, find_state_dict, fit_to, remove_parallel
from interp_core.errors import one_line

FILES = ("model.safetensors", "open_clip_model.safetensors", "pytorch_model.bin", "open_clip_pytorch_model.bin")
_numpy_core = getattr(np, "_core", None) or np.core  # its name before numpy 2
_multiarray: Any = _numpy_core.multiarray
# Plain values that trainers store beside weights, some under the name of an older numpy. Reading them does nothing.
HARMLESS: list[Any] = [
    argparse.Namespace,
    *(pathlib.PosixPath, pathlib.PurePosixPath),
    *(np.dtype, np.ndarray, _multiarray.scalar, _multiarray._reconstruct),
    *((_multiarray.scalar, f"numpy.{core}.multiarray.scalar") for core in ("core", "_core")),
    *((_multiarray._reconstruct, f"numpy.{core}.multiarray._reconstruct") for core in ("core", "_core")),
    *(type(np.dtype(kind)) for kind in ("float64", "float32", "int64", "int32", "bool")),
]


def load_weights(network: nn.Module, path: Path) -> None:
    """Load the weights of a file, which must fit the network exactly.

    Args:
        network: a timm network, or one with LAP if the file includes LAP.
        path: the file, or a folder that holds it.

    Raises:
        ConfigError: the file is missing, holds anything but weights, or the weights of another network.
    """
    weights, expected = read_weights(path), network.state_dict()
    if _is_lap(weights) and not _is_lap(expected):
        raise ConfigError(f"checkpoint {path} is of another network: it holds one with LAP attached, this one has none")
    fit = fit_to(weights, expected)
    if not fit.is_complete:
        raise ConfigError(
            f"checkpoint {path} is of another network: {describe_misfit(fit, len(expected))}; "
            "give the architecture and the number of classes that it was saved with"
        )
    try:
        network.load_state_dict(fit.weights, strict=False)
    except RuntimeError as error:
        raise ConfigError(f"checkpoint {path} is of another network: {one_line(error, limit=200)}") from error


def read_weights(path: Path) -> dict[str, Tensor]:
    """Return the tensors of a file by name.

    Raises:
        ConfigError: the file is missing, or holds anything but weights.
    """
    path = weight_file(path)
    try:
        content = _read_content(path)
    except Exception as error:  # a damaged pickle raises errors of any kind
        raise ConfigError(_refusal(path, error)) from error
    weights = find_state_dict(content)
    if not weights:
        keys = ", ".join(map(str, content)) if isinstance(content, Mapping) else ""
        held = f"it holds {keys[:100]}" if keys else f"it holds {type(content).__name__}"
        raise ConfigError(f"checkpoint {path} holds no state dict (tensors by name): {held}; save model.state_dict()")
    return weights


def weight_file(path: Path) -> Path:
    """Return a file of weights: the path itself, or the one in a folder under a name of Hugging Face.

    Raises:
        ConfigError: there is no such file.
    """
    if not path.is_dir():
        _check_exists(path)
        return path
    file = next((path / name for name in FILES if (path / name).is_file()), None)
    if file is None:
        raise ConfigError(f"checkpoint {path}: the folder holds none of {', '.join(FILES)}; give the file itself")
    return file


def _read_content(path: Path) -> Any:
    """Read a file by its content, whatever its name is."""
    with path.open("rb") as file:
        head = file.read(9)
    if head[8:] == b"{":  # length of the header, and its JSON
        return remove_parallel(load_file(str(path), device="cpu"))
    if path.suffix == ".safetensors":
        raise SafetensorError("it is no safetensors file")
    safe_globals = getattr(torch.serialization, "safe_globals", lambda _: nullcontext())  # from torch 2.5 on
    with safe_globals(HARMLESS), warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about files that are refused anyway
        return torch.load(path, map_location="cpu", weights_only=True)


def _refusal(path: Path, error: Exception) -> str:
    """Say why a file cannot be read, and what to do."""
    text = str(error)
    remedy = "save model.state_dict() alone, best as safetensors"
    if "TorchScript" in text:
        return f"checkpoint {path} is refused: it is a TorchScript program, not weights; {remedy}"
    if "weights_only" not in text:  # torch names this option when it refuses to unpickle
        return f"checkpoint {path} cannot be read: {one_line(error, limit=200)}"
    held = re.search(r"Unsupported (?:global|class|operand)[^\n]*?([\w.]+\.[\w.]+)", text)
    name = f" ({held.group(1)})" if held else ""
    return (
        f"checkpoint {path} is refused: it is not a PyTorch file, or holds Python objects{name} besides tensors, such "
        f"as a whole network, which could run code when loaded; {remedy}"
    )


def holds_lap(path: Path) -> bool:
    """Return whether a file has the weights of a network with LAP, not only those of its backbone.

    Raises:
        ConfigError: the file is missing, or holds anything but weights.
    """
    return _is_lap(read_weights(path))


def _is_lap(weights: Mapping[str, Tensor]) -> bool:
    return "head.a" in weights and any(name.startswith("backbone.") for name in weights)


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
    path = weight_file(path)
    stat = path.stat()
    return _digest(path, stat.st_size, stat.st_mtime_ns)
