"""What a run is made of, read from one YAML file and checked before anything is computed.

Names of explainers and metrics may carry parameters: `lime` or `{name: lime, samples_at_224: 500}`. Sizes, counts and
paths live here and nowhere in the code. `benchmarks.config.overrides` changes single values from the command line,
`benchmarks.plan.validate` names all that is wrong at once, `benchmarks.config.json_schema` tells editors what may
stand where.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    BeforeValidator,
    ConfigDict,
    Field,
    field_validator,
)

from benchmarks.config.choice import Choice
from benchmarks.config.models import ModelConfig
from benchmarks.store.locations import Location, is_url, open_location
from benchmarks.store.provenance import digest
from interp_core.training import Recipe

# How a run is carried out, not what it computes: runs that differ in these alone have one configuration hash.
EXECUTION_FIELDS = frozenset({"output", "engine", "ray"})
HIDDEN = "**********"


def _where(value: object) -> object:
    return Path(value) if isinstance(value, str) and not is_url(value) else value


Output = Annotated[Path | str, BeforeValidator(_where)]


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
    def folder(self) -> Location:
        """Where this run lives."""
        return open_location(self.output) / self.name

    def described(self) -> dict[str, Any]:
        """As plain data, without the place of the results and without secrets."""
        return without_secrets(self.model_dump(mode="json", exclude={"output"}))

    def hash(self) -> str:
        """Of all that decides what is computed."""
        standing = {"split": "test", "draws": None}  # runs from before these fields stay what they were
        silent = {name for name, value in standing.items() if getattr(self, name) == value}
        return digest(self.model_dump(mode="json", exclude={*EXECUTION_FIELDS, *silent}))


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
