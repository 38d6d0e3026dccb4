"""The engines' comparison: what rounds are reduced to, and which rows of a stored file stay."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
import torch
from torch import nn

from benchmarks.speed.engines import MAPS, Round, merge_rows, summarise, time_passes, write_engines
from benchmarks.speed.networks import NETS
from interp_core.errors import UnknownNameError

ROUNDS = [
    Round(quantus=12.0, device=2.0, bare=1.0, bare_quantus=5.0, forwards=40, quantus_forwards=90, largest=1e-7),
    Round(quantus=20.0, device=4.0, bare=1.0, bare_quantus=6.0, forwards=40, quantus_forwards=90, largest=3e-7),
    Round(quantus=16.0, device=4.0, bare=2.0, bare_quantus=8.0, forwards=40, quantus_forwards=90, largest=2e-7),
]


class CountImages(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        self.sizes.append(len(images))
        return images


def test_rounds_are_reduced_to_medians_of_ratios() -> None:
    row = summarise(NETS[-1], 16, ROUNDS)
    assert (row.net, row.images, row.maps, row.pairs) == (NETS[-1].name, 16, MAPS, 3)
    assert (row.speed_up_q1, row.speed_up, row.speed_up_q3) == (4.5, 5.0, 5.5)
    assert (row.overhead_q1, row.overhead, row.overhead_q3) == (2.0, 2.0, 3.0)
    assert row.passes_alone == 5.0
    assert (row.quantus_seconds, row.device_seconds, row.bare_seconds, row.bare_quantus_seconds) == (
        16.0,
        4.0,
        1.0,
        6.0,
    )
    assert (row.forwards, row.quantus_forwards, row.largest) == (40, 90, 3e-7)


def test_rows_of_other_networks_stay(tmp_path: Path) -> None:
    path, row = tmp_path / "engines.csv", summarise(NETS[-1], 16, ROUNDS)
    assert merge_rows(path, [row])["net"].tolist() == [row.net]
    pd.DataFrame({"net": ["another", row.net], "images": [1, 2]}).to_csv(path, index=False)
    table = merge_rows(path, [row])
    assert table["net"].tolist() == ["another", row.net]
    assert table["images"].tolist() == [1, 16]


@pytest.mark.parametrize("workers", [1, 2])
def test_bare_passes_are_as_many_images_as_wanted(workers: int) -> None:
    network = CountImages()
    assert time_passes(network, torch.zeros(3, 1, 2, 2), count=20, size=8, workers=workers) > 0
    assert sorted(network.sizes) == [4, 8, 8]


def test_an_unknown_network_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="resnet18"):
        write_engines(tmp_path, None, 1, ["resnet1"])
    assert not list(tmp_path.iterdir())
