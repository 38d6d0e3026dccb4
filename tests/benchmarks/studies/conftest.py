"""Fixtures of the studies on trained networks: photographs and weights."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from PIL import Image
from safetensors.torch import save_model

SIDE = 48


@pytest.fixture
def photographs(tmp_path: Path) -> str:
    """Two classes of noise, one reddish and one bluish, as a data set in JSON."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 24), ("test", 8)):
        for name, channel in (("red", 0), ("blue", 2)):
            folder = tmp_path / "pictures" / split / name
            folder.mkdir(parents=True)
            for i in range(count):
                pixels = draw.integers(0, 120, (SIDE, SIDE, 3), dtype=np.uint8)
                pixels[..., channel] += 100
                Image.fromarray(pixels).save(folder / f"{i}.png")
    return json.dumps({"name": "folder", "root": str(tmp_path / "pictures"), "image_size": SIDE})


@pytest.fixture
def weights(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    save_model(timm.create_model("test_resnet", num_classes=5), str(tmp_path / "weights.safetensors"))
    return tmp_path / "weights.safetensors"
