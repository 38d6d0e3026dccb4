"""How to train: all numbers of a training, with defaults for each of the three ways to train.

Limits: the schedule is made for all epochs, so a run that early stopping ends has not seen its low rates.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from interp_core.knowledge import Absence, Area, Necessity, Order, Presence, Removal, Sufficiency, Term

DEFAULT_TERMS: tuple[Term, ...] = (Presence(weight=0.3), Absence(weight=0.3), Area(weight=1.0))

# What a refined map is to mean: it alone keeps the decision, the rest loses it, it is no larger than that takes; so it
# is wherever it is cut; and what it says of a place is what the decision loses without it.
MAP_TERMS: tuple[Term, ...] = (
    Sufficiency(weight=1.0),
    Necessity(weight=1.0),
    Area(weight=4.0, low=0.01, high=0.01, form="linear", finest=True),
    Order(weight=1.0),
    Removal(weight=10.0),
)

Mode = Literal["scratch", "finetune", "frozen"]

# What a mode changes in the defaults of `Recipe`.
MODES: dict[str, dict[str, Any]] = {
    "scratch": {},
    "finetune": {"epochs": 5, "learning_rate": 1e-3, "backbone_rate": 0.1, "fixed_norms": True, "clip": 1.0},
    "frozen": {"epochs": 5, "learn_gates": False, "start_a": None},
}


class Recipe(BaseModel):
    """How to train; AdamW under a one-cycle schedule. Fields that are not given take the defaults of the mode.

    Fields:
        mode: "scratch" for random weights; "finetune" for a trained backbone, which learns slowly; "frozen" for a
            trained backbone that stays as it is: only what the model owns outside its `backbone` learns.
        epochs: passes over the training images; 0 leaves the network as it is.
        batch_size: images per step, over all processes.
        accumulate: parts a process takes its share of a batch in, for less memory; the gradient is that of the whole
            batch, but for what batch norms and terms that compare images see of it.
        learning_rate: peak of the schedule.
        backbone_rate: what the learning rate of the backbone is multiplied by; a model without one is all backbone.
        warm_up: share of the steps in which the rate rises, in (0, 1).
        weight_decay: decoupled, on weights of two or more dimensions.
        clip: largest L2 norm of the gradient of all parameters together; None for no limit.
        precision: of the forward pass: "fp32", or mixed with "bf16" or (GPU only) "fp16"; weights stay single.
        fixed_norms: batch norms of the backbone keep their running statistics and use them.
        learn_gates: whether the gates below the head learn. Where neither they nor the backbone do, features take no
            graph, and a step costs little more than a forward pass.
        patience: epochs without a better validation that end the training, the best weights put back; None for all.
        metric: what validation is judged by: "loss", all terms included, or "accuracy".
        shift: largest random shift in pixels, edges repeated; 0 for none.
        flip: whether every other image, by chance, is mirrored left to right.
        crop: least share of an image's area that a random crop shows, at full size, in (0, 1]; 1 for none.
        mosaics: share of the images that are shown as one quarter of a mosaic with three others, halved, their target
            kept. A map that learns from single objects need only find the object; here it must find the class. For one
            class an image and without regions.
        answers: whether terms speak of the class that the model itself finds likeliest in what it is shown, crop or
            mosaic, instead of the target. For one class an image, and a model that does not learn to classify.
        start_a: value given to every `a` that is 0 when training starts, since its gradient vanishes there. Started at
            2, attention settles on few positions before the scorers know the class; from 0.5 it sharpens as they learn.
            None leaves them: a network whose attention is off then keeps its function to the bit.
        channels_last: memory format of images and weights; quicker on most CPUs and GPUs.
        seed: of the order of images, of shifts, flips, crops and mosaics, and of what terms draw.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    mode: Mode = "scratch"
    epochs: int = Field(10, ge=0)
    batch_size: int = Field(64, ge=2)
    accumulate: int = Field(1, ge=1)
    learning_rate: float = Field(4e-3, gt=0)
    backbone_rate: float = Field(1.0, gt=0)
    warm_up: float = Field(0.3, gt=0, lt=1)
    weight_decay: float = Field(0.05, ge=0)
    clip: float | None = Field(None, gt=0)
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"
    fixed_norms: bool = False
    learn_gates: bool = True
    patience: int | None = Field(None, ge=1)
    metric: Literal["loss", "accuracy"] = "loss"
    shift: int = Field(4, ge=0)
    flip: bool = False
    crop: float = Field(1.0, gt=0, le=1)
    mosaics: float = Field(0.0, ge=0, le=1)
    answers: bool = False
    start_a: float | None = Field(0.5, gt=0)
    channels_last: bool = True
    seed: int = 0

    @model_validator(mode="before")
    @classmethod
    def _of_the_mode(cls, given: Any) -> Any:
        mode = given.get("mode") if isinstance(given, dict) else None
        return {**MODES[mode], **given} if isinstance(mode, str) and mode in MODES else given
