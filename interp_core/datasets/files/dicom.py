"""Decode DICOM files: rescaled, windowed, and with white always meaning more.

Values are rescaled by slope and intercept or by the table of the modality. Then the window or table of values of
interest in the file is applied, if there is one, and the result is mapped to 0..255. Without a usable window, 8-bit
pixels are used unchanged and deeper ones are stretched from lowest to highest. MONOCHROME1, where black means more, is
inverted. Of several windows or frames the first is used. Elements that a file lacks are completed where its other
elements tell them (`dicom_header`).

Source: DICOM PS3.3 C.7.6.3, C.11.1 and C.11.2, by pydicom. Known limits: overlays and padding values are not treated;
presentation states are not read.
"""

from __future__ import annotations

import warnings
from types import ModuleType
from typing import IO, Any

import numpy as np
from PIL import Image

from interp_core.datasets.files.dicom_header import complete_header, number_of, number_of_frames
from interp_core.datasets.files.pixels import check_pixels, stretch_to_uint8
from interp_core.errors import InterpError

# 8-bit JPEG, as in the RSNA challenge.
JPEG_BASELINE = "1.2.840.10008.1.2.4.50"
# Far outside every stored value, so that a window maps them to the ends of its range.
EXTREMES = np.array([-1e12, 1e12])


def pydicom() -> ModuleType:
    """Import pydicom.

    Raises:
        InterpError: it is not installed.
    """
    try:
        import pydicom as library
        import pydicom.pixels
    except ImportError as error:
        raise InterpError("DICOM needs the package pydicom: pip install pydicom") from error
    module: ModuleType = library  # typed also where the package is not installed
    return module


def read_header(file: IO[bytes]) -> Any:
    """Read everything but the pixels, as a dataset of pydicom."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings quote the file, which may hold names of patients
        return pydicom().dcmread(file, force=True, stop_before_pixels=True)


def frame_count(file: IO[bytes]) -> int:
    """Read the number of frames from the header; 1 where it does not say."""
    return number_of_frames(read_header(file))


def dicom_size(file: IO[bytes], most_pixels: int) -> tuple[int, int]:
    """Read (width, height) from the header.

    Raises:
        InterpError: the header has no size, or it is larger than `most_pixels`.
    """
    return _size(read_header(file), most_pixels)


def decode_dicom(file: IO[bytes], most_pixels: int) -> Image.Image:
    """Decode a DICOM file to an image of mode "L" or "RGB".

    Args:
        file: file open for reading.
        most_pixels: larger images are refused before they are decoded.

    Raises:
        InterpError: it holds no pixels, or pydicom is missing. Errors of pydicom pass unchanged.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # warnings quote the file, which may hold names of patients
        content = pydicom().dcmread(file, force=True)
        _size(content, most_pixels)
        complete_header(content)
        if not any(name in content for name in ("PixelData", "FloatPixelData", "DoubleFloatPixelData")):
            raise InterpError("the DICOM file holds no pixels")
        return Image.fromarray(_to_pixels(content))


def _size(content: Any, most_pixels: int) -> tuple[int, int]:
    height, width = (number_of(content, name) for name in ("Rows", "Columns"))
    if not height or not width:
        raise InterpError("it holds no DICOM image: Rows and Columns are missing")
    check_pixels(int(height * width), most_pixels)
    return int(width), int(height)


def _to_pixels(content: Any) -> np.ndarray:
    """Return the pixels, (H, W) or (H, W, 3) uint8."""
    pixels = pydicom().pixels
    # Pillow is four times as fast as other plugins that pydicom may prefer, and gives the same pixels on every machine.
    plugin = "pillow" if content.file_meta.get("TransferSyntaxUID") == JPEG_BASELINE else ""
    # pydicom returns colour as RGB.
    values = pixels.pixel_array(content, index=0, decoding_plugin=plugin)
    kind = str(content.PhotometricInterpretation)
    if kind == "PALETTE COLOR":
        return _colour_to_uint8(pixels.apply_color_lut(values, content), 16)
    if values.ndim == 3:
        return _colour_to_uint8(values, int(content.get("BitsStored", 8)))
    grey = _apply_window(_rescale(values, content), content)
    return 255 - grey if kind == "MONOCHROME1" else grey


def _colour_to_uint8(values: np.ndarray, bits: int) -> np.ndarray:
    if values.dtype == np.uint8 and bits <= 8:
        return np.ascontiguousarray(values)
    scaled: np.ndarray = np.rint(values.astype(np.float64) * (255 / (2**bits - 1)))
    return scaled.clip(0, 255).astype(np.uint8)


def _rescale(values: np.ndarray, content: Any) -> np.ndarray:
    """Apply the table of the modality, or slope and intercept where both are numbers and do not erase the image."""
    if content.get("ModalityLUTSequence"):
        table: np.ndarray = pydicom().pixels.apply_modality_lut(values, content)
        return table
    slope, intercept = number_of(content, "RescaleSlope"), number_of(content, "RescaleIntercept")
    if slope is None or intercept is None or slope == 0:
        return values
    rescaled: np.ndarray = values.astype(np.float64) * slope
    return rescaled + intercept


def _apply_window(values: np.ndarray, content: Any) -> np.ndarray:
    """Map grey values (H, W) to uint8 by the table or window of the file, else by their range."""
    pixels = pydicom().pixels
    if content.get("VOILUTSequence"):
        return stretch_to_uint8(pixels.apply_voi(values, content))
    center, width = number_of(content, "WindowCenter"), number_of(content, "WindowWidth")
    if center is not None and width is not None and width >= 1 and "PixelData" in content:
        low, high = pixels.apply_windowing(EXTREMES, content)
        windowed = pixels.apply_windowing(values.astype(np.float64), content)
        scaled: np.ndarray = np.rint((windowed - low) * (255 / (high - low)))
        return scaled.clip(0, 255).astype(np.uint8)
    if center is not None and width is not None and width > 0:
        return _apply_narrow_window(values.astype(np.float64), center, width)
    if values.dtype == np.uint8:
        return np.ascontiguousarray(values)
    return stretch_to_uint8(values)


def _apply_narrow_window(values: np.ndarray, center: float, width: float) -> np.ndarray:
    """Map values (H, W) float64 to uint8 by LINEAR_EXACT of PS3.3 C.11.2.1, which allows widths below 1."""
    shares = (values - center) / width + 0.5
    scaled: np.ndarray = np.rint(np.nan_to_num(shares).clip(0, 1) * 255)
    return scaled.astype(np.uint8)
