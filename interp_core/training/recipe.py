"""Training recipe: all settings of a training, with defaults for each of its three modes.

Limit: the schedule covers all epochs, so a training ended by early stopping does not reach its low rates.
"""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator

from interp_core.knowledge import Absence, Area, Necessity, Order, OwnOrder, Presence, Removal, Sufficiency, Term

# Terms that teach a frozen network's redistribution which pixels in reach of a cell the decision needs.
OWN_TERMS: tuple[Term, ...] = (OwnOrder(),)

DEFAULT_TERMS: tuple[Term, ...] = (Presence(weight=0.3), Absence(weight=0.3), Area(weight=1.0))

# Terms that give a refined map its meaning. Its region alone keeps the decision (Sufficiency), the rest loses it
# (Necessity), and it is no larger than necessary (Area). The same holds wherever the map is cut (Order), and its values
# are what the decision loses without a patch (Removal).
MAP_TERMS: tuple[Term, ...] = (
    Sufficiency(weight=1.0),
    Necessity(weight=1.0),
    Area(weight=4.0, low=0.01, high=0.01, form="linear", finest=True),
    Order(weight=1.0),
    Removal(weight=10.0),
)

Mode = Literal["scratch", "finetune", "frozen"]

# Defaults of `Recipe` that a mode changes.
MODES: dict[str, dict[str, Any]] = {
    "scratch": {},
    "finetune": {"epochs": 5, "learning_rate": 1e-3, "backbone_rate": 0.1, "fixed_norms": True, "clip": 1.0},
    "frozen": {"epochs": 5, "learn_gates": False, "start_a": None},
}


class Recipe(BaseModel):
    """Settings of a training: AdamW with a one-cycle schedule. Omitted fields take the defaults of the mode.

    Fields:
        mode: "scratch" for random weights; "finetune" for a trained backbone, which learns slowly; "frozen" for a
            trained backbone that does not change: only the parameters outside the model's `backbone` learn.
        epochs: passes over the training images; 0 leaves the network unchanged.
        batch_size: images per step, over all processes.
        accumulate: number of parts in which a process computes its share of a batch, for less memory. The gradient is
            that of the whole batch, except that batch norms and terms that compare images see one part at a time.
        learning_rate: peak of the schedule.
        backbone_rate: factor of the backbone's learning rate; a model without `backbone` is all backbone.
        warm_up: share of the steps in which the rate rises, in (0, 1).
        weight_decay: decoupled, on weights of two or more dimensions.
        clip: largest L2 norm of the gradient of all parameters together; None for no limit.
        precision: precision of the forward pass: "fp32", or mixed with "bf16" or (GPU only) "fp16"; weights stay
            single.
        fixed_norms: whether batch norms of the backbone use their running statistics and do not change them.
        learn_gates: whether the gates below the head learn. If neither they nor the backbone learn, features have no
            graph, and a step costs little more than a forward pass.
        patience: epochs without a better validation after which training ends with the best weights; None for no early
            stopping.
        metric: validation metric: "loss", all terms included, or "accuracy".
        shift: largest random shift in pixels, edges repeated; 0 for none.
        flip: whether half of the images, by chance, are mirrored left to right.
        crop: least share of an image's area that a random crop shows, resized to full size, in (0, 1]; 1 for none.
        mosaics: share of the images that become one quarter of a mosaic with three others, at half size, with their own
            target. A map that learns from images of one object can find the class by finding the object; in a mosaic
            it cannot. For one class an image, without regions.
        answers: whether terms use the class that the model predicts for the augmented image instead of the target. For
            one class an image, and a model that does not learn to classify.
        start_a: value given to every `a` that is 0 when training starts, since its gradient vanishes at 0. Started at
            2, attention settles on few positions before the scorers know the class; from 0.5 it sharpens as they learn.
            None changes nothing: a network without attention then keeps its function bit for bit.
        attention_gradient: whether features learn through attention. By default they do not: they get the gradient of
            average pooling, and concept maps and attention learn from features that they do not change. Otherwise what
            is learned first, such as a tag, gets the attention, then most of the gradient, and the rest is not learned.
        channels_last: memory format of images and weights; faster on most CPUs and GPUs.
        seed: seed of the order of images, of augmentation, and of the terms' random draws.
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
    attention_gradient: bool = False
    channels_last: bool = True
    seed: int = Field(0, ge=0, lt=2**31)

    @model_validator(mode="before")
    @classmethod
    def _apply_mode(cls, values: Any) -> Any:
        mode = values.get("mode") if isinstance(values, dict) else None
        return {**MODES[mode], **values} if isinstance(mode, str) and mode in MODES else values
