"""Masks however they were saved mark what they marked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from interp_core.datasets import MaskFile
from interp_core.datasets.files.masks import read_evidence

SIDE = 40
SQUARE = np.zeros((SIDE, SIDE), bool)
SQUARE[10:20, 10:26] = True


def marked(
    tmp_path: Path, image: Image.Image, name: str, values: tuple[int, ...] | None = None, **how: Any
) -> np.ndarray:
    image.save(tmp_path / name, **how)
    return read_evidence(MaskFile(tmp_path / name, values), (SIDE, SIDE))


def grey(value: int) -> Image.Image:
    return Image.fromarray(np.where(SQUARE, value, 0).astype(np.uint8))


def colour(inside: tuple[int, ...], outside: tuple[int, ...]) -> Image.Image:
    pixels = np.where(SQUARE[..., None], np.array(inside), np.array(outside)).astype(np.uint8)
    return Image.fromarray(pixels)


@pytest.mark.parametrize("quality", [40, 75, 95])
@pytest.mark.parametrize("image", [grey(255), grey(1), colour((255, 0, 0), (0, 0, 0)), colour((0, 90, 255), (0, 0, 0))])
def test_jpeg(tmp_path: Path, image: Image.Image, quality: int) -> None:
    if image.getextrema()[1] == 1 and quality < 90:
        pytest.skip("values of 1 do not survive this quality")
    assert (marked(tmp_path, image, "m.jpg", quality=quality) ^ SQUARE).mean() < 0.02


@pytest.mark.parametrize(
    ("image", "values"),
    [(grey(255), (255,)), (grey(128), (128,)), (colour((255, 0, 0), (0, 0, 0)), (255 + 65536,))],
)
def test_jpeg_with_given_values(tmp_path: Path, image: Image.Image, values: tuple[int, ...]) -> None:
    assert (marked(tmp_path, image, "m.jpg", values, quality=75) ^ SQUARE).mean() < 0.02


@pytest.mark.parametrize(
    "image",
    [
        grey(255), grey(1), grey(255).convert("1"), colour((0, 0, 9), (0, 0, 0)),
        colour((200, 0, 0), (255, 255, 255)),
        colour((0, 0, 0, 255), (0, 0, 0, 0)), colour((255, 255, 255, 255), (255, 255, 255, 0)),
        colour((9, 9, 9, 255), (255, 255, 255, 0)), colour((0, 0, 0, 255), (255, 255, 255, 0)),
        Image.fromarray(np.where(SQUARE, 0.5, np.nan).astype(np.float32)),
    ],
)  # fmt: skip
def test_lossless_forms(tmp_path: Path, image: Image.Image) -> None:
    name = "m.tif" if image.mode == "F" else "m.png"
    np.testing.assert_array_equal(marked(tmp_path, image, name), SQUARE)


@pytest.mark.parametrize(("first", "second", "inside"), [((0, 0, 0), (9, 0, 0), 1), ((255, 255, 255), (0, 0, 0), 0)])
def test_palettes(tmp_path: Path, first: tuple[int, ...], second: tuple[int, ...], inside: int) -> None:
    image = Image.fromarray(np.where(SQUARE, inside, 1 - inside).astype(np.uint8), "P")
    image.putpalette([*first, *second])
    np.testing.assert_array_equal(marked(tmp_path, image, "m.png"), SQUARE)
    np.testing.assert_array_equal(marked(tmp_path, image, "m.png", (inside,)), SQUARE)


def test_blurred_edges_of_lossless_masks_count(tmp_path: Path) -> None:
    pixels = np.zeros((SIDE, SIDE), np.uint8)
    pixels[3, :3] = 1, 100, 255
    assert marked(tmp_path, Image.fromarray(pixels), "m.png").sum() == 3
