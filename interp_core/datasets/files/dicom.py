"""DICOM as pictures: rescaled, windowed, and with white always meaning more.

Values are rescaled (slope and intercept, or the modality's table), seen through the file's own window or table of
values of interest where there is one, and mapped to 0..255. Without a window, 8 bits are taken as they are and deeper
pixels from lowest to highest. MONOCHROME1, where black means more, is inverted. Of several frames the first is taken.

Source: DICOM PS3.3 C.7.6.3, C.11.1 and C.11.2, by pydicom. Known limits: overlays and padding values are not treated,
presentation states are not read.
"""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import IO, Any

import numpy as np
from PIL import Image

from interp_core.datasets.files.pixels import check_pixels, stretch_to_uint8
from interp_core.errors import InterpError

# 8-bit JPEG, as of the RSNA challenge.
BASELINE = "1.2.840.10008.1.2.4.50"
# Far outside every stored value: what a window makes of them are the ends of its range.
OUTSIDE = np.array([-1e12, 1e12])


def pydicom() -> ModuleType:
    """The library.

    Raises:
        InterpError: it is not installed.
    """
    try:
        import pydicom as library
        import pydicom.pixels
    except ImportError as error:
        raise InterpError("DICOM needs the package pydicom: pip install 'interp-bench[dicom]'") from error
    return library


def read_header(file: IO[bytes]) -> Any:
    """All of a file but its pixels, as pydicom gives it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote the file
        return pydicom().dcmread(file, force=True, stop_before_pixels=True)


def dicom_size(file: IO[bytes], most_pixels: int) -> tuple[int, int]:
    """(width, height) from the header.

    Raises:
        InterpError: it has none.
    """
    return _size(read_header(file), most_pixels)


def dicom_picture(file: IO[bytes], most_pixels: int) -> Image.Image:
    """The picture in a DICOM file, of mode "L" or "RGB".

    Args:
        file: open for reading.
        most_pixels: larger pictures are refused before they are decoded.

    Raises:
        InterpError: it holds no pixels, or pydicom is missing. What pydicom finds wrong comes as it raises it.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # they quote the file
        content = pydicom().dcmread(file, force=True)
        _size(content, most_pixels)
        if not any(name in content for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
            raise InterpError("the DICOM file holds no pixels")
        return Image.fromarray(_shown(content))


def _size(content: Any, most_pixels: int) -> tuple[int, int]:
    height, width = content.get("Rows"), content.get("Columns")
    if not height or not width:
        raise InterpError("it holds no DICOM picture: Rows and Columns are missing")
    check_pixels(height * width, most_pixels)
    return int(width), int(height)


def _shown(content: Any) -> np.ndarray:
    """(H, W) or (H, W, 3) uint8."""
    pixels = pydicom().pixels
    # Four times as quick as what pydicom takes where others are installed, and the same pixels wherever it runs.
    plugin = "pillow" if content.file_meta.get("TransferSyntaxUID") == BASELINE else ""
    # Colour comes as RGB; one frame of many.
    values = pixels.pixel_array(content, index=0, decoding_plugin=plugin)
    kind = str(content.get("PhotometricInterpretation", "MONOCHROME2"))
    if kind == "PALETTE COLOR":
        return _colour(pixels.apply_color_lut(values, content), 16)
    if values.ndim == 3:
        return _colour(values, int(content.get("BitsStored", 8)))
    grey = _windowed(pixels.apply_modality_lut(values, content), content)
    return 255 - grey if kind == "MONOCHROME1" else grey


def _colour(values: np.ndarray, bits: int) -> np.ndarray:
    if values.dtype == np.uint8 and bits <= 8:
        return np.ascontiguousarray(values)
    return np.rint(values.astype(np.float64) * (255 / (2**bits - 1))).clip(0, 255).astype(np.uint8)


def _windowed(values: np.ndarray, content: Any) -> np.ndarray:
    """Grey (H, W) as uint8 through the file's window, else by its range."""
    pixels = pydicom().pixels
    if content.get("VOILUTSequence"):
        return stretch_to_uint8(pixels.apply_voi(values, content))
    if content.get("WindowCenter") is not None and content.get("WindowWidth") is not None:
        low, high = pixels.apply_windowing(OUTSIDE, content)
        seen = pixels.apply_windowing(values.astype(np.float64), content)
        return np.rint((seen - low) * (255 / (high - low))).clip(0, 255).astype(np.uint8)
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    return stretch_to_uint8(values)
