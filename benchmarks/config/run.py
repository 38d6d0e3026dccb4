"""Schema of a run, read from one YAML file and checked before anything is computed.

Names may carry parameters: `lime` or `{name: lime, samples_at_224: 500}`. Sizes, counts and paths are set here and
nowhere in the code. `overrides` changes single values from the command line, `benchmarks.plan.validate` reports all
errors at once, and `json_schema` describes the file to editors.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, field_validator

from benchmarks.config.choice import DatasetChoice, ExplainerChoice, MetricChoice, TermChoice
from benchmarks.config.fields import Name, Seed
from benchmarks.config.models import ModelConfig, NonEmpty
from benchmarks.config.pairs import PairConfig
from benchmarks.store.locations import Location, is_url, open_location
from benchmarks.store.provenance import digest
from interp_core.training import Recipe

# Fields that decide how a run is carried out, not what it computes. The hash leaves them out.
EXECUTION_FIELDS = frozenset({"output", "engine", "ray"})
HIDDEN = "**********"


def _path_unless_url(value: object) -> object:
    return Path(value) if isinstance(value, str) and not is_url(value) else value


Output = Annotated[Path | str, BeforeValidator(_path_unless_url)]


class RayConfig(BaseModel):
    """Settings of the Ray engine.

    Fields:
        address: address of a running cluster; "auto" for the one of this machine, None to start a local one.
        workers: CPUs of a local cluster; 0 for all.
        cpus: CPUs of each task. Torch uses the run's `threads` in it, or one.
        gpus: GPUs of each task; with 0.25, four tasks share one.
        retries: number of restarts of a task whose worker dies.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    address: str | None = None
    workers: int = Field(0, ge=0)
    cpus: float = Field(1.0, gt=0)
    gpus: float = Field(0.0, ge=0)
    retries: int = Field(3, ge=0)


class RunConfig(BaseModel):
    """Configuration of a run.

    Fields:
        name: folder of the run under `output`.
        dataset: data set and its parameters.
        models: networks. Those without stages of their own share recipe and budget.
        recipe: training recipe.
        terms: knowledge given to LAP models; None for the defaults of `interp_core.fit`.
        explainers: explainers to compare, controls included.
        metrics: metrics that score them.
        pairs: planted pairs of networks for the metric `pair_test`; without that metric they are not trained.
        images: number of images to explain: the first that every network classifies correctly.
        split: split of these images: "test", or "val" to choose settings without looking at the test images.
        shard: images per cell.
        gallery: number of images in the gallery.
        seeds: one training, and all that follows, for each.
        draws: seed of the random draws of explainers and metrics, the same for all trainings. None for the seed of
            each training. Needed where trainings that share a frozen network are to be compared under the same draws.
        smoothing: standard deviations in pixels; for each, all maps are also scored after a Gaussian blur.
        grids: cells per side; for each, all maps are also scored as means over such a grid.
        sharpening: exponents; for each, all maps are also scored with their magnitudes raised to it.
        metric_engine: "device" or "quantus" for every metric that has both; None for the default of each metric.
        device: "auto", "cpu", "cuda" or any torch device.
        threads: CPU threads of torch; 0 for torch's default (one in a task of Ray).
        batch_size: maximum number of images of a shard that are explained or scored at once. "auto" starts with all
            and halves after a GPU runs out of memory. Random draws depend on it, as on the shard size.
        keep_maps: format in which explanations are stored. "float16" rounds them before they are scored, so that an
            interrupted run ends with the same tables. With "none" they are computed again for an added metric.
        engine: "local" for this process, "ray" for a cluster.
        ray: settings of the cluster.
        output: folder that holds the runs, or a URL that fsspec knows.
        plugins: Python files or installed modules that register explainers or metrics. Those join the run without
            being named.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name = "first-light"
    dataset: DatasetChoice
    models: NonEmpty[ModelConfig]
    recipe: Recipe = Recipe()
    terms: tuple[TermChoice, ...] | None = None
    explainers: NonEmpty[ExplainerChoice]
    metrics: NonEmpty[MetricChoice]
    pairs: tuple[PairConfig, ...] = ()
    images: int = Field(32, ge=1)
    split: Literal["test", "val"] = "test"
    shard: int = Field(16, ge=1)
    gallery: int = Field(6, ge=1)
    seeds: NonEmpty[Seed] = (0,)
    draws: Seed | None = None
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

    @field_validator("models", "explainers", "metrics", "pairs", "seeds", "smoothing", "grids", "sharpening")
    @classmethod
    def _check_distinct(cls, values: tuple[Any, ...]) -> tuple[Any, ...]:
        names = [str(getattr(value, "name", value)) for value in values]
        repeated = sorted({name for name in names if names.count(name) > 1})
        if repeated:
            raise ValueError(f"given twice: {', '.join(repeated)}")
        return values

    @property
    def folder(self) -> Location:
        """Folder of this run."""
        return open_location(self.output) / self.name

    def to_record(self) -> dict[str, Any]:
        """Return the configuration as plain data, without the output folder and without secrets."""
        return without_secrets(self.model_dump(mode="json", exclude={"output"}))

    def hash(self) -> str:
        """Return the hash of all fields that decide what is computed."""
        defaults = {
            "split": "test",
            "draws": None,
            "pairs": (),
        }  # younger fields: left out, so that hashes of older runs stay
        omitted = {name for name, value in defaults.items() if getattr(self, name) == value}
        return digest(self.model_dump(mode="json", exclude={*EXECUTION_FIELDS, *omitted}))


def without_secrets(content: dict[str, Any]) -> dict[str, Any]:
    """Return fields or assignments of a configuration with the salt of hashed ids hidden."""
    return {
        key: HIDDEN
        if value and key.split(".")[-1] == "salt"
        else without_secrets(value)
        if isinstance(value, dict)
        else value
        for key, value in content.items()
    }
