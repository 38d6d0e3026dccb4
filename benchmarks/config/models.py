"""Fields of the networks of a run."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal, TypeVar

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    SerializerFunctionWrapHandler,
    field_validator,
    model_serializer,
    model_validator,
)

from benchmarks.config.choice import RivalChoice, TermChoice
from benchmarks.config.errors import complete_error
from benchmarks.config.fields import Name
from interp_core.errors import UnknownNameError
from interp_core.training import Recipe

T = TypeVar("T")


def _check_not_empty(values: tuple[T, ...]) -> tuple[T, ...]:
    if not values:
        raise ValueError("give at least one")
    return values


# Unlike `min_length`, it says nothing where an entry is wrong.
NonEmpty = Annotated[tuple[T, ...], AfterValidator(_check_not_empty), Field(json_schema_extra={"minItems": 1})]
Positive = Annotated[float, Field(gt=0)]


class RegionSource(BaseModel):
    """Source of the masks of a region.

    Fields:
        of: "mask" for the evidence of the image's class, or the name of another mask of the training images, such as
            "tag". An empty mask counts as none.
        share: fraction of the training images with such a mask whose mask is used, in (0, 1]; at least one image.
        draw: "stratified" to draw images in the proportions of the classes, or "random". Multi-label images are always
            drawn at random. A smaller share is a subset of a larger one.
        seed: seed of the draw; the seed of the training is added.
        outside: whether to use the complement of the mask.
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
        recipe: training recipe; None for the run's. Fields that are not given take the defaults of its own mode, not
            the values of the run.
        terms: knowledge for LAP networks; None for the run's.
        regions: sources of the masks that terms or a rival's losses use, by name.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    recipe: Recipe | None = None
    terms: tuple[TermChoice, ...] | None = None
    regions: dict[str, RegionSource] = {}


# Fields that are written only where they differ from the default, so that hashes of older runs stay the same.
OMIT_IF_DEFAULT: dict[str, Any] = {"stages": None, "rival": None, "fixed": [], "explained": True}


class Normalisation(BaseModel):
    """Mean and standard deviation that images are normalised with.

    Fields:
        mean: per channel, in [0, 1] units.
        std: per channel, in [0, 1] units.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    mean: tuple[float, float, float]
    std: tuple[Positive, Positive, Positive]


class ModelConfig(BaseModel):
    """One network of a run.

    Fields:
        name: name in tables.
        backbone: timm name.
        kwargs: further arguments of `timm.create_model`.
        lap: whether to attach LAP before training.
        attach: arguments of `interp_core.attach`.
        checkpoint: file with trained weights of the backbone, or of the network with its LAP: safetensors, or a state
            dict of PyTorch.
        normalise: normalisation of the images: "data" (mean and deviation of the training images), "backbone" (values
            of timm), or numbers. None for "backbone" where trained weights are loaded, else "data".
        stages: stages of the training, in order; None for one stage with the run's recipe and terms.
        rival: a method of `benchmarks.rivals` on the backbone in place of LAP, by name with options. It is trained with
            its own losses; if it has a map of its own, the explainer `intrinsic` returns it.
        fixed: for ablations of LAP: "a" keeps attention off everywhere; "gates" keeps it off below the head, whose
            blocks are not trained then.
        explained: whether to explain and score the network. If not, it is only trained, for its accuracy and for the
            choice of images, which all networks must classify correctly.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    backbone: str
    kwargs: dict[str, Any] = {}
    lap: bool = False
    attach: dict[str, Any] = {}
    checkpoint: Path | None = None
    normalise: Literal["data", "backbone"] | Normalisation | None = None
    stages: NonEmpty[Stage] | None = None
    rival: RivalChoice | None = None
    fixed: tuple[Literal["a", "gates"], ...] = ()
    explained: bool = True

    @field_validator("backbone")
    @classmethod
    def _check_backbone(cls, name: str) -> str:
        import timm

        if not timm.is_model(name):
            raise complete_error(str(UnknownNameError("backbone", name, timm.list_models())))
        return name

    @field_validator("kwargs")
    @classmethod
    def _refuse_checkpoint_path(cls, kwargs: dict[str, Any]) -> dict[str, Any]:
        if "checkpoint_path" in kwargs:  # timm may unpickle the file
            raise ValueError("checkpoint_path is not allowed here: use the field checkpoint of the model")
        return kwargs

    @model_validator(mode="after")
    def _check_combinations(self) -> ModelConfig:
        if self.lap and self.rival is not None:
            raise ValueError("lap and rival exclude each other: make them two models")
        if self.fixed and not self.lap:
            raise ValueError("fixed is for LAP networks: set lap: true, or leave fixed out")
        return self

    @model_serializer(mode="wrap")
    def _omit_defaults(self, write: SerializerFunctionWrapHandler) -> dict[str, Any]:
        fields = {name: list(value) if name == "fixed" else value for name, value in write(self).items()}
        return {
            name: value
            for name, value in fields.items()
            if name not in OMIT_IF_DEFAULT or value != OMIT_IF_DEFAULT[name]
        }
