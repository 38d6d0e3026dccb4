"""What a run is made of, read from one YAML file and checked before anything is computed.

Names of explainers and metrics may carry parameters: `lime` or `{name: lime, samples_at_224: 500}`. Sizes, counts and
paths live here and nowhere in the code. `benchmarks.overrides` changes single values from the command line,
`benchmarks.validate` names all that is wrong at once, `benchmarks.schema` tells editors what may stand where.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence
from importlib.resources import files
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any, Literal

import yaml
from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    ValidationError,
    field_validator,
    model_serializer,
    model_validator,
)

from baselines import Explainer, explainers
from benchmarks.checkpoints import digest_of
from benchmarks.metrics import Metric, metrics
from benchmarks.named import Choice, Named, first_problem
from benchmarks.overrides import ConfigError, overridden
from benchmarks.places import Place, is_url, place
from benchmarks.plugins import load_plugin, registered_by
from benchmarks.rivals import RivalOptions, rivals
from benchmarks.stages import Stage, Training, trainings
from interp_core.datasets import DatasetConfig, datasets
from interp_core.errors import UnknownNameError
from interp_core.knowledge import Term, terms
from interp_core.registry import Registry
from interp_core.training import DEFAULT_TERMS, Recipe

# How a run is carried out, not what it computes: runs that differ in these alone have one configuration hash.
HOW = frozenset({"output", "engine", "ray"})
HIDDEN = "**********"
# Fields of a model that are written only where they say something else: runs without them stay what they were.
LATER: dict[str, Any] = {"stages": None, "rival": None, "fixed": [], "explained": True}


def _where(value: object) -> object:
    return Path(value) if isinstance(value, str) and not is_url(value) else value


Positive = Annotated[float, Field(gt=0)]
Output = Annotated[Path | str, BeforeValidator(_where)]


class Normalisation(BaseModel):
    """What images are normalised by.

    Fields:
        mean: per channel, in [0, 1] units.
        std: per channel, in [0, 1] units.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: tuple[float, float, float]
    std: tuple[Positive, Positive, Positive]


class ModelConfig(BaseModel):
    """One network of the run.

    Fields:
        name: how tables call it.
        backbone: timm name.
        kwargs: further arguments of `timm.create_model`.
        lap: whether LAP is attached before training.
        attach: arguments of `interp_core.attach`.
        checkpoint: file with trained weights of the backbone, or of the network with its LAP: safetensors, or a state
            dict of PyTorch.
        normalise: what its images are normalised by: "data" (mean and deviation of the training images), "backbone"
            (what timm says of it), or numbers. None for "backbone" where it comes with trained weights, else "data".
        stages: how it is trained, one after another; None for once, with the run's recipe and terms.
        rival: a rival of `benchmarks.rivals` on the backbone instead of LAP, by name with options; trained by losses of
            its own, and explained by `intrinsic` where it gives a map of itself.
        fixed: for ablations of LAP: "a" leaves attention off everywhere, "gates" below the head, whose blocks do not
            learn then.
        explained: whether it is explained and scored; else it is trained for its accuracy, and for the choice of
            images, which it must classify correctly like the others.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^\w[\w.-]*$")
    backbone: str
    kwargs: dict[str, Any] = {}
    lap: bool = False
    attach: dict[str, Any] = {}
    checkpoint: Path | None = None
    normalise: Literal["data", "backbone"] | Normalisation | None = None
    stages: tuple[Stage, ...] | None = Field(None, json_schema_extra={"minItems": 1})
    rival: Choice | None = None
    fixed: tuple[Literal["a", "gates"], ...] = ()
    explained: bool = True

    @field_validator("kwargs")
    @classmethod
    def _no_other_checkpoint(cls, kwargs: dict[str, Any]) -> dict[str, Any]:
        if "checkpoint_path" in kwargs:  # timm's way may unpickle
            raise ValueError("checkpoint_path is not taken here: use the model's own field checkpoint")
        return kwargs

    @field_validator("stages")
    @classmethod
    def _some(cls, stages: tuple[Stage, ...] | None) -> tuple[Stage, ...] | None:
        if stages == ():  # pydantic's own check would tell of this where a stage is wrong, too
            raise ValueError("give a stage at least, or leave stages out")
        return stages

    @model_validator(mode="after")
    def _one_method(self) -> ModelConfig:
        if self.lap and self.rival is not None:
            raise ValueError("lap and rival exclude each other: make them two models")
        if self.fixed and not self.lap:
            raise ValueError("fixed is of LAP networks: set lap: true, or leave fixed out")
        return self

    @model_serializer(mode="wrap")
    def _without_silence(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        found = {name: list(value) if name == "fixed" else value for name, value in write(self).items()}
        return {name: value for name, value in found.items() if name not in LATER or value != LATER[name]}


class RayConfig(BaseModel):
    """How cells are spread by Ray.

    Fields:
        address: of a running cluster; "auto" for the one this machine belongs to, None to start one here.
        workers: CPUs of a cluster started here; 0 for all.
        cpus: of each task. Its torch uses the run's `threads`, or one.
        gpus: of each task; 0.25 lets four tasks share one.
        retries: how often a task is started again when its worker dies.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str | None = None
    workers: int = Field(0, ge=0)
    cpus: float = Field(1.0, gt=0)
    gpus: float = Field(0.0, ge=0)
    retries: int = Field(3, ge=0)


class RunConfig(BaseModel):
    """All of a run.

    Fields:
        name: folder of the run under `output`.
        dataset: data set and its parameters.
        models: networks, trained with the same recipe and budget where they have no stages of their own.
        recipe: how they are trained.
        terms: knowledge given to LAP models; None for the defaults of `interp_core.fit`.
        explainers: contestants and controls.
        metrics: judges.
        images: how many images are explained; the first that every network classifies correctly.
        split: whose images these are, "test", or "val" for choosing settings without having seen the test images.
        shard: images per cell.
        gallery: images shown in the gallery.
        seeds: one training, and all that follows, for each.
        draws: seed of what explainers and metrics draw at random, the same for all trainings; None takes
            each training's own. Trainings on one frozen network are so judged by the same draws.
        smoothing: standard deviations in pixels; each scores all maps once more after a Gaussian blur.
        grids: cells a side; each scores all maps once more as means over such a grid.
        sharpening: exponents; each scores all maps once more with their magnitudes raised to it.
        metric_engine: "device" or "quantus" for every metric that has both; None leaves each metric its own.
        device: "auto", "cpu", "cuda" or any torch device.
        threads: CPU threads of torch; 0 leaves torch's choice (one in a task of Ray).
        batch_size: most images of a shard explained or scored at once; "auto" for all, halved whenever a GPU's memory
            does not hold them. Random draws differ between sizes, as they do between shards.
        keep_maps: how explanations are kept beside their scores. "float16" rounds them before they are scored, so that
            a run that was stopped ends with the same tables; "none" makes them again where a metric is added.
        engine: "local" for this process, "ray" for a cluster.
        ray: how the cluster is used.
        output: folder that holds the runs, or a URL that fsspec knows.
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
    split: Literal["test", "val"] = "test"
    shard: int = Field(16, ge=1)
    gallery: int = Field(6, ge=1)
    seeds: Annotated[tuple[int, ...], Field(min_length=1)] = (0,)
    draws: int | None = None
    smoothing: tuple[Annotated[float, Field(gt=0)], ...] = ()
    grids: tuple[Annotated[int, Field(ge=1)], ...] = ()
    sharpening: tuple[Annotated[float, Field(gt=0)], ...] = ()
    metric_engine: Literal["device", "quantus"] | None = None
    device: str = "auto"
    threads: int = Field(0, ge=0)
    batch_size: Annotated[int, Field(ge=1)] | Literal["auto"] = "auto"
    keep_maps: Literal["none", "float16", "float32"] = "float32"
    engine: Literal["local", "ray"] = "local"
    ray: RayConfig = RayConfig()
    output: Output = Path("results")
    plugins: tuple[str, ...] = ()

    @field_validator("models", "explainers", "metrics", "seeds", "smoothing", "grids", "sharpening")
    @classmethod
    def _distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [getattr(value, "name", value) for value in values]
        double = sorted({str(name) for name in names if names.count(name) > 1})
        if double:
            raise ValueError(f"given twice: {', '.join(double)}")
        return values

    @property
    def folder(self) -> Place:
        """Where this run lives."""
        return place(self.output) / self.name

    def described(self) -> dict[str, Any]:
        """As plain data, without the place of the results and without secrets."""
        return without_secrets(self.model_dump(mode="json", exclude={"output"}))

    def hash(self) -> str:
        """Of all that decides what is computed."""
        standing = {"split": "test", "draws": None}  # runs from before these fields stay what they were
        silent = {name for name, value in standing.items() if getattr(self, name) == value}
        return digest(self.model_dump(mode="json", exclude={*HOW, *silent}))


class Parts:
    """The objects a configuration names, built once: data set, terms, explainers, metrics, and stages of models."""

    def __init__(self, config: RunConfig) -> None:
        modules = [load_plugin(name) for name in config.plugins]
        self.dataset: DatasetConfig = config.dataset.build(datasets)
        self.terms: tuple[Term, ...] | None = (
            None if config.terms is None else tuple(choice.build(terms) for choice in config.terms)
        )
        self.explainers: dict[str, Explainer] = _build(config.explainers, explainers, modules)
        self.metrics: dict[str, Metric] = {
            name: _with_engine(metric, config.metric_engine)
            for name, metric in _build(config.metrics, metrics, modules).items()
        }
        for model in config.models:
            check_backbone(model)
            rival_options(model)
            if model.checkpoint is not None:
                digest_of(model.checkpoint)
        knowledge = DEFAULT_TERMS if self.terms is None else self.terms
        self.trainings: dict[str, tuple[Training, ...]] = {
            model.name: trainings(model, config.recipe, knowledge) for model in config.models
        }


def _build(choices: tuple[Named, ...], registry: Registry[Any], modules: list[ModuleType]) -> dict[str, Any]:
    """What is chosen by name, then what plugins bring."""
    brought = [Named(name=name) for module in modules for name in registered_by(module, registry)]
    named = {choice.name: choice for choice in (*brought, *choices)}
    order = [choice.name for choice in (*choices, *brought)]
    return {name: named[name].build(registry) for name in dict.fromkeys(order)}


def _with_engine(metric: Metric, engine: str | None) -> Metric:
    """The metric by this engine, if there is a choice."""
    if engine is None or not metric.has_reference():
        return metric
    return metric.model_copy(update={"engine": engine})


def check_backbone(model: ModelConfig) -> None:
    """Check that timm knows the backbone.

    Raises:
        UnknownNameError: it does not.
    """
    import timm

    if not timm.is_model(model.backbone):
        raise UnknownNameError("backbone", model.backbone, timm.list_models())


def rival_options(model: ModelConfig) -> RivalOptions | None:
    """Options of a model's rival, checked; None if it is none.

    Raises:
        UnknownNameError: no such rival.
        ConfigError: an option is unknown or out of range.
    """
    return None if model.rival is None else model.rival.checked("rival", rivals[model.rival.name].Options)


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
        return RunConfig.model_validate(overridden(content, sets))
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
        raise ConfigError(f"cannot read {path}: {' '.join(str(error).split())}") from error
    if not isinstance(content, dict):
        raise ConfigError(f"{path} must hold fields of a run such as 'dataset:', got {type(content).__name__}")
    return content


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


def without_secrets(content: dict[str, Any]) -> dict[str, Any]:
    """Fields of a configuration, or paths changed in one, with the salt of hashed ids hidden."""
    return {
        key: HIDDEN
        if value and key.split(".")[-1] == "salt"
        else without_secrets(value)
        if isinstance(value, dict)
        else value
        for key, value in content.items()
    }


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
