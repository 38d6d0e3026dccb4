"""Save and load LAP models: weights as safetensors, and beside them a small JSON that says how to build them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from torch import nn

from interp_core.lap.model import LapModel
from interp_core.lap.saved_files import file_pair


def save(
    lap: LapModel, path: str | Path, *, classes: list[str] | None = None, extra: dict[str, Any] | None = None
) -> Path:
    """Write `path`.safetensors and `path`.json.

    Args:
        lap: the model. Unless `create` made it, its backbone must be passed to `load`.
        path: without a suffix; folders are created.
        classes: names of the classes, kept in the JSON.
        extra: anything else that can be written as JSON, such as the accuracy.

    Returns:
        The path of the weights.

    Raises:
        StoreError: `extra` or an argument of `create` cannot be written as JSON.
    """
    weights_path, description_path = file_pair(path)
    lap.write_files(weights_path, description_path, classes=classes, extra=extra)
    return weights_path


def load(path: str | Path, *, backbone: nn.Module | None = None) -> LapModel:
    """Build the model saved at `path`, in evaluation mode on the CPU.

    Args:
        path: as passed to `save`.
        backbone: the network to load into, where `save` could not know how it was made.

    Raises:
        StoreError: a file is missing, damaged or of another format, or the backbone does not fit.
    """
    return LapModel.read_files(*file_pair(path), backbone=backbone)
