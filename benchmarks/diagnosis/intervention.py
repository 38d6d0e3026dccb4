"""Interventions: remove, add, swap or shift what is suspected, against a matched control.

    remove   fill the region from its surroundings      control: the same mask elsewhere in the image
    add      paste the region of an image that has it   control: the same mask in the receiver's mean colour
    swap     exchange the region with another class'    control: with another image of the own class
    shift    move a property of the whole image         control: as large a change in another respect

All follow the probability of one class, image by image, so that intervention and control are paired. A removed or
pasted region leaves traces that any network may see, and the control leaves the same traces. Objects whose masks are
known are neither removed nor pasted, so that what lies beside them is judged alone.

Known limits: a control that falls on the object of a small image changes answers too, which hides a weak cause. The
filled region of `remove` may keep blurred colours of the suspect.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.diagnosis.check import Edit
from benchmarks.diagnosis.finding import Effect, Estimate
from benchmarks.diagnosis.region import FixedRegion, Region
from benchmarks.diagnosis.subject import Subject
from benchmarks.statistics.intervals import bootstrap_ci
from benchmarks.statistics.paired import holm, signed_rank
from interp_core.datasets import Images
from interp_core.knowledge.backgrounds import fill

Action = Literal["remove", "add", "swap", "shift"]
IMAGES = 48  # of each intervention
DONORS = 3  # the clearest of so many images give their region to others
LEAST = 5  # images below which nothing is concluded
MARGIN = 0.02  # of the longer side, by which regions are widened before they are filled or pasted
# In probability, and in answers changed beyond the control's: below either an effect is no cause, however certain.
MINIMUM_EFFECT, MINIMUM_FLIPS = 0.1, 0.05
CONTROLS: dict[Action, str] = {
    "remove": "the same mask elsewhere in the image, filled",
    "add": "the same mask in the image's mean colour",
    "swap": "the same place of another image of the own class",
    "shift": "as large a change that leaves the property alone",
}


@dataclass(frozen=True)
class Outcome:
    """Answers with an intervention and with its control, image by image.

    Attributes:
        action: see the module.
        cls: index of the class that is followed.
        before: probabilities (n, K).
        after: of the changed images.
        control: of the controls.
        examples: (m, 3, 3, H, W) a few images before, after and as control, in [0, 1].
    """

    action: Action
    cls: int
    before: np.ndarray
    after: np.ndarray
    control: np.ndarray
    examples: Tensor

    @property
    def direction(self) -> int:
        """Sign of the change if the suspect is a cause."""
        return -1 if self.action == "remove" else 1

    @property
    def difference(self) -> np.ndarray:
        """Change of the probability by the intervention minus that by the control, (n,)."""
        return (self.after - self.control)[:, self.cls]

    @property
    def p(self) -> float:
        """Two-sided p of the paired difference; NaN with too few images."""
        return signed_rank(self.difference)[0] if len(self.before) >= LEAST else float("nan")

    def effect(self, classes: Sequence[str], p_holm: float) -> Effect:
        """Return the outcome as plain data."""
        cls = self.cls
        was = self.before.argmax(1) == cls

        def flips(probabilities: np.ndarray) -> Estimate:
            return estimate((probabilities.argmax(1) == cls) != was)

        return Effect(
            action=self.action,
            control=CONTROLS[self.action],
            cls=classes[cls],
            change=estimate((self.after - self.before)[:, cls]),
            control_change=estimate((self.control - self.before)[:, cls]),
            difference=estimate(self.difference),
            flips=flips(self.after),
            control_flips=flips(self.control),
            p=none_if_nan(self.p),
            p_holm=none_if_nan(p_holm),
        )


def estimate(values: np.ndarray) -> Estimate:
    """Return mean and bootstrap interval of values (n,)."""
    numbers = np.asarray(values, np.float64)
    low, high = bootstrap_ci(numbers)
    mean = float(numbers.mean()) if len(numbers) else 0.0
    return Estimate(value=mean, low=none_if_nan(low), high=none_if_nan(high), n=len(numbers))


def none_if_nan(value: float) -> float | None:
    """Return a number, or None in place of NaN."""
    return None if np.isnan(value) else float(value)


def is_cause(effect: Effect, alpha: float = 0.05) -> bool:
    """Return whether an effect is certain, large enough, in the direction of a cause, and changes answers."""
    sign = -1 if effect.action == "remove" else 1
    is_certain = effect.p_holm is not None and effect.p_holm < alpha
    excess = effect.flips.value - effect.control_flips.value
    return is_certain and sign * effect.difference.value >= MINIMUM_EFFECT and excess >= MINIMUM_FLIPS


def deciding(effects: Sequence[Effect]) -> list[Effect]:
    """Return the effects that decide: of giving the suspect to other images, else of removal.

    Filling a region also takes away what lies behind it, and a pasted region brings nothing but itself.
    """
    given = [effect for effect in effects if effect.action != "remove" and effect.difference.n >= LEAST]
    return given or list(effects)


def adjust(outcomes: Sequence[Outcome]) -> np.ndarray:
    """Return the p values of outcomes, adjusted by Holm."""
    return holm(np.array([outcome.p for outcome in outcomes]))


def intervene_on_region(
    subject: Subject, images: Images, region: Region, cls: int, holders: np.ndarray, receivers: np.ndarray
) -> list[Outcome]:
    """Remove a region, and add it to or swap it with other images.

    Args:
        subject: the network.
        images: a split.
        region: the suspect.
        cls: index of the class whose probability is followed.
        holders: (n,) rows of images that are answered `cls` and show the region, clearest first.
        receivers: (m,) rows of images that are answered otherwise.
    """
    with_region, objects = _read(images, holders[:IMAGES])
    masks = widen(region.masks(subject, with_region)) & ~objects
    shows = masks.flatten(1).any(1)
    with_region, masks = with_region[shows], masks[shows]
    if len(with_region) < 2:
        return []
    outcomes = [remove(subject, with_region, masks, cls)]
    clearest = slice(max(LEAST, len(with_region) // DONORS))  # the first are the clearest
    with_region, masks = with_region[clearest], masks[clearest]
    others, objects = _read(images, receivers[:IMAGES])
    if isinstance(region, FixedRegion):
        if len(others) > 1:
            outcomes.append(swap(subject, others, with_region, masks, cls, objects))
    else:
        free = others[~region.masks(subject, others).flatten(1).any(1)] if len(others) else others
        if len(free):
            outcomes.append(add(subject, free, with_region, masks, cls))
    return outcomes


def remove(subject: Subject, images: Tensor, masks: Tensor, cls: int) -> Outcome:
    """Fill regions of images that are answered `cls` from their surroundings.

    Args:
        subject: the network.
        images: (n, 3, H, W) in [0, 1].
        masks: (n, 1, H, W) bool.
        cls: class that is followed.
    """
    after, control = (fill(images, 1 - mask.float()) for mask in (masks, move_elsewhere(masks)))
    return _outcome(subject, "remove", cls, images, after, control)


def add(subject: Subject, receivers: Tensor, donors: Tensor, masks: Tensor, cls: int) -> Outcome:
    """Paste the regions of donors onto images that are answered otherwise.

    Args:
        subject: the network.
        receivers: (n, 3, H, W) in [0, 1].
        donors: (m, 3, H, W); used in turn.
        masks: (m, 1, H, W) bool, of the donors.
        cls: answer to the donors.
    """
    order = torch.arange(len(receivers)) % len(donors)
    after = torch.where(masks[order], donors[order], receivers)
    control = torch.where(masks[order], receivers.mean((2, 3), keepdim=True), receivers)
    return _outcome(subject, "add", cls, receivers, after, control)


def swap(
    subject: Subject, receivers: Tensor, donors: Tensor, masks: Tensor, cls: int, objects: Tensor | None = None
) -> Outcome:
    """Put the content of a fixed place of donors into images that are answered otherwise.

    Args:
        subject: the network.
        receivers: (n, 3, H, W) in [0, 1].
        donors: (m, 3, H, W), answered `cls`.
        masks: (m, 1, H, W) bool, the place without the donors' objects; one for all where m is 1.
        cls: class that is followed.
        objects: (n, 1, H, W) bool, objects of the receivers, which stay; None for none that are known.
    """
    order = torch.arange(len(receivers)) % len(donors)
    place = masks if len(masks) == 1 else masks[order]
    place = place if objects is None else place & ~objects
    after = torch.where(place, donors[order], receivers)
    control = torch.where(place, receivers[_next_alike(subject.predict(receivers).argmax(1))], receivers)
    return _outcome(subject, "swap", cls, receivers, after, control)


def _next_alike(answers: Tensor) -> Tensor:
    """Return for each of the answers (n,) the position of the next equal one, in turn."""
    following = torch.arange(len(answers))
    for cls in answers.unique():
        positions = (answers == cls).nonzero()[:, 0]
        following[positions] = positions.roll(-1)
    return following


def shift(subject: Subject, images: Tensor, edit: Edit, amount: float, cls: int) -> Outcome:
    """Move a property of images that are answered otherwise towards class `cls`."""
    after, control = edit.apply(images, amount), edit.apply_control(images, amount)
    return _outcome(subject, "shift", cls, images, after, control)


def shift_property(
    subject: Subject, images: Images, edit: Edit, amount: float, cls: int, receivers: np.ndarray
) -> list[Outcome]:
    """Move a property of images at rows `receivers` (n,), which are answered otherwise, towards class `cls`."""
    others, _ = _read(images, receivers[:IMAGES])
    return [shift(subject, others, edit, amount, cls)] if len(others) else []


def _outcome(subject: Subject, action: Action, cls: int, images: Tensor, after: Tensor, control: Tensor) -> Outcome:
    answers, changed, controls = (subject.predict(part).numpy() for part in (images, after, control))
    examples = torch.stack([images[:3], after[:3], control[:3]], 1)
    return Outcome(action, cls, answers, changed, controls, examples)


def _read(images: Images, rows: np.ndarray) -> tuple[Tensor, Tensor]:
    """Read images (n, 3, H, W) in [0, 1] and the masks of their objects, widened, (n, 1, H, W) bool."""
    batch = images.take(np.asarray(rows))
    return torch.from_numpy(batch.images).float() / 255, widen(torch.from_numpy(batch.masks))


def widen(masks: Tensor, margin: float = MARGIN) -> Tensor:
    """Dilate masks (n, 1, H, W) bool by a share of the longer side."""
    pixels = round(margin * max(masks.shape[-2:]))
    return F.max_pool2d(masks.float(), 2 * pixels + 1, stride=1, padding=pixels) > 0 if pixels else masks


def move_elsewhere(masks: Tensor) -> Tensor:
    """Move each mask (n, 1, H, W) bool to where it overlaps least with itself, by a flip or a half turn."""
    rows, columns = masks.shape[-2:]
    moved = torch.stack([
        masks.flip(3), masks.flip(2), masks.flip((2, 3)), masks.roll((rows // 2, columns // 2), (2, 3)),
        masks.roll(rows // 2, 2), masks.roll(columns // 2, 3),
    ])  # fmt: skip
    overlap = (moved & masks).flatten(2).sum(2)
    return moved[overlap.argmin(0), torch.arange(len(masks))]
