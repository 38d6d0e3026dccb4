"""Settings of a pair whose networks and images lie in files."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from benchmarks.config.choice import ExplainerChoice
from benchmarks.config.fields import Name
from benchmarks.config.load import parse
from benchmarks.config.models import ModelConfig, NonEmpty, Normalisation, Stage


class PasteSettings(BaseModel):
    """Intervention that proves a pair.

    Fields:
        column: column of the CSV file that selects the images to paste onto.
        value: its value, as text.
        held_out: number of images that the networks were not trained on; None for all.
        seed: of `torch.randperm`, whose first numbers are the held-out images.
        least_user: smallest share of the user's other answers that become the class of the cue.
        most_twin: largest such share of the twin.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    column: str
    value: str
    held_out: int | None = Field(None, ge=1)
    seed: int = 0
    least_user: float = Field(0.5, ge=0, le=1)
    most_twin: float = Field(0.2, ge=0, le=1)


class LapFit(BaseModel):
    """Fit of LAP on both networks, whose weights stay frozen.

    Fields:
        attach: arguments of `interp_core.attach`.
        stages: stages of the fit; none leaves LAP as it was attached.
        images: number of training images, without those that show a mask.
        seed: of the draw of these images, and of the fit.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    attach: dict[str, Any] = {}
    stages: tuple[Stage, ...] = ()
    images: int = Field(800, ge=1)
    seed: int = 0


class FilePairSettings(BaseModel):
    """Settings of a pair whose networks and images lie in files.

    Fields:
        name: of the files that are written.
        backbone: timm's name of both networks.
        classes: number of classes of the weights.
        kwargs: further arguments of `timm.create_model`.
        normalise: mean and std of the images that the weights are for.
        index: CSV file in the folder of the images.
        image: its column of the images.
        mask: its column of the cue's masks; images with a mask are explained.
        size: side in pixels that images are squashed to.
        target: class that the cue speaks for, which is explained.
        proof: intervention that proves the pair.
        lap: fit of LAP; None for no explainers that need it.
        explainers: explainers, with parameters.
        floor: see `PairTest`.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    backbone: str
    classes: int = Field(ge=2)
    kwargs: dict[str, Any] = {}
    normalise: Normalisation
    index: str = "index.csv"
    image: str = "file"
    mask: str
    size: int = Field(224, ge=16)
    target: int = Field(0, ge=0)
    proof: PasteSettings
    lap: LapFit | None = None
    explainers: NonEmpty[ExplainerChoice]
    floor: float = Field(0.01, gt=0, lt=1)

    def model(self, weights: Path, *, lap: bool) -> ModelConfig:
        """Return one network as a run configures it."""
        fields = {
            "name": "lap" if lap else "plain", "backbone": self.backbone, "kwargs": self.kwargs, "lap": lap,
            "attach": self.lap.attach if lap and self.lap else {}, "normalise": self.normalise, "checkpoint": weights,
            "stages": (self.lap.stages or None) if lap and self.lap else None,
        }  # fmt: skip
        return parse(ModelConfig, fields, "the network")
