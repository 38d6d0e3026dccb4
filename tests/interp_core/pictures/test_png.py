"""PNG files of figures and of Pillow images."""

from __future__ import annotations

import io

import numpy as np
from matplotlib.figure import Figure
from PIL import Image

from interp_core.pictures.png import encode_png


def test_an_image_comes_back_as_it_was() -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (5, 7, 3), dtype=np.uint8)
    np.testing.assert_array_equal(Image.open(io.BytesIO(encode_png(Image.fromarray(pixels)))), pixels)


def test_a_figure_has_its_own_dpi_and_always_the_same_bytes() -> None:
    content = encode_png(Figure((2, 1), dpi=50))
    assert Image.open(io.BytesIO(content)).size == (100, 50)
    assert encode_png(Figure((2, 1), dpi=50)) == content
