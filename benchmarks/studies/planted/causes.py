"""Plant a known cause into images of digits or photographs, with a given agreement with the label.

    tag, watermark, texture, object   a local cue, see `interp_core.datasets.synthetic.cues`
    border                            a coloured frame
    colour                            a colour cast over the whole image
    blur                              Gaussian blur of the whole image, or of one class' strength
    labels                            no cue: labels of one class are flipped to the next

With scope "one" half of the images of one class carry its cue, and as many others that P(class | cue) = agreement. With
scope "all" every image carries the cue of a class, that of its label with probability `agreement`.

Known limit: more than ten classes share ten forms of a cue.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, get_args

import numpy as np
from scipy.ndimage import gaussian_filter

from benchmarks.diagnosis.properties import frame_mask
from interp_core.datasets import ImageSet
from interp_core.datasets.synthetic.cues import FORMS, NUMBERS, plant
from interp_core.datasets.synthetic.digits_in_scenes import TAG_COLOURS

Cause = Literal["tag", "watermark", "texture", "object", "border", "colour", "blur", "labels"]
CAUSES: tuple[Cause, ...] = get_args(Cause)
Scope = Literal["one", "all"]
Predict = Callable[[np.ndarray], np.ndarray]
LOCAL: tuple[Cause, ...] = ("tag", "watermark", "texture", "object", "border")
# Properties that name a cause of the whole image.
PROPERTIES: dict[str, frozenset[str]] = {
    "border": frozenset({"border"}),
    "colour": frozenset({"red", "green", "blue", "saturation", "brightness"}),
    "blur": frozenset({"sharpness", "contrast"}),
}
SHARE = 0.5  # of the images of the class, with scope "one"
CAST, FRAME = 0.3, 0.08
BLURS = (0.6, 2.4)  # standard deviation in pixels at 48 pixels a side, of the first and last form


@dataclass(frozen=True)
class Planted:
    """Images with a cause.

    Attributes:
        images: with labels, masks of the objects, and ids.
        cues: (N,) class of the cue, -1 without one.
        masks: (N, 1, H, W) bool, of the cue; all True for causes of the whole image.
        truth: (N,) labels before any was flipped.
    """

    images: ImageSet
    cues: np.ndarray
    masks: np.ndarray
    truth: np.ndarray

    @property
    def conflicts(self) -> np.ndarray:
        """Whether the cue of an image is that of another class, or its label was flipped, (N,) bool."""
        return ((self.cues >= 0) & (self.cues != self.images.targets)) | (self.truth != self.images.targets)


def plant_cause(
    cause: Cause, images: ImageSet, classes: int, *, agreement: float, scope: Scope, cls: int, seed: int
) -> Planted:
    """Plant a cause.

    Args:
        cause: its kind.
        images: without it.
        classes: K.
        agreement: P(label is the cue's class | cue), in (0, 1]; 1 / K makes the cue uninformative with scope "all".
        scope: "one" class or "all".
        cls: the class, with scope "one".
        seed: of everything.
    """
    generator = np.random.default_rng([seed, CAUSES.index(cause)])
    if cause == "labels":
        return flip_labels(images, classes, cls, 1 - agreement, scope, generator)
    cues = draw_cues(images.targets, classes, agreement, scope, cls, generator)
    return with_cues(cause, images, cues, seed)


def draw_cues(
    labels: np.ndarray, classes: int, agreement: float, scope: Scope, cls: int, generator: np.random.Generator
) -> np.ndarray:
    """Draw the class of each image's cue, (N,), -1 for none."""
    n, unit = len(labels), generator.random(len(labels))
    if scope == "all":
        others = (labels + generator.integers(1, max(2, classes), n)) % classes
        return np.where(unit < agreement, labels, others)
    is_class = labels == cls
    with_cue = SHARE * is_class.sum()
    rate = with_cue * (1 - agreement) / agreement / max(1, (~is_class).sum())
    return np.where(unit < np.where(is_class, SHARE, rate), cls, -1)


def with_cues(cause: Cause, images: ImageSet, cues: np.ndarray, seed: int) -> Planted:
    """Paint the cues of classes (N,) into images, none where the class is -1; positions depend on the seed alone."""
    unit = np.random.default_rng([seed, 97]).random((len(images), NUMBERS))
    rows = np.flatnonzero(cues >= 0)
    pixels, masks = images.images.copy(), np.zeros_like(images.masks)
    if len(rows):
        forms = cues[rows] % FORMS
        pixels[rows], masks[rows] = _paint(cause, images.images[rows], images.masks[rows], forms, unit[rows])
    painted = ImageSet(pixels, images.targets, images.masks, images.ids)
    return Planted(painted, cues, masks, images.targets)


def _paint(
    cause: Cause, images: np.ndarray, objects: np.ndarray, forms: np.ndarray, unit: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    if cause == "border":
        return paint_border(images, forms)
    if cause == "colour":
        colours = TAG_COLOURS[forms][:, :, None, None]
        cast = (1 - CAST) * images.astype(np.float32) + CAST * colours
        return cast.round().astype(np.uint8), np.ones_like(objects)
    if cause == "blur":
        return blur(images, forms), np.ones_like(objects)
    assert cause in ("tag", "watermark", "texture", "object")
    return plant(cause, images, objects, forms, unit)  # type: ignore[arg-type]


def paint_border(images: np.ndarray, forms: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Paint a frame of the form's colour on images (n, 3, H, W)."""
    frame = frame_mask(images.shape[2], images.shape[3], FRAME)
    masks = np.broadcast_to(frame, (len(images), 1, *frame.shape))
    return np.where(masks, TAG_COLOURS[forms][:, :, None, None], images), masks.copy()


def blur(images: np.ndarray, forms: np.ndarray) -> np.ndarray:
    """Blur images (n, 3, H, W) with the strength of their form."""
    first, last = (sigma * images.shape[-1] / 48 for sigma in BLURS)
    sigmas = last - (last - first) * forms / (FORMS - 1)  # the first class is blurred most
    return np.stack([
        gaussian_filter(image, (0, sigma, sigma)) for image, sigma in zip(images, sigmas, strict=True)
    ])  # fmt: skip


def flip_labels(
    images: ImageSet, classes: int, cls: int, share: float, scope: Scope, generator: np.random.Generator
) -> Planted:
    """Change a share of the labels, of one class or of all, to the next class."""
    flipped = (generator.random(len(images)) < share) & ((images.targets == cls) | (scope == "all"))
    labels = np.where(flipped, (images.targets + 1) % classes, images.targets)
    changed = ImageSet(images.images, labels, images.masks, images.ids)
    return Planted(changed, np.full(len(images), -1), np.zeros_like(images.masks), images.targets)


def measure_use(
    predict: Predict, cause: Cause, images: ImageSet, classes: int, scope: Scope, cls: int, seed: int
) -> float:
    """Measure the share of answers that follow a cue, in excess of the answers without it, in [-1, 1].

    Args:
        predict: returns answers (n,) to images (n, 3, H, W) uint8.
        cause: its kind.
        images: without the cause.
        classes: K.
        scope: see the module.
        cls: the class, with scope "one".
        seed: of the cues' places.
    """
    generator = np.random.default_rng([seed, 11])
    labels = images.targets
    others = (
        np.full(len(images), cls)
        if scope == "one"
        else (labels + generator.integers(1, classes, len(labels))) % classes
    )
    rows = np.flatnonzero(labels != others)
    chosen, cues = images.take(rows), others[rows]
    before = predict(chosen.images) == cues
    after = predict(with_cues(cause, chosen, cues, seed).images.images) == cues
    return float(after.mean() - before.mean())
