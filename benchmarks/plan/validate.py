"""All that is wrong with a configuration, at once, each with its place in the file. Nothing is computed or written.

Checked are fields and their values, names (with close ones), parameters of explainers, metrics, data set, terms and
rivals, that stages fit their network, backbones, that checkpoints are there, plugins, the device, and Ray. Not checked
is what only trying shows: arguments of a backbone, weights, memory, which masks the training images have.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ValidationError

from baselines import explainers
from benchmarks.config.choice import Named
from benchmarks.config.device import require_ray, resolve_device
from benchmarks.config.load import read_content
from benchmarks.config.models import ModelConfig
from benchmarks.config.overrides import apply_assignments
from benchmarks.config.plugins import load_plugin
from benchmarks.config.run import RunConfig
from benchmarks.config.weight_files import digest_of
from benchmarks.metrics import metrics
from benchmarks.plan.components import check_backbone
from benchmarks.plan.stages import training_stages
from benchmarks.rivals import rivals
from interp_core.datasets import datasets
from interp_core.errors import InterpError
from interp_core.knowledge import Term, terms
from interp_core.registry import Registry
from interp_core.training import DEFAULT_TERMS, Recipe

REGISTRIES: dict[str, Registry[Any]] = {
    "dataset": datasets,
    "terms": terms,
    "explainers": explainers,
    "metrics": metrics,
    "rival": rivals,
}
TOP = ("dataset", "terms", "explainers", "metrics")


@dataclass(frozen=True)
class ConfigProblem:
    """Something wrong: where in the file, and what."""

    where: str
    what: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what}"


def validate(path: Path, sets: Sequence[str] = ()) -> list[ConfigProblem]:
    """All that is wrong with a configuration file, in the order of its fields; empty where it can be run.

    Args:
        path: the YAML file.
        sets: values that replace the file's, as for `load_config`.

    Raises:
        ConfigError: the file or a replaced value cannot be read at all.
    """
    content = apply_assignments(read_content(path), sets)
    found = [*_plugins(content), *_fields(content)]
    for field in TOP:
        found += _named(field, content.get(field))
    found += [*_backbones(content.get("models")), *_methods(content), *_machine(content)]
    order = list(content)
    return sorted(found, key=lambda finding: _place(order, re.split(r"[ .]", finding.where)[0]))


def _place(order: list[str], field: str) -> int:
    return order.index(field) if field in order else len(order)


def _fields(content: dict[str, Any]) -> Iterator[ConfigProblem]:
    try:
        RunConfig.model_validate(content)
    except ValidationError as error:
        yield from _told(error, "", RunConfig)


def _told(error: ValidationError, prefix: str, model: type[BaseModel]) -> Iterator[ConfigProblem]:
    """What pydantic found, an unknown field of the top level with close names."""
    for detail in error.errors():
        where = ".".join([*([prefix] if prefix else []), *(str(part) for part in detail["loc"])])
        if detail["type"] == "extra_forbidden":
            fields = list(model.model_fields) if len(detail["loc"]) == 1 else []
            close = get_close_matches(str(detail["loc"][-1]), fields)
            yield ConfigProblem(where, "no such field" + (f": did you mean {' or '.join(close)}?" if close else ""))
        elif detail["type"] == "missing":
            yield ConfigProblem(where, "is missing")
        else:
            yield ConfigProblem(where, f"{detail['msg']}, got {detail['input']!r}")


def _entries(field: str, value: object) -> Iterator[tuple[str, dict[str, Any]]]:
    """Place and fields of each thing named under `field`; what has no name pydantic has told of."""
    listed = value if isinstance(value, list) else [value]
    for i, entry in enumerate(listed):
        named = {"name": entry} if isinstance(entry, str) else entry
        if isinstance(named, dict) and isinstance(named.get("name"), str):
            yield f"{field}.{i}" if isinstance(value, list) else field, named


def _named(field: str, value: object, prefix: str = "") -> Iterator[ConfigProblem]:
    """Unknown names and parameters under a field of named things."""
    for where, entry in _entries(f"{prefix}{field}", value):
        parameters = {key: given for key, given in entry.items() if key != "name"}
        try:
            thing = REGISTRIES[field][entry["name"]]
            thing = thing.Options if field == "rival" else thing
            thing(**parameters)
        except ValidationError as error:
            yield from _told(error, f"{where} ({entry['name']})", thing)
        except InterpError as error:
            yield ConfigProblem(where, str(error))


def _backbones(value: object) -> Iterator[ConfigProblem]:
    for where, entry in _entries("models", value):
        if isinstance(entry.get("backbone"), str):
            model = ModelConfig.model_construct(name=entry["name"], backbone=entry["backbone"])
            yield from _tried(f"{where}.backbone", lambda model=model: check_backbone(model))  # type: ignore[misc]
        if isinstance(path := entry.get("checkpoint"), str):
            yield from _tried(f"{where}.checkpoint", lambda path=path: digest_of(Path(path)))  # type: ignore[misc]


def _methods(content: dict[str, Any]) -> Iterator[ConfigProblem]:
    """Rivals, terms of stages, and stages that do not fit their network."""
    for where, entry in _entries("models", content.get("models")):
        wrong = list(_named("rival", entry.get("rival"), f"{where}."))
        stages = entry.get("stages")
        for i, stage in enumerate(stages if isinstance(stages, list) else []):
            if isinstance(stage, dict):
                wrong += _named("terms", stage.get("terms"), f"{where}.stages.{i}.")
        yield from wrong
        try:
            model, recipe = ModelConfig.model_validate(entry), Recipe.model_validate(content.get("recipe") or {})
            training_stages(model, recipe, _knowledge(content.get("terms")))
        except ValidationError:
            continue  # told with its place by `_fields`
        except InterpError as error:
            if not wrong:
                yield ConfigProblem(where, str(error))


def _knowledge(value: object) -> Sequence[Term]:
    """The run's terms; the defaults where they cannot be made, which `_named` has told of."""
    try:
        entries = _entries("terms", value)
        return DEFAULT_TERMS if value is None else [Named(**entry).build(terms) for _, entry in entries]
    except InterpError:
        return DEFAULT_TERMS


def _plugins(content: dict[str, Any]) -> Iterator[ConfigProblem]:
    given = content.get("plugins")
    for i, name in enumerate(given if isinstance(given, list) else []):
        yield from _tried(f"plugins.{i}", lambda name=name: load_plugin(str(name)))  # type: ignore[misc]


def _machine(content: dict[str, Any]) -> Iterator[ConfigProblem]:
    if content.get("engine") == "ray":
        yield from _tried("engine", require_ray)
    elif isinstance(device := content.get("device", "auto"), str):
        yield from _tried("device", lambda: resolve_device(device))


def _tried(where: str, check: Callable[[], object]) -> Iterator[ConfigProblem]:
    try:
        check()
    except InterpError as error:
        yield ConfigProblem(where, str(error))
