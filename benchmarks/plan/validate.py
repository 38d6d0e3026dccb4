"""Report all errors of a configuration at once, each with its place in the file. Nothing is computed or written.

Fields, names and parameters are checked by `RunConfig`. This module adds plugins, checkpoints, stages that do not fit
their network, the device and Ray.

Known limit: arguments of a backbone, the fit of weights, memory, and the masks of the training images are only checked
by a run.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmarks.config.choice import TermChoice
from benchmarks.config.device import require_ray, resolve_device
from benchmarks.config.errors import ConfigProblem, problems_of
from benchmarks.config.load import read_content
from benchmarks.config.models import ModelConfig
from benchmarks.config.overrides import apply_assignments
from benchmarks.config.plugins import load_plugin
from benchmarks.config.run import RunConfig
from benchmarks.config.weight_files import file_digest
from benchmarks.plan.components import RunComponents
from benchmarks.plan.pairs import check_pair
from benchmarks.plan.stages import training_stages
from interp_core.errors import InterpError
from interp_core.knowledge import Term
from interp_core.training import DEFAULT_TERMS, Recipe


def validate(path: Path, assignments: Sequence[str] = ()) -> list[ConfigProblem]:
    """Return all errors of a configuration file, in the order of its fields; none if it can be run.

    Args:
        path: the YAML file.
        assignments: values that replace those of the file, as for `load_config`.

    Raises:
        ConfigError: the file or an assignment cannot be read at all.
    """
    content = apply_assignments(read_content(path), assignments)
    problems = [
        *_plugin_problems(content),  # first, since plugins register names
        *_schema_problems(content),
        *_model_problems(content),
        *_machine_problems(content),
    ]
    problems = problems or list(_pair_problems(content))
    fields = {field: index for index, field in enumerate(content)}
    return sorted(problems, key=lambda problem: fields.get(re.split(r"[ .]", problem.where)[0], len(fields)))


def _plugin_problems(content: dict[str, Any]) -> Iterator[ConfigProblem]:
    for index, name in enumerate(_entries(content, "plugins")):
        if isinstance(name, str):
            yield from _attempt(f"plugins.{index}", load_plugin, name)


def _schema_problems(content: dict[str, Any]) -> list[ConfigProblem]:
    try:
        RunConfig.model_validate(content)
    except ValidationError as error:
        return problems_of(error, RunConfig)
    return []


def _model_problems(content: dict[str, Any]) -> Iterator[ConfigProblem]:
    """Check checkpoints, and the stages of models whose fields are right."""
    recipe, terms = _defaults(content)
    for index, entry in enumerate(_entries(content, "models")):
        if isinstance(entry, dict) and isinstance(path := entry.get("checkpoint"), str):
            yield from _attempt(f"models.{index}.checkpoint", file_digest, Path(path))
        with suppress(ValidationError):
            yield from _attempt(f"models.{index}", training_stages, ModelConfig.model_validate(entry), recipe, terms)


def _defaults(content: dict[str, Any]) -> tuple[Recipe, Sequence[Term]]:
    """Return recipe and terms of the run; where they are missing or wrong, those of the package."""
    recipe: Recipe = Recipe()
    terms: Sequence[Term] = DEFAULT_TERMS
    with suppress(ValidationError):
        recipe = Recipe.model_validate(content.get("recipe") or {})
    if content.get("terms") is not None:
        with suppress(ValidationError):
            terms = [TermChoice.model_validate(entry).build() for entry in _entries(content, "terms")]
    return recipe, terms


def _machine_problems(content: dict[str, Any]) -> Iterator[ConfigProblem]:
    if content.get("engine") == "ray":
        yield from _attempt("engine", require_ray)
    elif isinstance(device := content.get("device", "auto"), str):
        yield from _attempt("device", resolve_device, device)


def _pair_problems(content: dict[str, Any]) -> Iterator[ConfigProblem]:
    """Check whether pairs fit networks and data, in a configuration that is right otherwise."""
    config = RunConfig.model_validate(content)
    if config.pairs:
        components = RunComponents(config)
        for index, pair in enumerate(config.pairs):
            yield from _attempt(f"pairs.{index}", check_pair, pair, components)


def _entries(content: dict[str, Any], field: str) -> list[Any]:
    """Return the entries of a field that should be a list; none if it is not one."""
    entries = content.get(field)
    return entries if isinstance(entries, list) else []


def _attempt(where: str, check: Callable[..., object], *arguments: object) -> Iterator[ConfigProblem]:
    """Yield the error that a check raises."""
    try:
        check(*arguments)
    except InterpError as error:
        yield ConfigProblem(where, str(error))
