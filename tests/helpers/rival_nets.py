"""Small backbones and batches for tests of rivals."""

from __future__ import annotations

import timm
import torch
from torch import Tensor, nn

from benchmarks.rivals import Rival


class HandNet(nn.Module):
    """Two channels of 8 x 8 pixels; features are the means of their 4 x 4 patches, logits W mean(X) + b."""

    def __init__(self) -> None:
        super().__init__()
        self.stem = nn.Conv2d(2, 2, 4, 4, bias=False)
        self.head = nn.Linear(2, 2)
        self.num_features, self.feature_info = 2, [{"module": "stem", "num_chs": 2, "reduction": 4}]
        with torch.no_grad():
            self.stem.weight.copy_(torch.eye(2)[:, :, None, None].expand(2, 2, 4, 4) / 16)
            self.head.weight.copy_(torch.tensor([[1.0, -2.0], [0.5, 3.0]]))
            self.head.bias.copy_(torch.tensor([0.25, -0.5]))

    def forward_features(self, images: Tensor) -> Tensor:
        return self.stem(images)

    def forward_head(self, features: Tensor, pre_logits: bool = False) -> Tensor:
        pooled = features.mean((2, 3))
        return pooled if pre_logits else self.head(pooled)

    def get_classifier(self) -> nn.Module:
        return self.head

    def forward(self, images: Tensor) -> Tensor:
        return self.forward_head(self.forward_features(images))


def tiled(*patches: list[list[float]]) -> Tensor:
    """Build one image (1, 2, 8, 8) of two channels, each 2 x 2 values of 4 x 4 pixels."""
    return torch.tensor(patches)[None].repeat_interleave(4, 2).repeat_interleave(4, 3)


def backbone(classes: int = 3, in_chans: int = 3) -> nn.Module:
    """Build a residual network of timm with a linear head and stride 8."""
    torch.manual_seed(0)
    options = {"output_stride": 8, "avg_down": False, "zero_init_last": False}
    return timm.create_model("test_resnet", num_classes=classes, in_chans=in_chans, **options)


def toy_batch(count: int = 12, side: int = 32) -> tuple[Tensor, Tensor, dict[str, Tensor]]:
    """Build images whose class is the colour of a square.

    Returns:
        Images (count, 3, side, side), targets (count,), and masks of the square ("object") and of a strip at the border
        ("irrelevant"); the second half of the images has NaN for masks.
    """
    generator = torch.Generator().manual_seed(0)
    images = 0.3 * torch.randn(count, 3, side, side, generator=generator)
    targets = torch.arange(count) % 3
    regions = {name: torch.zeros(count, 1, side, side) for name in ("object", "irrelevant")}
    for index, target in enumerate(targets.tolist()):
        row, column = torch.randint(0, side - 12, (2,), generator=generator).tolist()
        images[index, target, row : row + 12, column : column + 12] += 2
        regions["object"][index, :, row : row + 12, column : column + 12] = 1
    regions["irrelevant"][..., :3] = 1
    for masks in regions.values():
        masks[count // 2 :] = float("nan")
    return images, targets, regions


def train_on_toys(rival: Rival, steps: int = 60) -> tuple[Tensor, Tensor]:
    """Train a rival on the toy batch.

    Returns:
        Its maps of the images whose masks are known, (n, 1, H, W), and which pixels lie in the squares, the same shape.
    """
    images, targets, regions = toy_batch()
    optimizer = torch.optim.AdamW(rival.parameters(), lr=3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        torch.stack(list(rival.losses(images, targets, {}).values())).sum().backward()
        optimizer.step()
    known = regions["object"].isfinite().all(3).all(2)[:, 0]
    return rival.explain(images, targets)[known], regions["object"][known] > 0
