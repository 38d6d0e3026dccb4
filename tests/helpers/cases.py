"""Networks and images with a known explanation, for tests of metrics."""

from __future__ import annotations

import numpy as np
import timm
import torch
from torch import Tensor, nn

from benchmarks.metrics import Batch

SIDE = 16


class Square(nn.Module):
    """A network whose logit 1 is the sum over a fixed square; logit 0 is zero."""

    def __init__(self, mask: np.ndarray) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(mask.astype(np.float32)))

    def forward(self, images: Tensor) -> Tensor:
        logit = (images * self.weight).sum((1, 2, 3)) / 20
        return torch.stack([torch.zeros_like(logit), logit], 1)


def exact(network: nn.Module, images: np.ndarray, targets: np.ndarray) -> np.ndarray:
    """Compute the contribution of each pixel to the target's logit in a `Square`; class 0 has none."""
    weight = network.weight.detach().numpy()  # type: ignore[union-attr, operator]
    return ((images * weight).sum(1, keepdims=True) * targets[:, None, None, None]).astype(np.float32)


def square_case(n: int = 4) -> Batch:
    """Build images with evidence in one square; the map is the exact contribution of each pixel."""
    rng = np.random.default_rng(1)
    mask = np.zeros((1, 1, SIDE, SIDE), bool)
    mask[..., 2:10, 6:14] = True
    elsewhere = np.roll(mask, 6, 2)
    images = rng.uniform(0.5, 1.5, (n, 1, SIDE, SIDE)).astype(np.float32)
    return Batch(
        explain=exact,
        model=Square(mask).eval(),
        images=images,
        targets=np.ones(n, np.int64),
        maps=images * mask,
        masks=np.repeat(mask, n, 0),
        seed=3,
        twin=Square(elsewhere).eval(),
    )


class Linear(nn.Module):
    """A network with two classes, of logits 0 and w . x."""

    def __init__(self, weight: np.ndarray) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.from_numpy(weight.astype(np.float32)))

    def forward(self, images: Tensor) -> Tensor:
        logit = (images * self.weight).sum((1, 2, 3))
        return torch.stack([torch.zeros_like(logit), logit], 1)


def linear_case(n: int = 4, channels: int = 1, side: int = 16, scale: float = 0.2) -> Batch:
    """Build a case of a linear network; the map is the exact contribution of each pixel."""
    rng = np.random.default_rng(0)
    weight = rng.standard_normal((channels, side, side)) * scale
    images = rng.standard_normal((n, channels, side, side)).astype(np.float32)
    maps = (images * weight).sum(1, keepdims=True).astype(np.float32)
    return Batch(Linear(weight).eval(), images, np.ones(n, np.int64), maps, None, seed=1)


def patch_case(side: int = 16) -> Batch:
    """Build a case whose network sees one of 8 x 8 patches only, with a logit of 4 until it is removed."""
    size = side // 8
    weight = np.zeros((1, side, side))
    weight[:, 3 * size : 4 * size, 5 * size : 6 * size] = 4 / size**2
    images = np.ones((2, 1, side, side), np.float32)
    maps = np.repeat(weight[None], 2, 0).astype(np.float32)
    return Batch(Linear(weight).eval(), images, np.ones(2, np.int64), maps, None)


def net_case(n: int = 5) -> Batch:
    """Build a case of a small residual network with random weights, images and maps."""
    torch.manual_seed(0)
    model = timm.create_model("test_resnet", num_classes=4, output_stride=8).eval()
    rng = np.random.default_rng(4)
    images = rng.standard_normal((n, 3, 32, 32)).astype(np.float32)
    maps = rng.standard_normal((n, 1, 32, 32)).astype(np.float32)
    return Batch(model, images, rng.integers(0, 4, n), maps, None, seed=2)
