"""Save and load LAP models: weights as safetensors, how to build them as a small JSON beside; no pickle anywhere."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load_model, save_model
from torch import nn

from interp_core.attach import LapModel, attach, create_backbone, detach
from interp_core.errors import StoreError

FORMAT = 1
# The weights come from the file; what was once downloaded or read from another place is not wanted again.
ELSEWHERE: dict[str, Any] = {"pretrained": False, "checkpoint_path": None, "cache_dir": None}


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


def write(
    lap: LapModel,
    weights: Path,
    description: Path,
    *,
    classes: list[str] | None = None,
    extra: dict[str, Any] | None = None,
) -> None:
    """`save` to two files of any name.

    Raises:
        StoreError: `extra` or an argument of `create` cannot be written as JSON.
    """
    content = {
        "format": FORMAT,
        "recipe": lap.recipe,
        "options": lap.options,
        "classes": classes,
        "extra": extra or {},
    }
    try:
        text = json.dumps(content, indent=2)
    except TypeError as error:
        raise StoreError(f"{description} cannot hold how the model was made: {error}; use plain values") from error
    weights.parent.mkdir(parents=True, exist_ok=True)
    description.write_text(text + "\n")
    save_model(lap, str(weights))


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


def _paths(path: str | Path) -> tuple[Path, Path]:
    path = Path(path)
    return path.with_name(path.name + ".safetensors"), path.with_name(path.name + ".json")


def _description(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise StoreError(f"cannot read {path}: {error}") from error
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise StoreError(f"{path} is not a LAP model of format {FORMAT}")
    return content
