"""Single values of a configuration changed from the command line: `--set metrics.pixel_flipping.steps=8`.

A path is made of field names, joined by dots. In a list an entry is found by its position or its name, and a bare name
in the file, such as `lime`, becomes `{name: lime}` so that it can take parameters. Values are read as YAML.
"""

from __future__ import annotations

from collections.abc import Sequence
from copy import deepcopy
from typing import Any

import yaml

from benchmarks.config.errors import ConfigError
from interp_core.errors import UnknownNameError, one_line


def apply_assignments(content: dict[str, Any], sets: Sequence[str]) -> dict[str, Any]:
    """The fields of a configuration with single values replaced; `content` stays as it is.

    Args:
        content: fields as read from YAML.
        sets: "path=value" each, applied in this order.

    Raises:
        ConfigError: a path or value cannot be read, or leads through something that has no fields.
        UnknownNameError: no entry of a list has this name.
    """
    changed: Any = deepcopy(content)
    for assignment in sets:
        path, value = parse_assignment(assignment)
        changed = _replaced(changed, path.split("."), value, path)
    return changed


def parse_assignment(assignment: str) -> tuple[str, Any]:
    """Path and value of "path=value".

    Raises:
        ConfigError: it has no path, no "=", or the value is no YAML.
    """
    path, sign, text = assignment.partition("=")
    if not sign or not all(path.strip().split(".")):
        raise ConfigError(f"--set takes a path and a value such as recipe.epochs=3, got {assignment!r}")
    try:
        return path.strip(), yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise ConfigError(f"--set {path}: {text!r} is no YAML value: {one_line(error)}") from error


def _replaced(node: Any, path: Sequence[str], value: Any, whole: str) -> Any:
    """`node` with the value at `path` below it replaced."""
    if not path:
        return value
    if isinstance(node, list):
        at = _position(node, path[0], whole)
        return [*node[:at], _replaced(node[at], path[1:], value, whole), *node[at + 1 :]]
    if isinstance(node, str):
        node = {"name": node}
    if not isinstance(node, dict | None):
        raise ConfigError(f"--set {whole}: {path[0]!r} has nowhere to go, there is only {node!r}")
    fields: dict[str, Any] = node or {}
    return fields | {path[0]: _replaced(fields.get(path[0]), path[1:], value, whole)}


def _position(entries: list[Any], wanted: str, whole: str) -> int:
    if wanted.isdigit():
        if int(wanted) >= len(entries):
            raise ConfigError(f"--set {whole}: there are only {len(entries)} entries, counted from 0")
        return int(wanted)
    names = [str(entry.get("name")) if isinstance(entry, dict) else str(entry) for entry in entries]
    if wanted not in names:
        raise UnknownNameError(f"entry of --set {whole}:", wanted, names)
    return names.index(wanted)
