"""`digits-in-scenes`: one real handwritten digit, coloured, in a crop of a real photograph, among scrambled digits.

The evidence for the class is known to the pixel. Digits and photographs of the splits are disjoint; distractors share
the strokes, sizes and colours of digits but not their class. `confounded=True` adds a coloured tag in a corner that
agrees with the class in train and val and is random in test. Both forms keep that corner free, so their images are the
same byte for byte apart from the tag; and an image does not depend on how many are made.
Known limits: a distractor for which no free place is found is left out; brightness is set against the mean of the
background beneath, so a stroke may cross a patch of its own brightness.
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
TRIES = 48
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
    """Digits in photographs, made from what scikit-learn and scikit-image carry; see the head of this file.

    Attributes:
        image_size: side of the images in pixels.
        train: number of training images; likewise `val` and `test`.
        digit_scale: least and largest side of an object's square, as a share of `image_size`; a digit fills 94 % of it.
        distractors: scrambled digits per image, where they find room.
        contrast: least difference in brightness between an object and the background beneath, where there is room.
        background: strength of the photograph's own contrast; 0 leaves its mean colour.
        confounded: whether a corner tag gives the class away in train and val.
        seed: of everything but the split of digits and photographs, which is fixed.
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
    def _ordered(self) -> Self:
        if self.digit_scale[0] > self.digit_scale[1]:
            raise ValueError(f"digit_scale must be (least, largest), got {self.digit_scale}")
        return self

    @property
    def classes(self) -> tuple[str, ...]:
        return tuple(str(i) for i in range(CLASSES))

    def load(self, split: SplitName) -> ImageSet:
        """The images of one split, made anew at each call and the caller's own.

        Raises:
            UnknownNameError: no such split.
            InterpError: a background picture is missing from the installed wheels.
        """
        if split not in SPLITS:
            raise UnknownNameError("split", split, SPLITS)
        count = {"train": self.train, "val": self.val, "test": self.test}[split]
        size = self.image_size
        images = np.empty((count, 3, size, size), np.uint8)
        masks, tags = np.empty((2, count, 1, size, size), bool)
        targets, grey_levels = np.empty(count, np.int64), np.zeros((3, 256), np.int64)
        for where, scenes in scene_chunks(self, split, count):
            images[where], masks[where], tags[where] = render(scenes, self, split)
            targets[where] = scenes.targets
            grey_levels += _grey_levels(images[where])
        if split == "train":
            _statistics[self] = _mean_and_deviation(grey_levels)
        ids = [f"{self.name}/{split}/{i:05d}" for i in range(count)]
        return ImageSet(images, targets, masks, ids, {"tag": tags} if self.confounded else {})

    def channel_statistics(self) -> tuple[tuple[float, ...], tuple[float, ...]]:
        """Mean and standard deviation per channel of the training images, in [0, 1]; kept from `load("train")`."""
        if self not in _statistics:
            self.load("train")
        return _statistics[self]


# A few numbers per configuration, so that asking for them does not make the training images a second time.
_statistics: dict[DigitsInScenes, tuple[tuple[float, ...], tuple[float, ...]]] = {}


def _grey_levels(images: np.ndarray) -> np.ndarray:
    """How often each value occurs in each channel of (N, 3, H, W) uint8 images: (3, 256)."""
    return np.stack([np.bincount(images[:, c].ravel(), minlength=256) for c in range(3)])


def _mean_and_deviation(counts: np.ndarray) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """Mean and standard deviation per channel, in [0, 1] units, from counts (3, 256) of grey levels."""
    values, shares = np.arange(256) / 255, counts / counts.sum(1, keepdims=True)
    mean = (shares * values).sum(1)
    deviation = np.sqrt((shares * (values - mean[:, None]) ** 2).sum(1))
    return tuple(mean.tolist()), tuple(deviation.tolist())


def scene_chunks(config: DigitsInScenes, split: SplitName, count: int) -> Iterator[tuple[slice, Scenes]]:
    """The scenes of a split in pieces of bounded size, each with its place in the split.

    Args:
        config: what to make.
        split: which split.
        count: how many images.
    """
    step = max(1, min(BLOCK, CHUNK_PIXELS // config.image_size**2))
    for start in range(0, count, BLOCK):
        block = draw_scenes(config, split, start // BLOCK)
        for low in range(0, min(BLOCK, count - start), step):
            high = min(low + step, BLOCK, count - start)
            yield slice(start + low, start + high), block.take(slice(low, high))


def draw_scenes(config: DigitsInScenes, split: SplitName, block: int) -> Scenes:
    """All that is random about the `block`-th 250 images of a split; every ten consecutive images hold each class once.

    The same numbers are drawn whatever the configuration, so that a parameter changes only what it says.
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
    box, shown = find_positions(sides, corner, tag_side(config), config.image_size, rng.random((m, n, TRIES, 2)))
    shown[:, 1 + config.distractors :] = False
    return Scenes(targets, crop, gain, glyph, box, shown, colour, corner, tag)


def tag_side(config: DigitsInScenes) -> int:
    """Side of the corner tag in pixels."""
    return config.image_size // TAG_SHARE


def _digit_of_class(bank: Glyphs, targets: np.ndarray, unit: np.ndarray) -> np.ndarray:
    """A row of the bank for each target, uniform within its class."""
    order = np.argsort(bank.classes, kind="stable")
    counts = np.bincount(bank.classes, minlength=CLASSES)
    first = np.cumsum(counts) - counts
    return order[first[targets] + (unit * counts[targets]).astype(np.int64)]


def render(scenes: Scenes, config: DigitsInScenes, split: SplitName) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Draws scenes.

    Args:
        scenes: n scenes of this configuration and split.
        config: how they look.
        split: whose pictures and glyphs are used, and whether a tag agrees with the class.

    Returns:
        (n, 3, H, W) uint8 images, (n, 1, H, W) bool masks of the digits, and of the tags (empty where not confounded).
    """
    canvas = _backgrounds(scenes, config, split)
    mask, tags = np.zeros((2, len(canvas), 1, *canvas.shape[2:]), bool)
    for k in range(1 + config.distractors):
        _paste(canvas, mask if k == 0 else None, scenes, k, config, glyphs(split))
    images = (canvas * 255 + 0.5).astype(np.uint8)
    if config.confounded:
        _add_tags(images, tags, scenes, scenes.tag if split == "test" else scenes.targets, tag_side(config))
    return images, mask, tags


def _backgrounds(scenes: Scenes, config: DigitsInScenes, split: SplitName) -> np.ndarray:
    """Crops of photographs (n, 3, H, W) float32 in [0, 1], with their contrast and brightness changed."""
    cut = crops(pyramids(split, config.image_size), scenes.crop, config.image_size)
    canvas = cut.astype(np.float32) / 255
    if config.background < 1:
        mean = (cut.mean((2, 3), keepdims=True) / 255).astype(np.float32)
        canvas = mean + np.float32(config.background) * (canvas - mean)
    return np.minimum(canvas * scenes.gain[:, :, None, None], 1)


def _paste(
    canvas: np.ndarray, mask: np.ndarray | None, scenes: Scenes, k: int, config: DigitsInScenes, bank: Glyphs
) -> None:
    """Draws the k-th object of each scene into `canvas`, and its shape into `mask` if there is one."""
    box, side = scenes.box[:, k, :2], scenes.box[:, k, 2]
    window = round(config.digit_scale[1] * config.image_size)
    corner = np.minimum(box, config.image_size - window)
    shapes = bank.digits if k == 0 else bank.scrambles
    opacity = draw(shapes, scenes.glyph[:, k], box - corner, side, window) * scenes.shown[:, k, None, None]
    pixels, image = corner[:, :, None] + np.arange(window), np.arange(len(canvas))[:, None, None]
    at = (image, slice(None), pixels[:, 0, :, None], pixels[:, 1, None, :])
    beneath = canvas[at]
    # Over the box alone, where nothing else was drawn, so that no object's colour tells of another.
    colour = paint(scenes.colour[:, k], _level(beneath, inside(box - corner, side, window)), config.contrast)
    canvas[at] = beneath + opacity[..., None] * (colour[:, None, None] - beneath)
    if mask is not None:
        mask[image, 0, at[2], at[3]] = opacity > 0.5


def _level(pixels: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Mean brightness (n,) float32 of pixels (n, h, w, 3) where a mask (n, h, w) is true.

    In whole grey levels: a last bit that hangs on the order of summation must not reach the colours.
    """
    mean = (brightness(pixels) * where).sum((1, 2), np.float64) / where.sum((1, 2))
    return (np.round(mean * 255) / 255).astype(np.float32)


def _add_tags(images: np.ndarray, tags: np.ndarray, scenes: Scenes, colour: np.ndarray, side: int) -> None:
    """Paints the corner square of each image in one of the tag colours."""
    pixels = scenes.corner[:, :, None] + np.arange(side)
    at = (np.arange(len(images))[:, None, None], pixels[:, 0, :, None], pixels[:, 1, None, :])
    images[at[0], :, at[1], at[2]] = TAG_COLOURS[colour][:, None, None]
    tags[at[0], 0, at[1], at[2]] = True
