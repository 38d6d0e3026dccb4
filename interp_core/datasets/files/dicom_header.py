"""Complete the header of a DICOM file with what its other elements tell.

Scanners and converters leave out the transfer syntax, the number of bits or the kind of pixels. pydicom then refuses
the file although its pixels are plain.
Known limit: the transfer syntax of compressed pixels is told from the first bytes of the first frame.
"""

from __future__ import annotations

import math
from typing import Any

# Transfer syntaxes: plain pixels in three encodings, and compressed ones by how their first frame begins.
IMPLICIT, EXPLICIT, BIG_ENDIAN = "1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.2"
ITEM_TAG = b"\xfe\xff\x00\xe0"
RLE = "1.2.840.10008.1.2.5"
JPEG_2000 = "1.2.840.10008.1.2.4.91"
JPEG_LS = "1.2.840.10008.1.2.4.80"
JPEG_BY_FRAME = {
    0xC0: "1.2.840.10008.1.2.4.50",
    0xC1: "1.2.840.10008.1.2.4.51",
    0xC2: "1.2.840.10008.1.2.4.50",
    0xC3: "1.2.840.10008.1.2.4.70",
    0xF7: JPEG_LS,
}


def number_of(content: Any, name: str) -> float | None:
    """Return an element as a finite number, the first of several; None if it is missing or is no number."""
    try:
        value = content.get(name)
        if isinstance(value, list | tuple) or (not isinstance(value, str) and hasattr(value, "__getitem__")):
            value = value[0]
        number = float(value)
    except (TypeError, ValueError, IndexError, OverflowError, NotImplementedError, AttributeError):
        return None
    return number if math.isfinite(number) else None


def number_of_frames(content: Any) -> int:
    """Return the number of frames; 1 where the header does not say."""
    return max(1, int(number_of(content, "NumberOfFrames") or 1))


def complete_header(content: Any) -> None:
    """Add the elements that pydicom needs to decode pixels, where the file lacks them. Others stay as they are.

    Args:
        content: dataset of pydicom with Rows and Columns.
    """
    if number_of(content, "SamplesPerPixel") is None:
        content.SamplesPerPixel = (
            3 if str(content.get("PhotometricInterpretation", "")).startswith(("RGB", "YBR")) else 1
        )
    if not content.get("PhotometricInterpretation"):
        content.PhotometricInterpretation = "MONOCHROME2" if content.SamplesPerPixel == 1 else "RGB"
    if content.SamplesPerPixel > 1 and number_of(content, "PlanarConfiguration") is None:
        content.PlanarConfiguration = 0
    if "PixelData" in content:
        _complete_bits(content)
    if not getattr(content, "file_meta", None) or not content.file_meta.get("TransferSyntaxUID"):
        _complete_syntax(content)


def _complete_bits(content: Any) -> None:
    if number_of(content, "BitsAllocated") is None:
        samples = content.Rows * content.Columns * content.SamplesPerPixel * number_of_frames(content)
        content.BitsAllocated = 16 if len(content.PixelData) >= 2 * samples else 8
    if number_of(content, "BitsStored") is None:
        content.BitsStored = content.BitsAllocated
    if number_of(content, "HighBit") is None:
        content.HighBit = content.BitsStored - 1
    if number_of(content, "PixelRepresentation") is None:
        content.PixelRepresentation = 0


def _complete_syntax(content: Any) -> None:
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import UID

    if not getattr(content, "file_meta", None):
        content.file_meta = FileMetaDataset()
    pixels = bytes(content.get("PixelData", b"")[:4096])
    is_implicit, is_little = content.original_encoding
    plain = IMPLICIT if is_implicit or is_implicit is None else EXPLICIT if is_little else BIG_ENDIAN
    content.file_meta.TransferSyntaxUID = UID(_compressed_syntax(pixels) if pixels.startswith(ITEM_TAG) else plain)


def _compressed_syntax(pixels: bytes) -> str:
    """Return the transfer syntax of compressed pixels by the start of their first frame."""
    start = pixels.find(ITEM_TAG, 4)  # the first item is the table of offsets
    frame = pixels[start + 8 :]
    if frame[:4] == b"\xff\x4f\xff\x51" or frame[4:8] == b"jP  ":
        return JPEG_2000
    if frame[:2] != b"\xff\xd8":
        return RLE
    for position in range(2, len(frame) - 1):
        if frame[position] == 0xFF and frame[position + 1] in JPEG_BY_FRAME:
            return JPEG_BY_FRAME[frame[position + 1]]
    return JPEG_BY_FRAME[0xC0]
