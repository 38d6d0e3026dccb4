"""Made-up X-rays."""

from __future__ import annotations

import numpy as np
import torch

from benchmarks.studies.xray.data import Xrays


def made_xrays(count: int = 12, boxed: int = 6) -> Xrays:
    """Images of noise of which the first are ill, each with a box; two images a person."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(count, 1, 16, 16, dtype=torch.bool)
    masks[:boxed, :, 4:8, 4:8] = True
    targets = (torch.arange(count) < boxed).long()
    images = torch.rand(count, 3, 16, 16, generator=generator)
    return Xrays(images, targets, masks, [f"x{i}" for i in range(count)], np.arange(count) // 2)
