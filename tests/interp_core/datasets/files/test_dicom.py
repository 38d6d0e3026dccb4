"""DICOM files with known pixels, and real ones if they are at hand."""

from __future__ import annotations

from collections.abc import Callable
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from helpers.shared import SHARED
from PIL import Image
from pydicom.encaps import encapsulate

from interp_core.datasets import Folder
from interp_core.datasets.files import dicom as module
from interp_core.datasets.files.images import UnreadableImage, decode_image, read_image, read_mask, read_size
from interp_core.errors import InterpError

REAL = SHARED / "data" / "real_dicom"
VALUES = np.arange(0, 240, 20, dtype=np.uint8).reshape(3, 4)
Made = Callable[..., Path]


def read_grey(path: Path) -> np.ndarray:
    return np.array(decode_image(path).convert("L"))


@pytest.fixture
def write_dicom(tmp_path: Path) -> Made:
    """Writes a DICOM file of these values; further elements by keyword, None to leave one out."""

    def make(values: np.ndarray | None = VALUES, name: str = "a.dcm", **elements: Any) -> Path:
        from pydicom.dataset import FileDataset, FileMetaDataset
        from pydicom.uid import ExplicitVRLittleEndian, SecondaryCaptureImageStorage, generate_uid

        meta = FileMetaDataset()
        meta.TransferSyntaxUID, meta.MediaStorageSOPClassUID = ExplicitVRLittleEndian, SecondaryCaptureImageStorage
        meta.MediaStorageSOPInstanceUID = generate_uid()
        content = FileDataset(str(tmp_path / name), {}, file_meta=meta, preamble=bytes(128))
        fields: dict[str, Any] = {"SamplesPerPixel": 1, "PhotometricInterpretation": "MONOCHROME2"}
        if values is not None:
            bits = values.dtype.itemsize * 8
            fields |= {"Rows": values.shape[0], "Columns": values.shape[1], "BitsAllocated": bits, "BitsStored": bits}
            fields |= {"HighBit": bits - 1, "PixelRepresentation": int(values.dtype.kind == "i")}
        for key, value in (fields | elements).items():
            if value is not None:
                setattr(content, key, value)
        if values is not None:
            content.PixelData = values.tobytes()
        content.save_as(tmp_path / name, enforce_file_format=True)
        return tmp_path / name

    return make


def test_eight_bits_without_a_window_come_as_they_are(write_dicom: Made) -> None:
    np.testing.assert_array_equal(read_grey(write_dicom()), VALUES)
    np.testing.assert_array_equal(read_image(write_dicom()), np.stack([VALUES] * 3, -1))


def test_it_is_known_by_its_content_too(write_dicom: Made) -> None:
    np.testing.assert_array_equal(read_grey(write_dicom(name="scan")), VALUES)


def test_where_black_means_more_it_is_inverted(write_dicom: Made) -> None:
    np.testing.assert_array_equal(read_grey(write_dicom(255 - VALUES, PhotometricInterpretation="MONOCHROME1")), VALUES)


@pytest.mark.parametrize("dtype", [np.uint16, np.int16])
def test_deep_pixels_without_a_window_are_stretched(write_dicom: Made, dtype: type) -> None:
    values = (VALUES.astype(dtype) * 10) - (1000 if dtype is np.int16 else 0)
    np.testing.assert_allclose(read_grey(write_dicom(values)), VALUES * (255 / 220), atol=0.5)


def test_the_window_is_applied_to_rescaled_values(write_dicom: Made) -> None:
    deep = VALUES.astype(np.uint16)
    window = {"WindowCenter": 0, "WindowWidth": 101, "RescaleSlope": 2, "RescaleIntercept": -200}
    pixels = read_grey(write_dicom(deep, **window))
    # PS3.3 C.11.2.1.2: values at or below c - 0.5 - (w - 1) / 2 are black, above c - 0.5 + (w - 1) / 2 white.
    rescaled = VALUES * 2.0 - 200
    expected = ((rescaled + 0.5) / 100 + 0.5).clip(0, 1) * 255
    np.testing.assert_allclose(pixels, expected, atol=0.51)
    assert pixels.min() == 0
    assert pixels.max() == 255


def test_colour_is_colour(write_dicom: Made) -> None:
    colours = np.arange(36, dtype=np.uint8).reshape(3, 4, 3)
    path = write_dicom(colours, SamplesPerPixel=3, PhotometricInterpretation="RGB", PlanarConfiguration=0)
    np.testing.assert_array_equal(read_image(path), colours)


def test_the_first_of_several_frames_is_taken(write_dicom: Made) -> None:
    frames = np.stack([VALUES, 255 - VALUES])
    path = write_dicom(frames, Rows=3, Columns=4, NumberOfFrames=2)
    np.testing.assert_array_equal(read_grey(path), VALUES)


def resaved(path: Path, change: Callable[[Any], Any] = lambda _: None, **how: Any) -> Path:
    """Write the elements of a file again, without preamble and transfer syntax."""
    content = pydicom.dcmread(path)
    bare = pydicom.Dataset(content)
    bare.SOPClassUID = pydicom.uid.SecondaryCaptureImageStorage
    change(bare)
    bare.save_as(path, **({"implicit_vr": True, "little_endian": True} | how))
    return path


@pytest.mark.parametrize("how", [{}, {"implicit_vr": False}])
def test_a_file_without_preamble_and_transfer_syntax(write_dicom: Made, how: dict[str, bool]) -> None:
    path = resaved(write_dicom(), **how)
    np.testing.assert_array_equal(read_grey(path), VALUES)
    np.testing.assert_array_equal(read_grey(path.rename(path.with_name("IM001"))), VALUES)


@pytest.mark.parametrize("dtype", [np.uint8, np.uint16])
def test_elements_that_are_missing_are_completed(write_dicom: Made, dtype: type) -> None:
    def strip(content: Any) -> None:
        for name in ("SamplesPerPixel", "PhotometricInterpretation", "BitsAllocated", "BitsStored", "HighBit"):
            delattr(content, name)
        del content.PixelRepresentation

    pixels = read_grey(resaved(write_dicom(VALUES.astype(dtype)), strip))
    np.testing.assert_array_equal(pixels, VALUES if dtype is np.uint8 else np.rint(VALUES * (255 / 220)))


def test_compressed_pixels_without_a_transfer_syntax(write_dicom: Made) -> None:
    image = Image.fromarray(np.kron(VALUES, np.ones((8, 8), np.uint8)))
    buffer = BytesIO()
    image.save(buffer, "JPEG", quality=95)
    path = write_dicom(np.array(image))
    content = pydicom.dcmread(path)
    content.PixelData = encapsulate([buffer.getvalue()])
    content["PixelData"].is_undefined_length = True
    del content.file_meta.TransferSyntaxUID
    content.save_as(path, implicit_vr=False, little_endian=True)
    np.testing.assert_allclose(read_grey(path)[::8, ::8], VALUES, atol=4)


@pytest.mark.parametrize(
    ("center", "width", "expected"),
    [
        (100, 1, lambda v: (v > 99.5) * 255.0), (100, 0.5, lambda v: ((v - 100) / 0.5 + 0.5).clip(0, 1) * 255),
        (100, 0, lambda v: v), (100, -5, lambda v: v), (None, 100, lambda v: v),
        ([100, 40], [101, 400], lambda v: ((v - 99.5) / 100 + 0.5).clip(0, 1) * 255),
    ],
)  # fmt: skip
def test_odd_windows(write_dicom: Made, center: Any, width: Any, expected: Callable[[np.ndarray], np.ndarray]) -> None:
    pixels = read_grey(write_dicom(WindowCenter=center, WindowWidth=width))
    np.testing.assert_allclose(pixels, expected(VALUES.astype(float)), atol=0.51)


@pytest.mark.parametrize(("slope", "intercept"), [(0, 0), ("", ""), (1, None)])
def test_a_rescale_that_says_nothing_is_left_out(write_dicom: Made, slope: Any, intercept: Any) -> None:
    np.testing.assert_array_equal(read_grey(write_dicom(RescaleSlope=slope, RescaleIntercept=intercept)), VALUES)


def test_several_frames_are_a_finding_of_the_data_set(write_dicom: Made, tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / name).mkdir()
        frames = np.stack([VALUES, 255 - VALUES])
        write_dicom(frames, f"{name}/1.dcm", Rows=3, Columns=4, NumberOfFrames=2)
        write_dicom(VALUES, f"{name}/1.2.840.7")
    dataset = Folder(root=tmp_path, image_size=8, workers=0)
    assert sum(map(len, dataset.indexed.records.values())) == 4
    assert sorted((f.kind, f.where) for f in dataset.findings) == [("several frames", f"{name}/1.dcm") for name in "ab"]


def test_size_is_read_from_the_header(write_dicom: Made) -> None:
    assert read_size(write_dicom()) == (4, 3)


def cut(path: Path) -> Path:
    path.write_bytes(path.read_bytes()[:-5])
    return path


def test_what_cannot_be_read_says_why(write_dicom: Made) -> None:
    for path, why in [
        (write_dicom(None, "a.dcm", Rows=3, Columns=4), "no pixels"),
        (write_dicom(None, "b.dcm"), "Rows and Columns are missing"),
        (write_dicom(name="c.dcm", Rows=3000), "less than expected"),
        (cut(write_dicom(name="d.dcm")), "less than expected"),
    ]:
        with pytest.raises(UnreadableImage, match=why):
            read_image(path)
    with pytest.raises(UnreadableImage, match="12 pixels are more than the 11"):
        read_image(write_dicom(), most_pixels=11)
    with pytest.raises(UnreadableImage, match="not DICOM"):
        read_mask(write_dicom())


def test_without_pydicom_it_is_said_what_to_install(write_dicom: Made, monkeypatch: pytest.MonkeyPatch) -> None:
    def missing() -> None:
        raise InterpError("DICOM needs the package pydicom: pip install pydicom")

    path = write_dicom()
    monkeypatch.setattr(module, "pydicom", missing)
    with pytest.raises(UnreadableImage, match="pip install pydicom"):
        read_image(path)


@pytest.mark.skipif(not REAL.is_dir(), reason="the real X-ray is not at hand")
def test_a_real_x_ray_and_its_twins(tmp_path: Path) -> None:
    """The twin at hand has the same stored pixels under MONOCHROME1, so it shows the negative; a true twin shows it."""
    first, second = (read_grey(path) for path in sorted(REAL.glob("*.dcm")))
    assert first.shape == (1024, 1024)
    np.testing.assert_array_equal(first, 255 - second)
    content = pydicom.dcmread(sorted(REAL.glob("*.dcm"))[0])
    content.decompress(decoding_plugin="pillow")
    content.PixelData = (255 - content.pixel_array).tobytes()
    content.PhotometricInterpretation = "MONOCHROME1"
    content.save_as(tmp_path / "twin.dcm")
    np.testing.assert_array_equal(read_grey(tmp_path / "twin.dcm"), first)
