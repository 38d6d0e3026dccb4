"""Edits of whole images: move one property by an amount, and a control that changes the pixels as much.

Idea: an edit is a family of images with one strength, along which the property grows. The strength is sought by
bisection for each image, so that the property moves by the amount in its own units in spite of clipping. The control
adds smooth, uneven light with the same L2 change, then moves the property back to where it was.

Limits: an image without any contrast, colour or detail cannot get more of it, and clipping at black and white bounds
all edits. Such images move as far as they can.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from benchmarks.diagnosis.check import Edit
from benchmarks.diagnosis.properties import frame_mask

Measure = Callable[[Tensor], Tensor]
Move = Callable[[Tensor, Tensor], Tensor]

STEPS = 14  # of bisection
OCTAVES = 6  # the largest factor is 2 ** OCTAVES
BLUR = 1 / 8  # largest standard deviation of the blur in sides of the image
PATCHES = 4  # of the control's pattern a side
RED, GREEN, BLUE = 0, 1, 2
CHANNELS = ("red", "green", "blue")


@dataclass
class PropertyEdit:
    """An edit of one property; see `Edit`.

    Attributes:
        measure: computes the property (N,) of images (N, 3, H, W) in [0, 1].
        move: changes images by strengths (N, 1, 1, 1) in [-1, 1], along which the property grows.
        control: what the control does, in words.
        seed: of the control's patterns.
    """

    measure: Measure
    move: Move
    control: str = "smooth uneven light, with as large a change of the pixels (L2)"
    seed: int = 0

    def apply(self, images: Tensor, amount: float | Tensor) -> Tensor:
        """Move the property of images (N, 3, H, W) in [0, 1] by `amount` in its units, one or (N,)."""
        return _move_to(images, self.measure, self.move, self.measure(images) + amount)

    def apply_control(self, images: Tensor, amount: float) -> Tensor:
        """Change the images as much (L2) by smooth uneven light, with the property as it was."""
        pattern = uneven_light(images, self.seed)
        change = _distance(images, self.apply(images, amount))
        lit = _move_to(
            images, lambda moved: _distance(images, moved), lambda x, s: (x + 2 * s * pattern).clamp(0, 1), change
        )
        return _move_to(lit, self.measure, self.move, self.measure(images))


def edit_of(name: str, frame: Sequence[float] | None = None, tint: Sequence[float] | None = None) -> Edit | None:
    """Return the edit of a property by its name; None where there is none.

    Args:
        name: of the property.
        frame: colour (3,) in [0, 1] that a border gets; None for the one of black and white that differs most.
        tint: difference (3,) of the channels that goes with a colour; None for that channel against both others.
    """
    if name in CHANNELS and tint is not None:
        return _edit_colour(CHANNELS.index(name), _direction(CHANNELS.index(name), tint))
    if name == "border":
        return PropertyEdit(measure_border, lambda images, strength: _blend_frame(images, strength, frame))
    return EDITS.get(name)


def uneven_light(images: Tensor, seed: int) -> Tensor:
    """Return smooth random patterns (N, 1, H, W) of mean 0 and maximum 1."""
    generator = torch.Generator().manual_seed(seed)
    coarse = torch.randn(len(images), 1, PATCHES, PATCHES, generator=generator).to(images)
    pattern = F.interpolate(coarse, images.shape[-2:], mode="bicubic", align_corners=False)
    pattern = pattern - pattern.mean((2, 3), keepdim=True)
    return pattern / pattern.abs().amax((2, 3), keepdim=True).clamp(min=1e-6)


def _move_to(images: Tensor, measure: Measure, move: Move, target: Tensor) -> Tensor:
    """Move each image to the strength at which its property meets the target (N,)."""
    start = measure(images)
    sign = torch.where(target >= start, 1.0, -1.0).to(images)
    low, high = torch.zeros_like(sign), torch.ones_like(sign)
    for _ in range(STEPS):
        middle = (low + high) / 2
        is_short = (measure(move(images, _column(sign * middle))) - target) * sign < 0
        low, high = torch.where(is_short, middle, low), torch.where(is_short, high, middle)
    moved = move(images, _column(sign * (low + high) / 2))
    return torch.where(_column((target - start).abs() > 1e-6), moved, images)


def _column(values: Tensor) -> Tensor:
    return values[:, None, None, None]


def _distance(first: Tensor, second: Tensor) -> Tensor:
    return (first - second).flatten(1).norm(dim=1)


def measure_brightness(images: Tensor) -> Tensor:
    """Compute the mean grey value (N,)."""
    return images.mean((1, 2, 3))


def measure_contrast(images: Tensor) -> Tensor:
    """Compute the standard deviation (N,) of the grey value."""
    return images.mean(1).std((1, 2), correction=0)


def measure_colour(images: Tensor, channel: int) -> Tensor:
    """Compute the mean of a channel less the brightness, (N,)."""
    return images[:, channel].mean((1, 2)) - measure_brightness(images)


def measure_saturation(images: Tensor) -> Tensor:
    """Compute the mean range (N,) of the channels."""
    return (images.amax(1) - images.amin(1)).mean((1, 2))


def measure_sharpness(images: Tensor) -> Tensor:
    """Compute the log variance (N,) of the Laplacian."""
    grey = images.mean(1)
    sides = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:]
    return ((sides - 4 * grey[:, 1:-1, 1:-1]).var((1, 2), correction=0) + 1e-6).log()


def measure_border(images: Tensor) -> Tensor:
    """Compute the mean absolute difference (N,) of the frame to the brightness."""
    difference = (images.mean(1) - measure_brightness(images)[:, None, None]).abs()
    return difference[:, _frame(images)].mean(1)


def _frame(images: Tensor) -> Tensor:
    return torch.from_numpy(frame_mask(images.shape[-2], images.shape[-1])).to(images.device)


def _brighten(images: Tensor, strength: Tensor) -> Tensor:
    return (images + strength).clamp(0, 1)


def _stretch(images: Tensor, strength: Tensor) -> Tensor:
    grey = images.mean(1, keepdim=True)
    return (images + (2 ** (OCTAVES * strength) - 1) * (grey - grey.mean((2, 3), keepdim=True))).clamp(0, 1)


def _saturate(images: Tensor, strength: Tensor) -> Tensor:
    grey = images.mean(1, keepdim=True)
    return (grey + 2 ** (OCTAVES * strength) * (images - grey)).clamp(0, 1)


def _cast(images: Tensor, strength: Tensor, direction: Tensor) -> Tensor:
    return (images + strength * direction.to(images)).clamp(0, 1)


def _direction(channel: int, tint: Sequence[float] | None = None) -> Tensor:
    """Return the direction (1, 3, 1, 1) of a tint in which a channel grows by 1 against the brightness.

    A tint in which it hardly differs from the brightness gives the channel against both others.
    """
    direction = torch.full((3,), -0.5)
    direction[channel] = 1
    if tint is not None:
        difference = torch.tensor(tint, dtype=torch.float32)
        own = difference[channel] - difference.mean()
        if own.abs() > 0.25 * difference.abs().max():
            direction = difference / own
    return direction[None, :, None, None]


def _focus(images: Tensor, strength: Tensor) -> Tensor:
    """Blur at negative strengths, and sharpen by an unsharp mask at positive ones."""
    sigma = strength.clamp(max=0).abs() * min(images.shape[-2:]) * BLUR
    gain = 2 ** (OCTAVES * strength.clamp(min=0)) - 1
    sharpened = images + gain * (images - blur(images, torch.ones_like(sigma)))
    return torch.where(strength < 0, blur(images, sigma), sharpened.clamp(0, 1))


def blur(images: Tensor, sigma: Tensor) -> Tensor:
    """Blur images (N, C, H, W) by Gaussians of standard deviation `sigma` (N, 1, 1, 1) pixels, mirrored at the edge."""
    rows, columns = images.shape[-2:]
    mirrored = torch.cat([images, images.flip(2)], 2)
    mirrored = torch.cat([mirrored, mirrored.flip(3)], 3)
    down, across = torch.fft.fftfreq(2 * rows), torch.fft.rfftfreq(2 * columns)
    squared = (down[:, None] ** 2 + across**2).to(images)
    transfer = torch.exp(-2 * math.pi**2 * sigma**2 * squared)
    return torch.fft.irfft2(torch.fft.rfft2(mirrored) * transfer, s=mirrored.shape[-2:])[..., :rows, :columns]


def _blend_frame(images: Tensor, strength: Tensor, colour: Sequence[float] | None) -> Tensor:
    """Blend the frame into a colour at positive strengths, and into the image's mean colour at negative ones."""
    if colour is None:
        paint = torch.where(_column(measure_brightness(images)) < 0.5, 1.0, 0.0).to(images)
    else:
        paint = torch.tensor(colour)[None, :, None, None].to(images)
    target = torch.where(strength < 0, images.mean((2, 3), keepdim=True), paint)
    return torch.where(_frame(images), images + strength.abs() * (target - images), images)


def _edit_colour(channel: int, direction: Tensor | None = None) -> PropertyEdit:
    towards = _direction(channel) if direction is None else direction
    return PropertyEdit(lambda x: measure_colour(x, channel), lambda x, s: _cast(x, s, towards))


EDITS: dict[str, Edit] = {
    "brightness": PropertyEdit(measure_brightness, _brighten),
    "contrast": PropertyEdit(measure_contrast, _stretch),
    "red": _edit_colour(RED),
    "green": _edit_colour(GREEN),
    "blue": _edit_colour(BLUE),
    "saturation": PropertyEdit(measure_saturation, _saturate),
    "sharpness": PropertyEdit(measure_sharpness, _focus),
}
