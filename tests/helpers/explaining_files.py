"""Names and code of the network that tests of `benchmarks.explaining` fit and explain."""

from __future__ import annotations

NAME, SIDE, CLASSES = "test_resnet", 64, 4
CODE = """
import timm, torch

def build():
    torch.manual_seed(3)
    return torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 4, 4), torch.nn.ReLU(), torch.nn.Conv2d(8, 8, 3, 2, 1), torch.nn.ReLU(),
        torch.nn.AdaptiveAvgPool2d(1), torch.nn.Flatten(), torch.nn.Linear(8, 3),
    )
"""
