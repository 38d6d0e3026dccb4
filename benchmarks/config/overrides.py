"""Change single values of a configuration from the command line: `--set metrics.pixel_flipping.steps=8`.

A path consists of field names joined by dots. Entries of a list are addressed by position or name. A bare name, such as
`lime`, becomes `{name: lime}`, so that it can take parameters. Values are read as YAML.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import yaml

from benchmarks.config.errors import ConfigError
from interp_core.errors import UnknownNameError, one_line


def apply_assignments(content: dict[str, Any], assignments: Sequence[str]) -> dict[str, Any]:
    """Return a copy of a configuration's fields with single values replaced.

    Args:
        content: fields as read from YAML.
        assignments: "path=value" each, applied in this order.

    Raises:
        ConfigError: a path or value cannot be read, or leads into a value without fields.
        UnknownNameError: no entry of a list has this name.
    """
    changed: Any = deepcopy(content)
    for assignment in assignments:
        path, value = parse_assignment(assignment)
        changed = _replace(changed, path.split("."), value, path)
    return changed


def parse_assignment(assignment: str) -> tuple[str, Any]:
    """Split "path=value" into its path and its value.

    Raises:
        ConfigError: the path or "=" is missing, or the value is not YAML.
    """
    path, sign, text = assignment.partition("=")
    if not sign or not all(path.strip().split(".")):
        raise ConfigError(f"--set takes a path and a value such as recipe.epochs=3, got {assignment!r}")
    try:
        return path.strip(), yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {path}: {text!r} is not YAML: {one_line(error)}") from error


def _replace(node: Any, path: Sequence[str], value: Any, full_path: str) -> Any:
    """Return `node` with the value at `path` below it replaced. `full_path` is for error messages."""
    if not path:
        return value
    if isinstance(node, list):
        index = _index(node, path[0], full_path)
        return [*node[:index], _replace(node[index], path[1:], value, full_path), *node[index + 1 :]]
    if isinstance(node, str):
        node = {"name": node}
    if not isinstance(node, dict | None):
        raise ConfigError(f"--set {full_path}: no field {path[0]!r} in the value {node!r}")
    fields: dict[str, Any] = node or {}
    return fields | {path[0]: _replace(fields.get(path[0]), path[1:], value, full_path)}


def _index(entries: list[Any], key: str, full_path: str) -> int:
    """Return the index of an entry that is addressed by position or name."""
    if key.isdigit():
        if int(key) >= len(entries):
            raise ConfigError(f"--set {full_path}: there are only {len(entries)} entries, counted from 0")
        return int(key)
    names = [str(entry.get("name")) if isinstance(entry, dict) else str(entry) for entry in entries]
    if key not in names:
        raise UnknownNameError(f"entry of --set {full_path}:", key, names)
    return names.index(key)
