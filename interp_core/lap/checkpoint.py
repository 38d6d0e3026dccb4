"""Save and load LAP models: weights as safetensors, how to build them as a small JSON beside; no pickle anywhere."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_model
from torch import nn

from interp_core.backbone.timm_models import create_backbone
from interp_core.errors import StoreError
from interp_core.lap.attach import LapModel, attach, detach
from interp_core.lap.saved_files import ELSEWHERE, _description, _paths, write


def save(
    lap: LapModel, path: str | Path, *, classes: list[str] | None = None, extra: dict[str, Any] | None = None
) -> Path:
    """Write `path`.safetensors and `path`.json.

    Args:
        lap: the model; made by `create`, or its backbone must be given to `load`.
        path: without a suffix; folders are made.
        classes: names of the classes, kept in the JSON.
        extra: anything else that can be written as JSON, such as the accuracy.

    Returns:
        The path of the weights.

    Raises:
        StoreError: `extra` or an argument of `create` cannot be written as JSON.
    """
    weights, description = _paths(path)
    write(lap, weights, description, classes=classes, extra=extra)
    return weights


def load(path: str | Path, *, backbone: nn.Module | None = None) -> LapModel:
    """Build the model saved at `path` again, in evaluation mode on the CPU.

    Args:
        path: as given to `save`.
        backbone: the network to load into, where `save` could not know how it was made.

    Raises:
        StoreError: a file is missing, damaged or of another format, or the backbone does not fit.
    """
    return read(*_paths(path), backbone=backbone)


def read(weights: Path, description: Path, *, backbone: nn.Module | None = None) -> LapModel:
    """`load` from two files of any name.

    Raises:
        StoreError: a file is missing, damaged or of another format, or the backbone does not fit.
    """
    content = _description(description)
    lap = _build(content, description, backbone)
    try:
        load_model(lap, str(weights))
    except (SafetensorError, RuntimeError, OSError) as error:
        detach(lap)
        reason = str(error).splitlines()[0]
        raise StoreError(f"cannot load {weights}: {reason}; give the backbone it was saved with") from error
    return lap.eval()


def _build(content: dict[str, Any], description: Path, backbone: nn.Module | None) -> LapModel:
    """The model a description tells of, with random weights."""
    recipe: Any = content.get("recipe")
    if backbone is None and recipe is None:
        raise StoreError(f"{description} does not say how its backbone is made: give load(..., backbone=...)")
    try:
        if backbone is None:
            backbone = create_backbone(recipe["name"], **recipe["kwargs"] | ELSEWHERE)
        lap = attach(backbone, **content["options"])
    except (KeyError, TypeError, AttributeError) as error:
        raise StoreError(f"{description} does not describe a LAP model: {error}; save it again") from error
    lap.recipe = recipe
    return lap
