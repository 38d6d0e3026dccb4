"""Pictures of every mode, damaged ones, and label masks; what comes out is known to the pixel."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from PIL import Image

from interp_core.datasets.files.images import UPRIGHT, UnreadableImage, decode_image, read_image, read_mask, read_size
from interp_core.datasets.files.pixels import MOST_PIXELS, stretch_to_uint8, to_uint8
from interp_core.errors import InterpError

COLOURS = np.random.default_rng(0).integers(0, 256, (6, 9, 3)).astype(np.uint8)
GREY = COLOURS[..., 0]
Kept = Callable[..., Path]


def read_grey(path: Path) -> np.ndarray:
    return np.array(decode_image(path).convert("L"))


@pytest.fixture
def write_image(tmp_path: Path) -> Kept:
    """Saves a picture, from an array or Pillow's own."""

    def keep(picture: Any, name: str = "a.png", **options: Any) -> Path:
        image = picture if isinstance(picture, Image.Image) else Image.fromarray(picture)
        image.save(tmp_path / name, **options)
        return tmp_path / name

    return keep


@pytest.mark.slow
@pytest.mark.parametrize("name", ["a.png", "a.bmp", "a.tif", "a.ppm", "a.tga"])
def test_lossless_colour_comes_back_pixel_for_pixel(write_image: Kept, name: str) -> None:
    np.testing.assert_array_equal(read_image(write_image(COLOURS, name)), COLOURS)


def test_what_a_file_is_is_seen_from_its_content(write_image: Kept) -> None:
    path = write_image(COLOURS).rename(write_image(COLOURS).with_suffix(".jpg"))
    np.testing.assert_array_equal(read_image(path), COLOURS)


def test_grey_becomes_three_alike_channels(write_image: Kept) -> None:
    np.testing.assert_array_equal(read_image(write_image(GREY)), np.stack([GREY] * 3, -1))
    np.testing.assert_array_equal(read_grey(write_image(GREY)), GREY)


def test_bilevel_is_black_and_white(write_image: Kept) -> None:
    np.testing.assert_array_equal(read_grey(write_image(Image.fromarray(GREY > 127))), np.where(GREY > 127, 255, 0))


def test_palettes_become_their_colours(write_image: Kept) -> None:
    image = Image.fromarray(np.array([[0, 1], [2, 1]], np.uint8), "L").convert("P")
    image.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90])
    expected = [[[10, 20, 30], [40, 50, 60]], [[70, 80, 90], [40, 50, 60]]]
    np.testing.assert_array_equal(read_image(write_image(image)), expected)


def test_alpha_is_laid_over_white(write_image: Kept) -> None:
    pixels = np.array([[[10, 20, 30, 255], [10, 20, 30, 0], [0, 0, 0, 128]]], np.uint8)
    np.testing.assert_allclose(read_image(write_image(pixels)), [[[10, 20, 30], [255] * 3, [127] * 3]], atol=1)
    grey = Image.fromarray(np.array([[[7, 255], [7, 0]]], np.uint8), "LA")
    np.testing.assert_array_equal(read_grey(write_image(grey)), [[7, 255]])


def test_a_transparent_palette_colour_is_laid_over_white(write_image: Kept) -> None:
    image = Image.fromarray(np.array([[0, 1]], np.uint8), "P")
    image.putpalette([10, 20, 30, 40, 50, 60])
    np.testing.assert_array_equal(read_image(write_image(image, transparency=0)), [[[255] * 3, [40, 50, 60]]])


def test_sixteen_bits_are_scaled_and_not_clipped(write_image: Kept) -> None:
    deep = np.array([[0, 257, 32896, 65535]], np.uint16)
    for name in ("a.png", "a.tif"):
        np.testing.assert_array_equal(read_grey(write_image(deep, name)), [[0, 1, 128, 255]])


def test_fractions_are_stretched_between_their_ends(write_image: Kept) -> None:
    np.testing.assert_array_equal(
        read_grey(write_image(np.array([[-1.0, 0.0, 1.0]], np.float32), "a.tif")), [[0, 128, 255]]
    )


@pytest.mark.slow
@given(arrays(np.int32, (2, 5), elements=st.integers(-(2**20), 2**20)))
def test_deep_grey_keeps_its_order(values: np.ndarray) -> None:
    pixels = to_uint8(values).astype(int)
    order = np.argsort(values.ravel(), kind="stable")
    assert (np.diff(pixels.ravel()[order]) >= 0).all()


def test_stretching_copes_with_what_is_not_finite_or_flat() -> None:
    np.testing.assert_array_equal(stretch_to_uint8(np.array([[np.nan, 1.0, 3.0]])), [[0, 0, 255]])
    assert not stretch_to_uint8(np.full((2, 2), 7)).any()
    with pytest.raises(InterpError, match="finite"):
        stretch_to_uint8(np.full((1, 1), np.nan))


def test_cmyk_becomes_rgb(write_image: Kept) -> None:
    path = write_image(
        Image.fromarray(np.full((8, 8, 3), (200, 40, 90), np.uint8)).convert("CMYK"), "a.jpg", quality=100
    )
    np.testing.assert_allclose(read_image(path), np.full((8, 8, 3), (200, 40, 90)), atol=3)


def test_the_first_frame_of_an_animation_is_taken(write_image: Kept) -> None:
    frames = [Image.fromarray(np.full((4, 5), value, np.uint8)) for value in (30, 200)]
    np.testing.assert_array_equal(
        read_grey(write_image(frames[0], "a.gif", save_all=True, append_images=frames[1:])), 30
    )


@pytest.mark.parametrize("orientation", range(1, 9))
def test_exif_turns_the_picture_upright_unless_told_otherwise(write_image: Kept, orientation: int) -> None:
    exif = Image.Exif()
    exif[0x0112] = orientation
    path = write_image(COLOURS, exif=exif)
    turned = Image.fromarray(COLOURS)
    turned = turned if orientation == 1 else turned.transpose(UPRIGHT[orientation])
    np.testing.assert_array_equal(read_image(path), np.asarray(turned))
    np.testing.assert_array_equal(read_image(path, upright=False), COLOURS)
    assert read_size(path) == turned.size
    assert read_size(path, upright=False) == (9, 6)


def test_broken_exif_says_nothing_about_the_pixels(write_image: Kept) -> None:
    path = write_image(
        Image.fromarray(np.full((8, 8), 90, np.uint8)), "a.jpg", exif=b"Exif\x00\x00MM\x00*\xff\xff\xff\xffnonsense"
    )
    np.testing.assert_array_equal(read_grey(path), 90)


def damaged(write_image: Kept, how: str) -> Path:
    path = write_image(COLOURS.repeat(20, 0).repeat(20, 1), "a.jpg" if "jpg" in how else "a.png")
    content = path.read_bytes()
    path.write_bytes(
        {
            "zero bytes": b"",
            "truncated jpg": content[: len(content) // 2],
            "truncated png": content[: len(content) // 2],
            "header alone": content[:8],
            "text": b"this is no picture",
            "text called dicom": b"this is no picture",
        }[how]
    )
    return path.rename(path.with_suffix(".dcm")) if "dicom" in how else path


@pytest.mark.parametrize(
    "how", ["zero bytes", "truncated jpg", "truncated png", "header alone", "text", "text called dicom"]
)
def test_damaged_files_are_told_in_one_line_with_their_place(write_image: Kept, how: str) -> None:
    path = damaged(write_image, how)
    with pytest.raises(UnreadableImage) as raised:
        read_image(path)
    assert str(path) in str(raised.value)
    assert str(path) not in raised.value.reason
    assert "\n" not in str(raised.value)


def test_missing_files_and_folders_are_told(tmp_path: Path) -> None:
    with pytest.raises(UnreadableImage, match="no such file"):
        read_image(tmp_path / "none.png")
    with pytest.raises(UnreadableImage, match="directory"):
        read_image(tmp_path)


def test_large_pictures_are_refused_before_they_are_decoded(write_image: Kept) -> None:
    path = write_image(COLOURS)
    for read in (read_image, decode_image, read_mask, read_size):
        with pytest.raises(UnreadableImage, match=r"54 pixels are more than the 53 allowed \(most_pixels\)"):
            read(path, most_pixels=53)
    assert read_image(path, most_pixels=54).shape == (6, 9, 3)


@pytest.mark.slow
def test_a_bomb_is_refused(tmp_path: Path) -> None:
    side = 20_000
    assert side * side > MOST_PIXELS
    head = side.to_bytes(4, "big") * 2 + b"\x01\x00\x00\x00\x00"
    chunks = [(b"IHDR", head), (b"IDAT", zlib.compress(bytes(side // 8 + 1) * side)), (b"IEND", b"")]
    path = tmp_path / "bomb.png"
    path.write_bytes(
        b"\x89PNG\r\n\x1a\n"
        + b"".join(
            len(body).to_bytes(4, "big") + kind + body + zlib.crc32(kind + body).to_bytes(4, "big")
            for kind, body in chunks
        )
    )
    assert path.stat().st_size < 100_000
    with pytest.raises(UnreadableImage, match="bomb"):
        read_image(path)


def test_programs_are_never_started(tmp_path: Path) -> None:
    path = tmp_path / "a.eps"
    path.write_bytes(b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 9 9\n%%EndComments\nshowpage\n")
    with pytest.raises(UnreadableImage, match="not an image of a known format"):
        read_image(path)


def test_the_error_travels_between_processes() -> None:
    error = pickle.loads(pickle.dumps(UnreadableImage("a/b.png", "because")))
    assert (error.path, error.reason) == (Path("a/b.png"), "because")


def test_masks_keep_their_numbers(write_image: Kept) -> None:
    labels = np.array([[0, 1, 2], [255, 3, 0]], np.uint8)
    np.testing.assert_array_equal(read_mask(write_image(labels)), labels)
    np.testing.assert_array_equal(read_mask(write_image(labels.astype(np.uint16) * 256)), labels.astype(int) * 256)
    palette = Image.fromarray(labels, "P")
    palette.putpalette(list(range(256)) * 3)
    np.testing.assert_array_equal(read_mask(write_image(palette)), labels)
    np.testing.assert_array_equal(read_mask(write_image(palette, transparency=0)), labels)
    np.testing.assert_array_equal(read_mask(write_image(Image.fromarray(labels > 1))), labels > 1)


def test_colours_of_masks_become_numbers_and_greys_their_value(write_image: Kept) -> None:
    colours = np.array([[[0, 0, 0], [1, 2, 0]], [[255, 0, 0], [0, 0, 1]]], np.uint8)
    np.testing.assert_array_equal(read_mask(write_image(colours)), [[0, 513], [255, 65536]])
    np.testing.assert_array_equal(read_mask(write_image(np.full((1, 1, 3), 9, np.uint8))), [[9]])
    np.testing.assert_array_equal(read_mask(write_image(np.full((1, 1, 4), 9, np.uint8))), [[9]])
