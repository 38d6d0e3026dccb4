"""Fields of the planted pairs of a run: a network that decides by a cue, and its twin that does not."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from benchmarks.config.fields import Name
from interp_core.datasets.synthetic.cues import CueKind


class PairConfig(BaseModel):
    """A user and its twin, both trained on from one network of the run.

    Both see the same images of digits, each with a cue of a class drawn at random. Labels follow the cue for the user
    and the digit for the twin. The pair is scored if swapping the cue proves both.

    Fields:
        name: name in tables, and of its networks.
        cue: kind of the cue, see `interp_core.datasets.synthetic.cues`.
        model: network of the run whose architecture, training stages and weights the pair starts from.
        agreement: share of the images on which the user's label follows the cue.
        train: number of training images.
        val: number of validation images.
        test: number of held-out images, for the proof and to be explained.
        budget: share of the epochs of each training stage of the network, rounded up.
        images: number of images to explain: the first that both networks classify correctly, with the cue of the digit.
        least_user: smallest share of held-out images on which the user's answer follows a swapped cue.
        most_twin: largest such share of the twin.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: Name
    cue: CueKind
    model: str
    agreement: float = Field(1.0, gt=0, le=1)
    train: int = Field(1000, ge=1)
    val: int = Field(100, ge=1)
    test: int = Field(300, ge=1)
    budget: float = Field(1.0, gt=0, le=1)
    images: int = Field(32, ge=1)
    least_user: float = Field(0.5, ge=0, le=1)
    most_twin: float = Field(0.2, ge=0, le=1)
