"""What a run is made of, read from one YAML file and checked before anything is computed.

Names of explainers and metrics may carry parameters: `lime` or `{name: lime, samples_at_224: 500}`. Sizes, counts and
paths live here and nowhere in the code.
"""

from __future__ import annotations

import hashlib
import json
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, field_validator

from baselines import Explainer, explainers
from benchmarks.metrics import Metric, metrics
from benchmarks.plugins import load_plugin, registered_by
from interp_core.datasets import DatasetConfig, datasets
from interp_core.errors import InterpError, UnknownNameError
from interp_core.knowledge import Term, terms
from interp_core.registry import Registry
from interp_core.training import Recipe


class ConfigError(InterpError):
    """A configuration that cannot be run."""


class Named(BaseModel):
    """A registered thing and its parameters."""

    model_config = ConfigDict(extra="allow", frozen=True)

    name: str

    def build(self, registry: Registry[Any]) -> Any:
        """The object, its parameters checked by its own class.

        Raises:
            UnknownNameError: no such name.
            ConfigError: a parameter is unknown or out of range.
        """
        try:
            return registry[self.name](**(self.model_extra or {}))
        except ValidationError as error:
            raise ConfigError(f"{registry.kind} {self.name}: {first_problem(error)}") from error


def _named(value: object) -> object:
    return {"name": value} if isinstance(value, str) else value


Choice = Annotated[Named, BeforeValidator(_named)]


class ModelConfig(BaseModel):
    """One network of the run.

    Fields:
        name: how tables call it.
        backbone: timm name.
        kwargs: further arguments of `timm.create_model`.
        lap: whether LAP is attached before training.
        attach: arguments of `interp_core.attach`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^\w[\w.-]*$")
    backbone: str
    kwargs: dict[str, Any] = {}
    lap: bool = False
    attach: dict[str, Any] = {}


class RunConfig(BaseModel):
    """All of a run.

    Fields:
        name: folder of the run under `output`.
        dataset: data set and its parameters.
        models: networks, trained with the same recipe and budget.
        recipe: how they are trained.
        terms: knowledge given to LAP models; None for the defaults of `interp_core.fit`.
        explainers: contestants and controls.
        metrics: judges.
        images: how many test images are explained; the first that every network classifies correctly.
        shard: images per cell.
        gallery: images shown in the gallery.
        seeds: one training, and all that follows, for each.
        device: "auto", "cpu", "cuda" or any torch device.
        threads: CPU threads of torch; 0 leaves torch's choice.
        output: folder that holds the runs.
        plugins: Python files or installed modules that register explainers or metrics of their own; what they register
            joins the run without being named.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field("first-light", pattern=r"^\w[\w.-]*$")
    dataset: Choice
    models: Annotated[tuple[ModelConfig, ...], Field(min_length=1)]
    recipe: Recipe = Recipe()
    terms: tuple[Choice, ...] | None = None
    explainers: Annotated[tuple[Choice, ...], Field(min_length=1)]
    metrics: Annotated[tuple[Choice, ...], Field(min_length=1)]
    images: int = Field(32, ge=1)
    shard: int = Field(16, ge=1)
    gallery: int = Field(6, ge=1)
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    device: str = "auto"
    threads: int = Field(0, ge=0)
    output: Path = Path("results")
    plugins: tuple[str, ...] = ()

    @field_validator("models", "explainers", "metrics", "seeds")
    @classmethod
    def _distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [getattr(value, "name", value) for value in values]
        double = sorted({str(name) for name in names if names.count(name) > 1})
        if double:
            raise ValueError(f"given twice: {', '.join(double)}")
        return values

    @property
    def folder(self) -> Path:
        """Where this run lives."""
        return self.output / self.name


class Parts:
    """The objects a configuration names, built once: data set, terms, explainers, metrics by name."""

    def __init__(self, config: RunConfig) -> None:
        modules = [load_plugin(name) for name in config.plugins]
        self.dataset: DatasetConfig = config.dataset.build(datasets)
        self.terms: tuple[Term, ...] | None = (
            None if config.terms is None else tuple(choice.build(terms) for choice in config.terms)
        )
        self.explainers: dict[str, Explainer] = _build(config.explainers, explainers, modules)
        self.metrics: dict[str, Metric] = _build(config.metrics, metrics, modules)
        for model in config.models:
            _check_backbone(model)


def _build(choices: tuple[Named, ...], registry: Registry[Any], modules: list[ModuleType]) -> dict[str, Any]:
    """What is chosen by name, then what plugins bring."""
    brought = [Named(name=name) for module in modules for name in registered_by(module, registry)]
    named = {choice.name: choice for choice in (*brought, *choices)}
    order = [choice.name for choice in (*choices, *brought)]
    return {name: named[name].build(registry) for name in dict.fromkeys(order)}


def _check_backbone(model: ModelConfig) -> None:
    import timm

    if not timm.is_model(model.backbone):
        raise UnknownNameError("backbone", model.backbone, timm.list_models())


def load_config(path: Path, changes: dict[str, Any] | None = None) -> RunConfig:
    """Read and check a YAML file.

    Args:
        path: the file.
        changes: top-level fields that replace the file's.

    Raises:
        ConfigError: the file cannot be read, or a field is unknown, missing, of the wrong type or out of range.
    """
    try:
        content = yaml.safe_load(path.read_text())
    except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold fields of a run such as 'dataset:', got {type(content).__name__}")
    try:
        return RunConfig.model_validate(content | (changes or {}))
    except ValidationError as error:
        raise ConfigError(f"{path}: {first_problem(error)}") from error


def presets() -> dict[str, Path]:
    """Configurations that come with the package, by name."""
    folder = Path(str(files("benchmarks") / "configs"))
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


def first_problem(error: ValidationError) -> str:
    """The first thing pydantic found, in one line: where, what, and what was given."""
    detail = error.errors()[0]
    where = ".".join(str(part) for part in detail["loc"]) or "configuration"
    more = f" (and {error.error_count() - 1} more)" if error.error_count() > 1 else ""
    given = "" if detail["type"] in ("missing", "extra_forbidden") else f", got {detail['input']!r}"
    return f"{where}: {detail['msg']}{given}{more}"


def digest(*parts: Any) -> str:
    """Short content hash of anything that can be written as JSON."""
    text = json.dumps(parts, sort_keys=True, default=_plain)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _plain(value: object) -> Any:
    if isinstance(value, BaseModel):
        return {"name": getattr(value, "name", ""), **value.model_dump(mode="json")}
    return str(value)


def resolve_device(name: str) -> str:
    """The best device at hand for "auto"; others are checked.

    Raises:
        ConfigError: torch has no such device here.
    """
    import torch

    if name == "auto":
        return "cuda" if torch.cuda.is_available() else "cpu"
    try:
        torch.empty(1, device=name)
    except (RuntimeError, AssertionError) as error:
        raise ConfigError(f"device {name!r} cannot be used: {str(error).splitlines()[0]}") from error
    return name
