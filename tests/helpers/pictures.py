"""Write small pictures with a bright square."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from PIL import Image


def save_pictures(folder: Path, count: int, bright: int = 120) -> None:
    folder.mkdir(parents=True)
    generator = np.random.default_rng(bright)
    for number in range(count):
        pixels = generator.integers(0, bright, (64, 64, 3), dtype=np.uint8)
        pixels[20:44, 20:44, number % 3] = 250
        Image.fromarray(pixels).save(folder / f"{number}.png")
