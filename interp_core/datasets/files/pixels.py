"""Check and convert the pixels of images."""

from __future__ import annotations

import numpy as np

from interp_core.errors import InterpError

# Pillow's limit, above which it warns of a decompression bomb.
MOST_PIXELS = 89_478_485


def check_pixels(count: int, most: int) -> None:
    """Refuse an image that is implausibly large.

    Raises:
        InterpError: it has more pixels than `most`.
    """
    if count > most:
        raise InterpError(
            f"{count} pixels are more than the {most} allowed (most_pixels): it may be a decompression bomb"
        )


def to_uint8(values: np.ndarray) -> np.ndarray:
    """Convert deep grey (H, W) to uint8.

    Whole numbers in 0..65535 are scaled by the range of their type, other values by their own range.
    """
    if values.dtype == np.uint16 or (values.dtype.kind in "iu" and values.min() >= 0 and 255 < values.max() <= 65535):
        return ((values.astype(np.uint32) + 128) // 257).astype(np.uint8)
    return stretch_to_uint8(values)


def stretch_to_uint8(values: np.ndarray) -> np.ndarray:
    """Scale values (H, W) so that the lowest finite one is 0 and the highest 255; NaN and infinity become 0.

    Raises:
        InterpError: no value is finite.
    """
    numbers = values.astype(np.float64)
    finite = np.isfinite(numbers)
    if not finite.any():
        raise InterpError("no pixel has a finite value")
    low, high = numbers[finite].min(), numbers[finite].max()
    scaled = (np.where(finite, numbers, low) - low) * (255 / (high - low) if high > low else 0)
    return np.asarray(np.rint(scaled)).astype(np.uint8)
