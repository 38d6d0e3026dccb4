"""Fields of the networks of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from benchmarks.config.choice import Choice
from interp_core.training import Recipe


class RegionSource(BaseModel):
    """Where the masks of a region come from.

    Fields:
        of: "mask" for the evidence of the image's class, or the name of a further mask of the training images, as
            "tag". Images whose mask is empty have none.
        share: of the training images that have such a mask, the part whose mask is used, in (0, 1]; at least one.
        draw: how they are drawn: "stratified" in the classes' proportions, or "random". Images that may show several
            classes are drawn at random. A smaller share is a part of a larger one.
        seed: of the draw; the seed of the training is added.
        outside: the complement of the mask instead.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    of: str = "mask"
    share: float = Field(1.0, gt=0, le=1)
    draw: Literal["stratified", "random"] = "stratified"
    seed: int = 0
    outside: bool = False


class Stage(BaseModel):
    """One `fit` of a network.

    Fields:
        recipe: how; None for the run's. Fields that are not given take the defaults of its mode, not the run's values.
        terms: knowledge of LAP networks; None for the run's.
        regions: masks that terms, or a rival's losses, speak of, by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: Recipe | None = None
    terms: tuple[Choice, ...] | None = None
    regions: dict[str, RegionSource] = {}


# Fields of a model that are written only where they say something else: runs without them stay what they were.
OMIT_IF_DEFAULT: dict[str, Any] = {"stages": None, "rival": None, "fixed": [], "explained": True}


Positive = Annotated[float, Field(gt=0)]


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
        return {
            name: value
            for name, value in found.items()
            if name not in OMIT_IF_DEFAULT or value != OMIT_IF_DEFAULT[name]
        }
