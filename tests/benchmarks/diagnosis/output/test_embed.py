"""Pictures become small data URIs."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.diagnosis.output.embed import MOST_BYTES, MOST_SIDE, embed_picture

pytestmark = pytest.mark.slow


def save(path: Path, width: int, height: int, *, noise: bool, mode: str = "RGB") -> Path:
    random = np.random.default_rng(0)
    shape = (height, width, len(mode))
    Image.fromarray(random.integers(0, 255, shape, dtype=np.uint8) if noise else np.zeros(shape, np.uint8)).save(path)
    return path


def decode(uri: str) -> tuple[bytes, Image.Image]:
    content = base64.b64decode(uri.partition(",")[2])
    return content, Image.open(io.BytesIO(content)).convert("RGB")


@pytest.mark.parametrize(("noise", "kind"), [(False, "png"), (True, "jpeg")])
@pytest.mark.parametrize("size", [(64, 48), (1500, 700)])
def test_pictures_are_small_and_keep_their_shape(noise: bool, kind: str, size: tuple[int, int], tmp_path: Path) -> None:
    picture = embed_picture(save(tmp_path / "a.png", *size, noise=noise))
    assert picture is not None
    content, read = decode(picture.uri)
    assert len(content) <= MOST_BYTES
    assert max(read.size) <= MOST_SIDE
    assert read.width / read.height == pytest.approx(size[0] / size[1], rel=0.03)
    assert (picture.width, picture.height) == size
    if size[0] > 100:
        assert picture.uri.startswith(f"data:image/{kind};")


def test_transparency_becomes_white(tmp_path: Path) -> None:
    picture = embed_picture(save(tmp_path / "a.png", 8, 8, noise=False, mode="RGBA"))
    assert picture is not None
    assert np.asarray(decode(picture.uri)[1]).min() == 255


def test_what_is_no_picture_is_none(tmp_path: Path) -> None:
    (tmp_path / "b.png").write_bytes(b"words")
    assert embed_picture(tmp_path / "b.png") is embed_picture(tmp_path / "missing.png") is None
