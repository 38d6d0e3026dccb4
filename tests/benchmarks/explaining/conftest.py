"""A small trained network and a few photographs without labels, as files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from helpers.explaining_files import CLASSES, CODE, NAME
from PIL import Image


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    """Weights as Lightning saves them."""
    torch.manual_seed(1)
    state = timm.create_model(NAME, num_classes=CLASSES).state_dict()
    path = tmp_path / "last.ckpt"
    torch.save({"state_dict": {f"model.{key}": value for key, value in state.items()}, "epoch": 1}, path)
    return path


@pytest.fixture
def photographs(tmp_path: Path) -> Path:
    """Twelve photographs in folders without meaning, of several shapes, and a file that is no image."""
    folder = tmp_path / "photographs"
    generator = np.random.default_rng(0)
    for number in range(12):
        path = folder / ("day one" if number % 2 else "tag zwei") / f"bild {number}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        height, width = (70, 96) if number % 3 else (100, 64)
        pixels = generator.integers(0, 90, (height, width, 3), dtype=np.uint8)
        pixels[20:44, 20:50, number % 3] = 250
        Image.fromarray(pixels).save(path)
    (folder / "broken.jpg").write_text("no image")
    return folder


@pytest.fixture
def code(tmp_path: Path) -> Path:
    path = tmp_path / "my_net.py"
    path.write_text(CODE)
    return path
