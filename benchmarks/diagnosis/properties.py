"""Properties of whole images that may give a label away: brightness, contrast, colour, sharpness, border."""

from __future__ import annotations

import numpy as np

NAMES: tuple[str, ...] = ("brightness", "contrast", "red", "green", "blue", "saturation", "sharpness", "border")
BORDER = 0.06  # share of each side
HASH_SIDE = 8


def image_properties(images: np.ndarray) -> np.ndarray:
    """Compute the properties of images (N, 3, H, W) uint8, (N, P) in the order of `NAMES`.

    Brightness and contrast are mean and standard deviation of the grey value, colours are the differences of channel
    means to the brightness, saturation is the mean range of the channels, sharpness is the log of the variance of the
    Laplacian, border is the mean absolute difference of the outer frame to the brightness. All but sharpness are in
    units of the full range.
    """
    pixels = images.astype(np.float32) / 255
    grey = pixels.mean(1)
    brightness, contrast = grey.mean((1, 2)), grey.std((1, 2))
    colours = pixels.mean((2, 3)) - brightness[:, None]
    saturation = np.ptp(pixels, axis=1).mean((1, 2))
    frame = np.abs(grey - brightness[:, None, None])[:, frame_mask(*grey.shape[1:])].mean(1)
    return np.column_stack([brightness, contrast, colours, saturation, sharpness(grey), frame]).astype(np.float32)


def sharpness(grey: np.ndarray) -> np.ndarray:
    """Compute the log variance of the Laplacian (N,) of grey images (N, H, W) in [0, 1]."""
    inner = grey[:, 1:-1, 1:-1]
    laplacian = grey[:, :-2, 1:-1] + grey[:, 2:, 1:-1] + grey[:, 1:-1, :-2] + grey[:, 1:-1, 2:] - 4 * inner
    return np.log(laplacian.var((1, 2)) + 1e-6)


def frame_mask(height: int, width: int, share: float = BORDER) -> np.ndarray:
    """Return the mask (H, W) bool of the outer frame."""
    mask = np.ones((height, width), bool)
    rows, columns = max(1, round(share * height)), max(1, round(share * width))
    mask[rows : height - rows, columns : width - columns] = False
    return mask


def perceptual_hash(images: np.ndarray) -> np.ndarray:
    """Compute a 64-bit difference hash (N,) uint64 of images (N, 3, H, W) uint8.

    Each bit says whether one of 8 x 8 blocks is brighter than the next in its row.
    """
    grey = images.astype(np.float32).mean(1)
    blocks = _block_means(grey, HASH_SIDE, HASH_SIDE + 1)
    bits = (blocks[:, :, 1:] > blocks[:, :, :-1]).reshape(len(images), -1)
    return np.packbits(bits, axis=1).view(">u8")[:, 0].astype(np.uint64)


def _block_means(grey: np.ndarray, rows: int, columns: int) -> np.ndarray:
    row_edges = np.linspace(0, grey.shape[1], rows + 1).astype(int)[:-1]
    column_edges = np.linspace(0, grey.shape[2], columns + 1).astype(int)[:-1]
    sums = np.add.reduceat(np.add.reduceat(grey, row_edges, axis=1), column_edges, axis=2)
    ones = np.ones_like(grey[:1])
    return sums / np.add.reduceat(np.add.reduceat(ones, row_edges, axis=1), column_edges, axis=2)
