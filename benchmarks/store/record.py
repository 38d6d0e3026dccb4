"""The record of a run: the content of run.json, field by field.

`RunRecord.model_json_schema()` gives its JSON schema. `benchmarks.run.record` fills it in during a run, the store
writes and reads it, and the report, comparisons and merging use it.

A field that has not been set is not written. When a file is read, a missing field and a null are the same, and fields
that this version does not know are kept.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from pydantic import BaseModel, ConfigDict, Field, SerializerFunctionWrapHandler, model_serializer, model_validator

from benchmarks.store.json_text import json_text

# An integer in a file stays an integer.
Number = int | float


class Entry(BaseModel):
    """Base of a record and its entries: unknown fields are kept, a null takes the default."""

    model_config = ConfigDict(extra="allow", use_attribute_docstrings=True)

    @model_validator(mode="before")
    @classmethod
    def _drop_nulls(cls, content: Any) -> Any:
        if not isinstance(content, Mapping):
            return content
        fields = {field.alias or name: field for name, field in cls.model_fields.items()}
        needs_value = {name for name, field in fields.items() if field.default is not None}
        return {name: value for name, value in content.items() if value is not None or name not in needs_value}

    def to_dict(self) -> dict[str, Any]:
        """Return the fields that have been set, as plain data."""
        return self.model_dump(by_alias=True, exclude_unset=True)


class Problem(Entry):
    """Something that went wrong or was left out."""

    where: str = ""
    """What it concerns, such as "lap, lime" or "data set, test images"."""
    what: str = ""
    """The error or the reason, in one line."""
    traceback: str | None = None
    """Python's traceback, for a failed cell."""
    cell: str | None = None
    """Key of the failed cell; of the first one where several failed alike."""
    cells: int = 0
    """Number of cells that failed alike."""


class GitState(Entry):
    """The checkout whose code made the results."""

    commit: str | None = None
    """Full hash of the commit."""
    dirty: bool = False
    """Whether the code had uncommitted changes."""


class DatasetRecord(Entry):
    """The data set and the images that were explained. The data set's own settings are kept as further fields."""

    findings: dict[str, int] = Field(default_factory=dict)
    """Number of defects of the annotations, by kind; `interp-bench data check` lists them."""
    name: str = ""
    """Registered name of the data set."""
    title: str = ""
    """Its name in text."""
    classes: list[str] = Field(default_factory=list)
    """Names of the classes, by index."""
    image_size: int | None = None
    """Height and width of the images, in pixels."""
    split: str | None = None
    """Split the explained images belong to: "test" or "val"."""
    considered: int | None = None
    """Number of images of that split."""
    evaluated: int | None = None
    """Number of images that every network classifies correctly and that were explained."""
    areas: dict[str, float] = Field(default_factory=dict)
    """Share of each explained image that its evidence mask covers, by image id."""
    unreadable: dict[str, dict[str, str]] = Field(default_factory=dict)
    """Images that could not be read: split, then image id, then reason."""

    @model_serializer(mode="wrap")
    def _put_settings_first(self, serialise: SerializerFunctionWrapHandler) -> dict[str, Any]:
        return {**(self.model_extra or {}), **serialise(self)}


class ExplainerRecord(Entry):
    """An explainer of the run."""

    name: str = ""
    """Registered name."""
    title: str = ""
    """Name in tables and figures."""
    kind: str = "external"
    """One of "intrinsic", "amortised", "optimised", "external" and "control"."""
    signed: bool = True
    """Whether its maps have negative values."""
    source: str = ""
    """Paper or code it follows."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Parameters it ran with."""
    caveats: dict[str, str] = Field(default_factory=dict)
    """Reasons to doubt its maps, by name of the model."""


class MetricRecord(Entry):
    """A score of the run; a metric may give several."""

    name: str = ""
    """Name of the score."""
    metric: str = ""
    """Registered name of the metric that gives it."""
    title: str = ""
    """Name in tables and figures."""
    family: str = "descriptor"
    """One of "localisation", "faithfulness", "robustness", "check", "descriptor" and "cost"."""
    direction: str = "none"
    """The better direction: "higher", "lower" or "none"."""
    low: Number | None = None
    """Smallest possible value; null where there is none."""
    high: Number | None = None
    """Largest possible value; null where there is none."""
    ranked: bool = False
    """Whether explainers are ranked by it."""
    passing: Number | None = None
    """Bound that the mean of a check has to be on the better side of."""
    settings: str = ""
    """Parameters of the metric, as text."""


class TransformRecord(Entry):
    """A transform that maps were also scored under, such as a blur."""

    name: str = ""
    """Name, which follows "@" in the explainer column of the scores."""
    title: str = ""
    """Name in tables and figures."""
    kind: str = ""
    """What it does: "smooth", "grid" or "sharp"."""
    value: Number | None = None
    """How strongly: pixels, cells a side or exponent."""


class AuditRecord(Entry):
    """A comparison of one metric's engine with Quantus on a few images."""

    metric: str = ""
    """Registered name of the metric."""
    model: str = ""
    """Name of the model."""
    explainer: str = ""
    """Name of the explainer whose maps were scored again."""
    images: int | None = None
    """Number of images."""
    engine: str | None = None
    """Name of the engine compared with; not written, since it is always Quantus."""
    largest: Number | None = None
    """Largest difference between the engines; null where there is none to give."""
    score: str = ""
    """Name of the score with the largest difference."""
    what: str = ""
    """Reason why there is no difference."""


class StageRecord(Entry):
    """A stage of a network's training."""

    mode: str = ""
    """What learned: see `interp_core.training.Recipe`."""
    terms: list[str] = Field(default_factory=list)
    """Names of the loss terms."""
    regions: dict[str, int] = Field(default_factory=dict)
    """Number of images with a mask, by name of the region."""
    epochs: int | None = None
    """Epochs trained."""
    steps: int | None = None
    """Optimiser steps."""
    seconds: Number | None = None
    """Duration, validation included."""
    step_seconds: Number | None = None
    """Median duration of a step, without validation."""
    val_accuracy: Number | None = None
    """Accuracy on validation images at its end."""


class ModelRecord(Entry):
    """A network of the run, of one training seed."""

    name: str = ""
    """Name of the model in the configuration."""
    title: str = ""
    """Name in tables and figures."""
    backbone: str = ""
    """Name of the backbone, as timm has it."""
    lap: bool = False
    """Whether LAP is attached."""
    rival: str | None = None
    """Registered name of the rival; null where there is none."""
    seed: int | None = None
    """Seed of its training."""
    train_seconds: Number | None = None
    """Duration of its training, all stages."""
    val_accuracy: Number | None = None
    """Accuracy on validation images."""
    test_accuracy: Number | None = None
    """Accuracy on test images."""
    parameters: int | None = None
    """Number of parameters."""
    stages: list[StageRecord] = Field(default_factory=list)
    """The stages of its training."""
    grid: list[int] = Field(default_factory=list)
    """Height and width of the last feature map."""
    layer: str = ""
    """Name of the layer that gives that feature map."""
    first: Number | None = None
    """Centre of the feature map's first cell on the image, in pixels; None where it differs by axis."""
    pitch: Number | None = None
    """Distance of the feature map's cells on the image, in pixels; None where it differs by axis."""
    runtime: str | None = None
    """Engine of its passes without gradient: "openvino", "flat" or "network"."""
    runtimes_refused: dict[str, str] = Field(default_factory=dict)
    """Why each faster engine was not used, by its name."""


class PairRecord(Entry):
    """A pair of networks for the pair test: a user, which decides by a cue, and its twin, which does not."""

    name: str = ""
    """Name of the pair; image ids of its scores begin with it."""
    cue: str = ""
    """Kind of the cue."""
    model: str = ""
    """Name of the model whose architecture and training both have."""
    seed: int | None = None
    """Seed of the training."""
    held_out: int | None = None
    """Number of held-out images of the proof."""
    user_accuracy: Number | None = None
    """Accuracy of the user on them, with the cue of their class."""
    twin_accuracy: Number | None = None
    """The same of the twin."""
    user_follows: Number | None = None
    """Share of the user's correct answers that become the class of a swapped cue."""
    twin_follows: Number | None = None
    """The same of the twin."""
    least_user: Number | None = None
    """Smallest such share of the user that proves the pair."""
    most_twin: Number | None = None
    """Largest such share of the twin that proves the pair."""
    images: int | None = None
    """Number of images that are scored."""
    refused: str = ""
    """Reason why the pair is not scored; empty if it is."""


class DegenerateRecord(Entry):
    """Number of maps of one model and explainer that are constant or not finite."""

    model: str = ""
    """Name of the model."""
    explainer: str = ""
    """Name of the explainer."""
    degenerate: int = 0
    """Number of such maps."""
    maps: int = 0
    """Number of all maps."""


class MergedRecord(Entry):
    """One of the runs that a merged run was made of."""

    name: str | None = None
    """Its name."""
    config_hash: str | None = None
    """Hash of its configuration."""
    started: str | None = None
    """When it started."""
    finished: str | None = None
    """When it ended; null if it did not."""
    git: GitState | None = None
    """The checkout that made it."""


class RunRecord(Entry):
    """Content of run.json: what was run, on what, when, and what went wrong."""

    layout: int | None = Field(default=None, alias="schema")
    """Number of the layout of the run's files. A version of the project refuses layouts newer than its own."""
    name: str = ""
    """Name of the run."""
    started: str | None = None
    """When it started: UTC, ISO 8601."""
    finished: str | None = None
    """When it ended; null while it is not finished."""
    config: dict[str, Any] = Field(default_factory=dict)
    """The configuration, with all defaults."""
    config_hash: str = ""
    """Hash of the configuration."""
    overrides: dict[str, Any] = Field(default_factory=dict)
    """What the command line changed in the configuration file."""
    versions: dict[str, str] = Field(default_factory=dict)
    """Versions of the project and of the libraries behind the numbers."""
    python: str | None = None
    """Version of Python."""
    platform: str | None = None
    """Operating system and processor architecture."""
    device: str | None = None
    """Name of the GPU, or "cpu"."""
    threads: int | None = None
    """Threads of torch."""
    git: GitState | None = None
    """The checkout whose code ran; null where there is none."""
    seeds: list[int] = Field(default_factory=list)
    """Seeds of the trainings."""
    dataset: DatasetRecord = Field(default_factory=DatasetRecord)
    """The data set and the images that were explained."""
    explainers: list[ExplainerRecord] = Field(default_factory=list)
    """The explainers, in the order of the configuration."""
    metrics: list[MetricRecord] = Field(default_factory=list)
    """The scores, in the order of the configuration."""
    ablations: list[TransformRecord] = Field(default_factory=list)
    """Transforms that maps were also scored under."""
    audit: list[AuditRecord] = Field(default_factory=list)
    """Comparisons with Quantus."""
    models: list[ModelRecord] = Field(default_factory=list)
    """The networks: every model, once for each seed."""
    pairs: list[PairRecord] = Field(default_factory=list)
    """The pairs of networks, each once for each seed."""
    cells: list[str] = Field(default_factory=list)
    """Keys of the cells that belong to the run."""
    times: dict[str, Number] = Field(default_factory=dict)
    """Seconds by what they were spent on; "total" is the duration of the run."""
    problems: list[Problem] = Field(default_factory=list)
    """What went wrong or was left out."""
    degenerate: list[DegenerateRecord] = Field(default_factory=list)
    """Numbers of degenerate maps."""
    computed: int | None = None
    """Number of cells that the last call computed."""
    reused: int | None = None
    """Number of cells that the last call found in the store."""
    merged: list[MergedRecord] = Field(default_factory=list)
    """The runs that a merged run was made of."""
    amendments: list[str] = Field(default_factory=list)
    """What was changed in this record after the run, in words."""

    def to_json(self) -> str:
        """Return the text of run.json."""
        return json_text(self.to_dict(), indent=2)
