"""Read image files: photographs, scans, label masks and DICOM.

The pixels are upright (EXIF), 8-bit and opaque. Alpha is laid over white, animations give their first frame, CMYK and
palettes become RGB. 16-bit grey keeps its whole range (65535 becomes 255). Other deep or fractional grey, whose range
is in no header, is stretched from its lowest to its highest value.

The formats are those that Pillow decodes itself. EPS is not among them, since it would start another program. Known
limits: colour profiles are not applied; 16-bit colour loses its low byte in Pillow.
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
from PIL import Image, UnidentifiedImageError

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
EXIF_ORIENTATION = 0x0112
MOST_LABEL = 2**53
# Elements of group 2 or 8 that files without a preamble begin with: lengths, character set, image type, identifiers.
DICOM_ELEMENTS = frozenset({b"\x00\x00", b"\x01\x00", b"\x05\x00", b"\x08\x00", b"\x16\x00", b"\x18\x00"})
UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
SWAPS_SIDES = frozenset({5, 6, 7, 8})


class UnreadableImage(InterpError):  # noqa: N818 - the name says what is wrong
    """An image file that cannot be read.

    Attributes:
        path: the file.
        reason: why it cannot be read, without the path.
    """

    def __init__(self, path: Path | str, reason: str) -> None:
        self.path, self.reason = Path(path), reason
        super().__init__(f"cannot read image {path}: {reason}; replace the file or take it out of the data set")

    def __reduce__(self) -> tuple[type[UnreadableImage], tuple[Path, str]]:
        return type(self), (self.path, self.reason)


def read_image(path: Path | str, *, most_pixels: int = MOST_PIXELS, upright: bool = True) -> np.ndarray:
    """Read an image file, (H, W, 3) uint8.

    Args:
        path: the file. Its format is detected from its content.
        most_pixels: larger images are refused before they are decoded.
        upright: rotate and flip the image as its EXIF says.

    Raises:
        UnreadableImage: the file does not exist or cannot be decoded.
    """
    return np.array(decode_image(path, most_pixels=most_pixels, upright=upright).convert("RGB"))


def read_mask(path: Path | str, *, most_pixels: int = MOST_PIXELS) -> np.ndarray:
    """Read the labels of a mask file, (H, W) int64: grey values or palette indices as stored.

    Colours become red + 256 green + 65536 blue, unless all three are equal everywhere. EXIF is not applied.

    Raises:
        UnreadableImage: the file does not exist, cannot be decoded, or is DICOM.
    """
    with open_image(path, most_pixels) as (image, _):
        if image is None:
            raise UnreadableImage(path, "a mask must be an image such as PNG, not DICOM")
        return mask_labels(image)


def mask_labels(image: Image.Image) -> np.ndarray:
    """Return the labels (H, W) int64 of an open mask; see `read_mask`. Fractions are rounded up."""
    plain = image.convert("RGB") if image.mode in ("RGBA", "RGBa", "RGBX", "CMYK", "YCbCr") else image
    if image.mode in ("LA", "La", "PA"):
        plain = image.getchannel(0)
    values = np.array(plain)
    if values.dtype.kind == "f":
        values = np.ceil(np.nan_to_num(values).clip(-MOST_LABEL, MOST_LABEL))
    values = values.astype(np.int64)
    if values.ndim == 2:
        return values
    red, green, blue = np.moveaxis(values, -1, 0)
    is_grey = (red == green).all() and (red == blue).all()
    return np.asarray(red if is_grey else red + 256 * green + 65536 * blue)


def read_size(path: Path | str, *, most_pixels: int = MOST_PIXELS, upright: bool = True) -> tuple[int, int]:
    """Read (width, height) from the header of an image file, without decoding pixels.

    Raises:
        UnreadableImage: the file does not exist or its header is not that of an image.
    """
    with open_image(path, most_pixels) as (image, file):
        if image is None:
            from interp_core.datasets.files.dicom import dicom_size

            return dicom_size(file, most_pixels)
        is_turned = upright and _orientation(image) in SWAPS_SIDES
        return (image.height, image.width) if is_turned else image.size


def count_frames(path: Path | str, *, most_pixels: int = MOST_PIXELS) -> int:
    """Read the number of frames or pages from a file, of which only the first is read.

    Raises:
        UnreadableImage: the file does not exist or its header is not that of an image.
    """
    with open_image(path, most_pixels) as (image, file):
        if image is None:
            from interp_core.datasets.files.dicom import frame_count

            return frame_count(file)
        # Previews of cameras, and the sizes of an icon, show the same picture.
        return 1 if image.format in ("MPO", "ICO") else int(getattr(image, "n_frames", 1))


def decode_image(path: Path | str, *, most_pixels: int = MOST_PIXELS, upright: bool = True) -> Image.Image:
    """Decode an image file to mode "L" or "RGB"; see `read_image`.

    Raises:
        UnreadableImage: the file does not exist or cannot be decoded.
    """
    with open_image(path, most_pixels) as (image, file):
        if image is None:
            from interp_core.datasets.files.dicom import decode_dicom

            return decode_dicom(file, most_pixels)
        # Read before decoding, since Pillow's decoder may drop what it has read of the header.
        turn = UPRIGHT.get(_orientation(image)) if upright else None
        plain = _plain(image)
        return plain if turn is None else plain.transpose(turn)


@contextmanager
def open_image(path: Path | str, most_pixels: int) -> Iterator[tuple[Image.Image | None, IO[bytes]]]:
    """Open an image of which only the header has been read, or None for DICOM, and its file.

    Every error inside the context becomes an `UnreadableImage`.
    """
    try:
        with Path(path).open("rb") as file:
            head = file.read(132)
            file.seek(0)
            if not head:
                raise UnreadableImage(path, "the file is empty")
            if is_dicom(head) or Path(path).suffix.lower() in (".dcm", ".dicom"):
                yield None, file
                return
            with Image.open(file, formats=_formats()) as image:
                check_pixels(image.width * image.height, most_pixels)
                yield image, file
    except InterpError as error:
        # Errors of the decoders lack the path.
        raise error if isinstance(error, UnreadableImage) else UnreadableImage(path, str(error)) from error
    except Exception as error:  # decoders may raise anything on damaged files
        raise UnreadableImage(path, _reason(error)) from error


def is_dicom(head: bytes) -> bool:
    """Return whether the first 132 bytes of a file are those of DICOM, with its preamble or without."""
    return head[128:132] == b"DICM" or (head[:2] in (b"\x08\x00", b"\x02\x00") and head[2:4] in DICOM_ELEMENTS)


@cache
def _formats() -> tuple[str, ...]:
    """Return those of `FORMATS` that this Pillow was built with."""
    Image.init()
    return tuple(name for name in FORMATS if name in Image.OPEN)


def _plain(image: Image.Image) -> Image.Image:
    """Convert an image of any mode to "L" or "RGB"."""
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
    """Return the EXIF orientation, or 1 if there is none or it cannot be read; the pixels may be fine even so."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            return int(image.getexif().get(EXIF_ORIENTATION, 1))
    except (OSError, SyntaxError, ValueError, TypeError, KeyError, IndexError, struct.error):
        return 1


def _reason(error: Exception) -> str:
    """Return the reason of an error in one line, without the path."""
    if isinstance(error, FileNotFoundError):
        return "there is no such file"
    if isinstance(error, UnidentifiedImageError):
        return "it is not an image of a known format"
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    return one_line(error, limit=200)
