"""Write and read the two files of a saved LAP model."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from safetensors.torch import save_model

from interp_core.errors import StoreError
from interp_core.lap.attach import LapModel

FORMAT = 1


# The weights come from the file; what was once downloaded or read from another place is not wanted again.
ELSEWHERE: dict[str, Any] = {"pretrained": False, "checkpoint_path": None, "cache_dir": None}


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
