"""Read configurations from YAML files and presets."""

from __future__ import annotations

from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any

import yaml
from pydantic import (
    ValidationError,
)

from benchmarks.config.choice import first_problem
from benchmarks.config.errors import ConfigError
from benchmarks.config.overrides import apply_assignments
from benchmarks.config.run import RunConfig
from interp_core.errors import UnknownNameError, one_line


def load_config(path: Path, changes: dict[str, Any] | None = None, sets: Sequence[str] = ()) -> RunConfig:
    """Read and check a YAML file.

    Args:
        path: the file.
        changes: top-level fields that replace the file's.
        sets: single values that replace the file's, as "recipe.epochs=3"; see `overrides.overridden`.

    Raises:
        ConfigError: the file cannot be read, or a field is unknown, missing, of the wrong type or out of range.
    """
    content = read_content(path) | (changes or {})
    try:
        return RunConfig.model_validate(apply_assignments(content, sets))
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_problem(error)}") from error


def read_content(path: Path) -> dict[str, Any]:
    """The fields of a YAML file, not checked yet.

    Raises:
        ConfigError: the file cannot be read or holds no fields.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold fields of a run such as 'dataset:', got {type(content).__name__}")
    return content


def presets() -> dict[str, Path]:
    """Configurations that come with the package, by name."""
    folder = Path(str(files("benchmarks.config") / "presets"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def preset_path(name: str) -> Path:
    """File of a preset.

    Raises:
        UnknownNameError: no such preset.
    """
    known = presets()
    if name not in known:
        raise UnknownNameError("preset", name, known)
    return known[name]
