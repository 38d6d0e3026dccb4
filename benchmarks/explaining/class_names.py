"""Read names of classes from a user's file, and match them to the outputs of a network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.config.errors import ConfigError
from interp_core.errors import ContractError


def check_names(names: Sequence[str], count: int) -> list[str]:
    """Return a name for each of the K classes; those of two classes also name a single logit."""
    if not names:
        return [number_name(index) for index in range(count)]
    if count == 1 and len(names) == 2:
        return [str(names[1])]
    if len(names) != count:
        raise ContractError(
            f"the network tells {count} classes apart, and {len(names)} names were given: give one each"
        )
    return [str(name) for name in names]


def number_name(index: int) -> str:
    """Return the name of a class that has none."""
    return f"class {index}"


def imagenet_names(network: nn.Module) -> tuple[str, ...]:
    """Return the names of ImageNet's classes where timm says that a network's weights are for them; else none."""
    from timm.data import ImageNetInfo, infer_imagenet_subset

    try:
        subset = infer_imagenet_subset(network)
        info = ImageNetInfo(subset) if subset else None
    except (AttributeError, KeyError, TypeError, ValueError, OSError):
        return ()
    if info is None or info.num_classes() != getattr(network, "num_classes", None):
        return ()
    return tuple(info.index_to_description(index).partition(",")[0] for index in range(info.num_classes()))


def read_names(path: Path) -> list[str]:
    """Read the names of classes from a text file, one a line in the order of the classes, or from a JSON list.

    Raises:
        ConfigError: the file cannot be read, or holds no names.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        content = json.loads(text) if path.suffix.lower() == ".json" else [line.strip() for line in text.splitlines()]
    except (OSError, ValueError, RecursionError) as error:
        raise ConfigError(f"cannot read names of classes from {path}: {error}; give a text file, one a line") from error
    if isinstance(content, dict):  # {"0": "cat", ...} or {"cat": 0, ...}
        content = _names_of_mapping(content)
    names = [str(name) for name in content] if isinstance(content, list) else []
    while names and not names[-1]:
        names.pop()
    if not names:
        raise ConfigError(f"{path} holds no names of classes: give a text file with one a line")
    return names


def _names_of_mapping(content: dict[str, Any]) -> list[str]:
    if all(str(key).isdigit() for key in content):
        return [str(content[key]) for key in sorted(content, key=int)]
    if all(isinstance(value, int) for value in content.values()):
        return sorted(content, key=lambda name: content[name])
    return []
