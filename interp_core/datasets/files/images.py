"""Any picture file as pixels: photographs, scans, label masks and DICOM, or `UnreadableImage` and why.

What comes out is upright (EXIF), 8 bits a channel and opaque: alpha is laid over white, of an animation the first frame
is taken, CMYK and palettes become RGB. Grey of 16 bits keeps its whole range (65535 becomes 255); other deep or
fractional grey, whose range no header tells, is stretched from its lowest to its highest value.

Formats are those Pillow decodes by itself; EPS, for which it would start another program, is none of them. Known
limits: colour profiles are not applied; 16-bit colour loses its low byte in Pillow; transparency of masks is ignored.
"""

from __future__ import annotations

import struct
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import IO

import numpy as np
from PIL import Image

from interp_core.datasets.files.pixels import MOST_PIXELS, check_pixels, to_uint8
from interp_core.errors import InterpError, one_line

FORMATS = ("JPEG", "MPO", "PNG", "GIF", "BMP", "DIB", "TIFF", "WEBP", "PPM", "JPEG2000", "AVIF", "PCX", "TGA", "ICO")
SUFFIXES = frozenset(
    f".{suffix}"
    for suffix in (
        *("jpg", "jpeg", "jpe", "jfif", "png", "gif", "bmp", "dib", "tif", "tiff", "webp", "ppm", "pgm", "pbm", "pnm"),
        *("jp2", "avif", "pcx", "tga", "ico", "dcm", "dicom"),
    )
)
ORIENTATION = 0x0112
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SWAPPING = frozenset({5, 6, 7, 8})


class UnreadableImage(InterpError):  # noqa: N818 - what it is, not that it is an error, is what callers ask
    """A file that holds no picture that can be read.

    Attributes:
        path: of the file.
        reason: why, without the path.
    """

    def __init__(self, path: Path | str, reason: str) -> None:
        self.path, self.reason = Path(path), reason
        super().__init__(f"cannot read image {path}: {reason}; replace the file or take it out of the data set")

    def __reduce__(self) -> tuple[type[UnreadableImage], tuple[Path, str]]:
        return type(self), (self.path, self.reason)


def read_image(path: Path | str, *, most_pixels: int = MOST_PIXELS, upright: bool = True) -> np.ndarray:
    """The picture in a file, (H, W, 3) uint8.

    Args:
        path: of the file; what it is is seen from its content.
        most_pixels: larger pictures are refused before they are decoded.
        upright: turn it as its EXIF says.

    Raises:
        UnreadableImage: there is no such file, or it holds no picture that can be read.
    """
    return np.array(decode_image(path, most_pixels=most_pixels, upright=upright).convert("RGB"))


def read_grey(path: Path | str, *, most_pixels: int = MOST_PIXELS, upright: bool = True) -> np.ndarray:
    """The picture in a file as brightness (ITU-R BT.601), (H, W) uint8; see `read_image`.

    Raises:
        UnreadableImage: there is no such file, or it holds no picture that can be read.
    """
    return np.array(decode_image(path, most_pixels=most_pixels, upright=upright).convert("L"))


def read_mask(path: Path | str, *, most_pixels: int = MOST_PIXELS) -> np.ndarray:
    """Labels of a mask file, (H, W) int64: grey values or palette indices as they stand in the file.

    Colours become red + 256 green + 65536 blue, unless all three are equal everywhere. No EXIF is applied.

    Raises:
        UnreadableImage: there is no such file, or it holds no picture that can be read.
    """
    with _opened(path, most_pixels) as (image, _):
        if image is None:
            raise UnreadableImage(path, "a mask must be a picture such as PNG, not DICOM")
        plain = image.convert("RGB") if image.mode in ("RGBA", "RGBa", "RGBX", "CMYK", "YCbCr") else image
        if image.mode in ("LA", "La", "PA"):
            plain = image.getchannel(0)
        values = np.array(plain).astype(np.int64)
    if values.ndim == 2:
        return values
    red, green, blue = np.moveaxis(values, -1, 0)
    return red if (red == green).all() and (red == blue).all() else red + 256 * green + 65536 * blue


def read_size(path: Path | str, *, most_pixels: int = MOST_PIXELS, upright: bool = True) -> tuple[int, int]:
    """(width, height) from a file's header; no pixel is decoded.

    Raises:
        UnreadableImage: there is no such file, or its header is that of no picture.
    """
    with _opened(path, most_pixels) as (image, file):
        if image is None:
            from interp_core.datasets.files.dicom import dicom_size

            return dicom_size(file, most_pixels)
        turned = upright and _orientation(image) in SWAPPING
        return (image.height, image.width) if turned else image.size


def decode_image(path: Path | str, *, most_pixels: int = MOST_PIXELS, upright: bool = True) -> Image.Image:
    """The decoded picture in a file, of mode "L" or "RGB"; see `read_image`.

    Raises:
        UnreadableImage: there is no such file, or it holds no picture that can be read.
    """
    with _opened(path, most_pixels) as (image, file):
        if image is None:
            from interp_core.datasets.files.dicom import dicom_picture

            return dicom_picture(file, most_pixels)
        # Asked for first: Pillow's decoder may drop what it has read of the header.
        turn = UPRIGHT.get(_orientation(image)) if upright else None
        plain = _plain(image)
        return plain if turn is None else plain.transpose(turn)


@contextmanager
def _opened(path: Path | str, most_pixels: int) -> Iterator[tuple[Image.Image | None, IO[bytes]]]:
    """A picture with only its header read, or None for DICOM, and the file; what fails inside becomes one error."""
    try:
        with Path(path).open("rb") as file:
            head = file.read(132)
            file.seek(0)
            if not head:
                raise UnreadableImage(path, "the file is empty")
            if head[128:] == b"DICM" or Path(path).suffix.lower() in (".dcm", ".dicom"):
                yield None, file
                return
            with Image.open(file, formats=_formats()) as image:
                check_pixels(image.width * image.height, most_pixels)
                yield image, file
    except InterpError as error:
        # Readers beneath know no path.
        raise error if isinstance(error, UnreadableImage) else UnreadableImage(path, str(error)) from error
    except Exception as error:  # decoders raise whatever a damaged file leads them to
        raise UnreadableImage(path, _reason(error)) from error


@cache
def _formats() -> tuple[str, ...]:
    """Those of `FORMATS` that this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _plain(image: Image.Image) -> Image.Image:
    """Mode "L" or "RGB" from any mode."""
    if image.mode in ("L", "RGB") and "transparency" not in image.info:
        image.load()
        return image
    if image.mode.startswith(("I", "F")):
        return Image.fromarray(to_uint8(np.asarray(image)))
    if "transparency" in image.info or image.mode in ("RGBA", "RGBa", "LA", "La", "PA"):
        rgba = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba).convert("RGB")
    return image.convert("L" if image.mode == "1" else "RGB")


def _orientation(image: Image.Image) -> int:
    """EXIF orientation; 1 where there is none or it cannot be read, which says nothing about the pixels."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return int(image.getexif().get(ORIENTATION, 1))
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error):
        return 1


def _reason(error: Exception) -> str:
    """Why, in one line and without the path."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, Image.UnidentifiedImageError):
        return "it is no picture of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return one_line(error, limit=200)
