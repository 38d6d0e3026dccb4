"""`digits-in-scenes`: one real handwritten digit, coloured, in a crop of a real photograph, among scrambled digits.

The evidence for the class is known to the pixel. The splits share no digit and no photograph. Distractors have the
strokes, sizes and colours of digits but not their class. `confounded=True` adds a coloured tag in a corner. The tag
agrees with the class in train and val and is random in test. Both forms keep that corner free, so their images differ
in the tag only. An image does not depend on the number of images.
Known limits: a distractor is left out if no free position is found; its brightness differs from the mean of the
background beneath, so a stroke may cross a patch of the same brightness.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, ClassVar, Self

import numpy as np
from pydantic import Field, model_validator

from interp_core.datasets.contract import DatasetConfig, ImageSet, datasets
from interp_core.datasets.records import SPLITS, SplitName
from interp_core.datasets.synthetic.backgrounds import crops, pyramids
from interp_core.datasets.synthetic.glyphs import Glyphs, draw, glyphs, inside
from interp_core.datasets.synthetic.scenes import Scenes, brightness, find_positions, paint
from interp_core.errors import UnknownNameError

CLASSES = 10
BLOCK = 250
POSITION_TRIES = 48
MAX_DISTRACTORS = 4
TAG_SHARE = 8
CHUNK_PIXELS = 2**20
TAG_COLOURS = np.array(
    [
        (230, 25, 35),
        (50, 170, 60),
        (255, 225, 25),
        (0, 80, 215),
        (245, 130, 40),
        (125, 30, 165),
        (60, 230, 240),
        (240, 70, 220),
        (125, 75, 25),
        (255, 255, 255),
    ],
    np.uint8,
)

Share = Annotated[float, Field(ge=0.2, le=0.75)]
Count = Annotated[int, Field(ge=1, le=1_000_000)]


@datasets.register("digits-in-scenes")
class DigitsInScenes(DatasetConfig):
    """Digits in photographs, made from the data of scikit-learn and scikit-image.

    Attributes:
        image_size: side of the images in pixels.
        train: number of training images.
        val: number of validation images.
        test: number of test images.
        digit_scale: minimum and maximum side of an object's square, as a share of `image_size`; a digit fills 94 % of
            it.
        distractors: scrambled digits per image, if they find room.
        contrast: minimum difference in brightness between an object and the background beneath, if there is room.
        background: strength of the contrast of the photograph; 0 leaves its mean colour.
        confounded: whether a corner tag reveals the class in train and val.
        seed: seed of everything but the split of digits and photographs, which is fixed.
    """

    title: ClassVar[str] = "Digits in scenes"

    image_size: int = Field(64, ge=32, le=512)
    train: Count = 5000
    val: Count = 1000
    test: Count = 1000
    digit_scale: tuple[Share, Share] = (0.36, 0.46)
    distractors: int = Field(2, ge=0, le=MAX_DISTRACTORS)
    contrast: float = Field(0.4, ge=0.05, le=1)
    background: float = Field(1.0, ge=0, le=1)
    confounded: bool = False
    seed: int = Field(0, ge=0, lt=2**63)

    @model_validator(mode="after")
    def _check_digit_scale(self) -> Self:
        if self.digit_scale[0] > self.digit_scale[1]:
            raise ValueError(f"digit_scale must be (least, largest), got {self.digit_scale}")
        return self

    @property
    def classes(self) -> tuple[str, ...]:
        """The ten digits."""
        return tuple(str(i) for i in range(CLASSES))

    def load(self, split: SplitName) -> ImageSet:
        """Generate the images of a split. The caller may change the arrays.

        Raises:
            UnknownNameError: the split does not exist.
            InterpError: a background photograph is missing from the installed wheels.
        """
        if split not in SPLITS:
            raise UnknownNameError("split", split, SPLITS)
        count = {"train": self.train, "val": self.val, "test": self.test}[split]
        size = self.image_size
        images = np.empty((count, 3, size, size), np.uint8)
        masks, tags = np.empty((2, count, 1, size, size), bool)
        targets, grey_levels = np.empty(count, np.int64), np.zeros((3, 256), np.int64)
        for rows, scenes in scene_chunks(self, split, count):
            images[rows], masks[rows], tags[rows] = render(scenes, self, split)
            targets[rows] = scenes.targets
            grey_levels += _count_grey_levels(images[rows])
        if split == "train":
            _statistics[self] = _mean_and_deviation(grey_levels)
        ids = [f"{self.name}/{split}/{i:05d}" for i in range(count)]
        return ImageSet(images, targets, masks, ids, {"tag": tags} if self.confounded else {})

    def channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Return mean and standard deviation per channel of the training images, in [0, 1] units.

        `load("train")` caches them.
        """
        if self not in _statistics:
            self.load("train")
        return _statistics[self]


# A few numbers per configuration, so that the training images are not generated a second time for them.
_statistics: dict[DigitsInScenes, tuple[tuple[float, ...], tuple[float, ...]]] = {}


def _count_grey_levels(images: np.ndarray) -> np.ndarray:
    """Count each value in each channel of (N, 3, H, W) uint8 images: (3, 256)."""
    return np.stack([np.bincount(images[:, c].ravel(), minlength=256) for c in range(3)])


def _mean_and_deviation(counts: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Compute mean and standard deviation per channel, in [0, 1] units, from counts (3, 256) of grey levels."""
    values, shares = np.arange(256) / 255, counts / counts.sum(1, keepdims=True)
    mean = (shares * values).sum(1)
    deviation = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(1))
    return tuple(mean.tolist()), tuple(deviation.tolist())


def scene_chunks(config: DigitsInScenes, split: SplitName, count: int) -> Iterator[tuple[slice, Scenes]]:
    """Yield the scenes of a split in chunks of bounded size, each with its rows in the split.

    Args:
        config: configuration of the images.
        split: name of the split.
        count: number of images.
    """
    step = max(1, min(BLOCK, CHUNK_PIXELS // config.image_size**2))
    for start in range(0, count, BLOCK):
        block = draw_scenes(config, split, start // BLOCK)
        for low in range(0, min(BLOCK, count - start), step):
            high = min(low + step, BLOCK, count - start)
            yield slice(start + low, start + high), block.take(slice(low, high))


def draw_scenes(config: DigitsInScenes, split: SplitName, block: int) -> Scenes:
    """Draw everything random of a block of 250 images; ten consecutive images hold each class once.

    The same numbers are drawn for every configuration, so that a parameter changes nothing but its own effect.
    """
    rng = np.random.default_rng([config.seed, SPLITS.index(split), block])
    bank, n, m = glyphs(split), BLOCK, 1 + MAX_DISTRACTORS
    targets = rng.permuted(np.tile(np.arange(CLASSES), (n // CLASSES, 1)), axis=1).ravel()
    crop, gain = rng.random((n, 5)), 0.8 + 0.4 * rng.random((n, 3), np.float32)
    colour = rng.random((n, m, 4), np.float32)
    glyph = (rng.random((n, m)) * len(bank.scrambles)).astype(np.int64)
    glyph[:, 0] = _digit_of_class(bank, targets, rng.random(n))
    tag = rng.integers(0, CLASSES, n)
    corner = rng.integers(0, 2, (n, 2)) * (config.image_size - tag_side(config))
    low, high = config.digit_scale
    sides = np.round((low + (high - low) * rng.random((n, m))) * config.image_size).astype(np.int64)
    box, shown = find_positions(
        sides, corner, tag_side(config), config.image_size, rng.random((m, n, POSITION_TRIES, 2))
    )
    shown[:, 1 + config.distractors :] = False
    return Scenes(targets, crop, gain, glyph, box, shown, colour, corner, tag)


def tag_side(config: DigitsInScenes) -> int:
    """Return the side of the corner tag in pixels."""
    return config.image_size // TAG_SHARE


def _digit_of_class(bank: Glyphs, targets: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """Choose a row of the bank for each target, uniformly within its class."""
    order = np.argsort(bank.classes, kind="stable")
    counts = np.bincount(bank.classes, minlength=CLASSES)
    first = np.cumsum(counts) - counts
    rows: np.ndarray = order[first[targets] + (unit * counts[targets]).astype(np.int64)]
    return rows


def render(scenes: Scenes, config: DigitsInScenes, split: SplitName) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draw the images of scenes.

    Args:
        scenes: n scenes of this configuration and split.
        config: configuration of the images.
        split: split whose photographs and glyphs are used; only in "test" a tag does not agree with the class.

    Returns:
        (n, 3, H, W) uint8 images, (n, 1, H, W) bool masks of the digits, and of the tags (empty where not confounded).
    """
    canvas = _draw_backgrounds(scenes, config, split)
    mask, tags = np.zeros((2, len(canvas), 1, *canvas.shape[2:]), bool)
    for k in range(1 + config.distractors):
        _paste(canvas, mask if k == 0 else None, scenes, k, config, glyphs(split))
    images = (canvas * 255 + 0.5).astype(np.uint8)
    if config.confounded:
        _add_tags(images, tags, scenes, scenes.tag if split == "test" else scenes.targets, tag_side(config))
    return images, mask, tags


def _draw_backgrounds(scenes: Scenes, config: DigitsInScenes, split: SplitName) -> np.ndarray:
    """Return crops of photographs (n, 3, H, W) float32 in [0, 1], with contrast and brightness changed."""
    cut = crops(pyramids(split, config.image_size), scenes.crop, config.image_size)
    canvas = cut.astype(np.float32) / 255
    if config.background < 1:
        mean = (cut.mean((2, 3), keepdims=True) / 255).astype(np.float32)
        canvas = mean + np.float32(config.background) * (canvas - mean)
    return np.asarray(np.minimum(canvas * scenes.gain[:, :, None, None], 1))


def _paste(
    canvas: np.ndarray, mask: np.ndarray | None, scenes: Scenes, k: int, config: DigitsInScenes, bank: Glyphs
) -> None:
    """Draw the k-th object of each scene into `canvas`, and its shape into `mask` if there is one."""
    box, side = scenes.box[:, k, :2], scenes.box[:, k, 2]
    window = round(config.digit_scale[1] * config.image_size)
    corner = np.minimum(box, config.image_size - window)
    shapes = bank.digits if k == 0 else bank.scrambles
    opacity = draw(shapes, scenes.glyph[:, k], box - corner, side, window) * scenes.shown[:, k, None, None]
    pixels, image = corner[:, :, None] + np.arange(window), np.arange(len(canvas))[:, None, None]
    at = (image, slice(None), pixels[:, 0, :, None], pixels[:, 1, None, :])
    beneath = canvas[at]
    # Only the box counts, where nothing else was drawn, so that the colour of an object reveals nothing about others.
    colour = paint(scenes.colour[:, k], _mean_brightness(beneath, inside(box - corner, side, window)), config.contrast)
    canvas[at] = beneath + opacity[..., None] * (colour[:, None, None] - beneath)
    if mask is not None:
        mask[image, 0, at[2], at[3]] = opacity > 0.5


def _mean_brightness(pixels: np.ndarray, mask: np.ndarray) -> np.ndarray:
    """Compute the mean brightness (n,) float32 of pixels (n, h, w, 3) inside a mask (n, h, w).

    It is rounded to whole grey levels, so that the colours do not depend on the order of summation.
    """
    mean = (brightness(pixels) * mask).sum((1, 2), np.float64) / mask.sum((1, 2))
    return np.asarray(np.round(mean * 255) / 255).astype(np.float32)


def _add_tags(images: np.ndarray, tags: np.ndarray, scenes: Scenes, colour: np.ndarray, side: int) -> None:
    """Paint the corner square of each image in one of the tag colours."""
    pixels = scenes.corner[:, :, None] + np.arange(side)
    at = (np.arange(len(images))[:, None, None], pixels[:, 0, :, None], pixels[:, 1, None, :])
    images[at[0], :, at[1], at[2]] = TAG_COLOURS[colour][:, None, None]
    tags[at[0], 0, at[1], at[2]] = True
