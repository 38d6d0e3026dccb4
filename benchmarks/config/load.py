"""Read configurations from YAML files and presets."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from importlib.resources import files
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import BaseModel, ValidationError

from benchmarks.config.errors import ConfigError, problems_of
from benchmarks.config.overrides import apply_assignments
from benchmarks.config.plugins import load_plugin
from benchmarks.config.run import RunConfig
from interp_core.errors import UnknownNameError, one_line

MERGE_TAG = "tag:yaml.org,2002:merge"
M = TypeVar("M", bound=BaseModel)


class UniqueKeyLoader(yaml.SafeLoader):
    """Loader that refuses a field that is given twice, where YAML would keep the last one."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Hashable, Any]:
        """See `yaml.SafeLoader`."""
        first_lines: dict[str, int] = {}
        for key, _ in node.value:
            line = key.start_mark.line + 1
            if key.value in first_lines and key.tag != MERGE_TAG:
                text = f"field {key.value!r} is given twice, in lines {first_lines[key.value]} and {line}"
                raise yaml.constructor.ConstructorError(None, None, text, None)
            if isinstance(key, yaml.ScalarNode):
                first_lines[key.value] = line
        return super().construct_mapping(node, deep=deep)


def load_config(path: Path, changes: dict[str, Any] | None = None, assignments: Sequence[str] = ()) -> RunConfig:
    """Read and check a YAML file. Its plugins are imported first, since they register names.

    Args:
        path: the file.
        changes: top-level fields that replace those of the file.
        assignments: single values that replace those of the file, as "recipe.epochs=3"; see
            `overrides.apply_assignments`.

    Raises:
        ConfigError: the file cannot be read, or a field is unknown, missing, of the wrong type or out of range.
        PluginError: a plugin cannot be imported.
    """
    content = apply_assignments(read_content(path) | (changes or {}), assignments)
    for name in plugin_names(content):
        load_plugin(name)
    return parse(RunConfig, content, str(path))


def parse(model: type[M], content: Any, source: str) -> M:
    """Check plain data and return it as a model.

    Args:
        model: class of the result.
        content: fields as read from YAML.
        source: where the data come from, for the error message.

    Raises:
        ConfigError: the first problem, and how many more there are.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        first, *others = problems_of(error, model)
        more = f" (and {len(others)} more)" if others else ""
        raise ConfigError(f"{source}: {first}{more}") from error


def plugin_names(content: dict[str, Any]) -> list[str]:
    """Return the plugins of a configuration that is not checked yet; entries of a wrong type are left out."""
    plugins = content.get("plugins")
    return [name for name in plugins if isinstance(name, str)] if isinstance(plugins, list | tuple) else []


def read_content(path: Path) -> dict[str, Any]:
    """Read the fields of a YAML file without checking them.

    Raises:
        ConfigError: the file cannot be read or holds no fields.
    """
    try:
        content = yaml.load(path.read_text(encoding="utf-8-sig"), UniqueKeyLoader)
    except (OSError, UnicodeDecodeError, RecursionError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {one_line(error)}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold fields of a run such as 'dataset:', got {type(content).__name__}")
    return content


def presets() -> dict[str, Path]:
    """Return the files of the configurations that come with the package, by name."""
    folder = Path(str(files("benchmarks.config") / "presets"))
    return {path.stem: path for path in sorted(folder.glob("*.yaml"))}


def preset_path(name: str) -> Path:
    """Return the file of a preset.

    Raises:
        UnknownNameError: no such preset.
    """
    paths = presets()
    if name not in paths:
        raise UnknownNameError("preset", name, paths)
    return paths[name]
