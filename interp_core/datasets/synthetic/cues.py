"""Plant cues into images: marks that speak for a class without being the class' object.

Each kind of cue has one form for each of ten classes. A cue lies where the object is not. Its position is drawn from
random numbers that are given, so that the cue of an image can be swapped for that of another class in the same place.

    tag         a coloured square in the corner with the least of the object
    texture     a grating in a free square of the background, whose direction and width are those of the class
    watermark   a transparent shape in a free square
    colour      a soft colour cast on the half of the image with the least of the object
    object      a small shape of any colour in a free square

Known limits: a colour cast over the whole image has no position that a map could show, so it covers a half. Where no
square is free of the object, the one with the least of it is taken.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Literal, get_args

import numpy as np

from interp_core.datasets.synthetic.digits_in_scenes import TAG_COLOURS
from interp_core.datasets.synthetic.scenes import brightness, paint

CueKind = Literal["tag", "texture", "watermark", "colour", "object"]
KINDS: tuple[CueKind, ...] = get_args(CueKind)
FORMS = 10
# Random numbers that one image needs.
NUMBERS = 6
# Shares of the image's side, and strengths in [0, 1].
TAG_SIDE, TEXTURE_SIDE, WATERMARK_SIDE, OBJECT_SIDE = 0.2, 0.4, 0.4, 0.25
TEXTURE_AMPLITUDE, WATERMARK_OPACITY, CAST_STRENGTH = 0.25, 0.5, 0.5
WAVELENGTHS = (0.08, 0.14)
CONTRAST = 0.4

Planted = tuple[np.ndarray, np.ndarray]


def plant(kind: CueKind, images: np.ndarray, objects: np.ndarray, classes: np.ndarray, unit: np.ndarray) -> Planted:
    """Plant the cue of a class into each image.

    Args:
        kind: one of `KINDS`.
        images: (n, 3, H, W) uint8; not changed.
        objects: (n, 1, H, W) bool, the objects, which stay in front of all cues but a colour cast.
        classes: (n,) classes of the cues, below `FORMS`.
        unit: (n, `NUMBERS`) uniform numbers in [0, 1), which decide all but the class.

    Returns:
        (n, 3, H, W) uint8 images, and (n, 1, H, W) bool masks of their cues.
    """
    painted, masks = _PLANTERS[kind](images, objects, classes, unit)
    if kind != "colour":  # the object is in front
        painted = np.where(objects, images, painted)
    return painted, masks & ~objects


def paint_squares(images: np.ndarray, patterns: np.ndarray, corner: np.ndarray) -> Planted:
    """Paint a square of pixels into each image.

    Args:
        images: (n, 3, H, W) uint8; not changed.
        patterns: (n, side, side, 3) uint8.
        corner: (n, 2) top and left of the squares.

    Returns:
        (n, 3, H, W) uint8 images, and (n, 1, H, W) bool masks of the squares.
    """
    painted, masks = images.copy(), np.zeros((len(images), 1, *images.shape[2:]), bool)
    index, top, left = _pixels(corner, patterns.shape[1])
    painted[index, :, top, left] = patterns
    masks[index, 0, top, left] = True
    return painted, masks


def shapes(side: int) -> np.ndarray:
    """Return ten shapes of one size that differ at any colour, (10, side, side) bool."""
    across = (np.arange(side) + 0.5) / side * 2 - 1
    y, x = across[:, None], across[None, :]
    radius, square, diamond = np.hypot(x, y), np.maximum(abs(x), abs(y)), abs(x) + abs(y)
    forms = [
        radius < 0.95,
        (radius < 0.95) & (radius > 0.55),
        (square < 0.95) & (square > 0.55),
        diamond < 0.95,
        (abs(x) < (y + 1) / 2) & (abs(y) < 0.95),
        (abs(x) < (1 - y) / 2) & (abs(y) < 0.95),
        (np.minimum(abs(x), abs(y)) < 0.25) & (square < 0.95),
        (abs(abs(x) - abs(y)) < 0.3) & (square < 0.95),
        (abs(abs(y) - 0.55) < 0.28) & (abs(x) < 0.95),
        (abs(abs(x) - 0.55) < 0.28) & (abs(y) < 0.95),
    ]
    return np.stack([np.broadcast_to(form, (side, side)) for form in forms])


def free_corners(objects: np.ndarray, side: int, unit: np.ndarray, *, only_corners: bool = False) -> np.ndarray:
    """Draw a square with the least of the object for each image.

    Args:
        objects: (n, 1, H, W) bool.
        side: of the squares, in pixels.
        unit: (n,) uniform numbers that choose among the best squares.
        only_corners: whether squares lie in corners of the image.

    Returns:
        (n, 2) top and left.
    """
    covered = np.stack([_sums_in_squares(mask[0], side) for mask in objects])
    if only_corners:
        covered = covered[:, [0, 0, -1, -1], [0, -1, 0, -1]].reshape(-1, 2, 2)
    flat = covered.reshape(len(covered), -1)
    best = flat == flat.min(1, keepdims=True)
    number = (unit * best.sum(1)).astype(np.int64)
    position = (best.cumsum(1) > number[:, None]).argmax(1)
    corner = np.stack(np.unravel_index(position, covered.shape[1:]), 1)
    return corner * (np.array(objects.shape[2:]) - side) if only_corners else corner


def _sums_in_squares(mask: np.ndarray, side: int) -> np.ndarray:
    """Count the pixels of a mask (H, W) in every square."""
    total = np.pad(mask.astype(np.int64).cumsum(0).cumsum(1), ((1, 0), (1, 0)))
    counts: np.ndarray = total[side:, side:] - total[:-side, side:] - total[side:, :-side] + total[:-side, :-side]
    return counts


def half_weights(objects: np.ndarray, softness: float, unit: np.ndarray) -> np.ndarray:
    """Return weights (n, 1, H, W) in [0, 1] of the half of each image with the least of the object.

    Args:
        objects: (n, 1, H, W) bool.
        softness: share of the image across which the weight falls from 1 to 0; 0 for a sharp edge.
        unit: (n,) uniform numbers that choose among equal halves.
    """
    height, width = objects.shape[2:]
    down, right = ((np.arange(length) + 0.5) / length for length in (height, width))
    distances = np.stack(
        [
            np.broadcast_to(distance, (height, width))
            for distance in (down[:, None], 1 - down[:, None], right[None], 1 - right[None])
        ]
    )
    covered = np.stack([(objects[:, 0] & (distance < 0.5)).sum((1, 2)) for distance in distances], 1)
    best = covered == covered.min(1, keepdims=True)
    choice = (best.cumsum(1) > (unit * best.sum(1)).astype(np.int64)[:, None]).argmax(1)
    weights = np.clip((0.5 - distances) / max(softness, 1e-6) + 0.5, 0, 1)
    chosen: np.ndarray = weights[choice][:, None].astype(np.float32)
    return chosen


def _plant_tag(images: np.ndarray, objects: np.ndarray, classes: np.ndarray, unit: np.ndarray) -> Planted:
    side = round(TAG_SIDE * min(images.shape[2:]))
    corner = free_corners(objects, side, unit[:, 0], only_corners=True)
    patterns = np.broadcast_to(TAG_COLOURS[classes][:, None, None], (len(images), side, side, 3))
    return paint_squares(images, patterns, corner)


def _plant_texture(images: np.ndarray, objects: np.ndarray, classes: np.ndarray, unit: np.ndarray) -> Planted:
    length = min(images.shape[2:])
    side = round(TEXTURE_SIDE * length)
    corner = free_corners(objects, side, unit[:, 0])
    pixels = np.arange(side)
    angle, wavelength = classes % 5 * np.pi / 5, np.array(WAVELENGTHS)[classes // 5] * length
    along = pixels * np.cos(angle)[:, None, None] + pixels[:, None] * np.sin(angle)[:, None, None]
    waves = np.sin(2 * np.pi * (along / wavelength[:, None, None] + unit[:, 1, None, None]))
    textured = _read_squares(images, corner, side) / 255 + TEXTURE_AMPLITUDE * waves[..., None]
    return paint_squares(images, _to_bytes(textured), corner)


def _plant_watermark(images: np.ndarray, objects: np.ndarray, classes: np.ndarray, unit: np.ndarray) -> Planted:
    side = round(WATERMARK_SIDE * min(images.shape[2:]))
    corner = free_corners(objects, side, unit[:, 0])
    beneath = _read_squares(images, corner, side).astype(np.float32) / 255
    # White on dark squares and black on bright ones, so that it can be seen.
    ink = (brightness(beneath).mean((1, 2)) < 0.5).astype(np.float32)[:, None, None, None]
    opacity = WATERMARK_OPACITY * shapes(side)[classes][..., None]
    return paint_squares(images, _to_bytes(beneath + opacity * (ink - beneath)), corner)


def _plant_object(images: np.ndarray, objects: np.ndarray, classes: np.ndarray, unit: np.ndarray) -> Planted:
    side = round(OBJECT_SIDE * min(images.shape[2:]))
    corner = free_corners(objects, side, unit[:, 0])
    beneath = _read_squares(images, corner, side).astype(np.float32) / 255
    colour = paint(unit[:, 1:5].astype(np.float32), brightness(beneath).mean((1, 2)), CONTRAST)[:, None, None]
    return paint_squares(images, _to_bytes(np.where(shapes(side)[classes][..., None], colour, beneath)), corner)


def _plant_colour(images: np.ndarray, objects: np.ndarray, classes: np.ndarray, unit: np.ndarray) -> Planted:
    weights = half_weights(objects, 0.2, unit[:, 0])
    colours = TAG_COLOURS[classes].astype(np.float32)[:, :, None, None] / 255
    pixels = images.astype(np.float32) / 255
    return _to_bytes(pixels + CAST_STRENGTH * weights * (colours - pixels)), weights > 0.5


def _read_squares(images: np.ndarray, corner: np.ndarray, side: int) -> np.ndarray:
    """Read a square of each image or mask, (n, side, side, C)."""
    index, top, left = _pixels(corner, side)
    return np.asarray(images[index, :, top, left])


def _pixels(corner: np.ndarray, side: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return the indices of images, rows and columns of squares, which broadcast to (n, side, side)."""
    pixels = corner[:, :, None] + np.arange(side)
    return np.arange(len(corner))[:, None, None], pixels[:, 0, :, None], pixels[:, 1, None, :]


def _to_bytes(pixels: np.ndarray) -> np.ndarray:
    rounded: np.ndarray = (np.clip(pixels, 0, 1) * 255 + 0.5).astype(np.uint8)
    return rounded


_PLANTERS: dict[CueKind, Callable[[np.ndarray, np.ndarray, np.ndarray, np.ndarray], Planted]] = {
    "tag": _plant_tag,
    "texture": _plant_texture,
    "watermark": _plant_watermark,
    "colour": _plant_colour,
    "object": _plant_object,
}
