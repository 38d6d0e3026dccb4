"""What is measured of a trained arm."""

from __future__ import annotations

import pytest
import torch
from torch import nn

from benchmarks.studies.shortcut.arms import ShortcutArm
from benchmarks.studies.shortcut.data import (
    TaggedData,
    TaggedImages,
)
from benchmarks.studies.shortcut.measure import evaluate, maps_of, share_on

pytestmark = pytest.mark.slow


def test_share_on_a_mask() -> None:
    maps, masks = torch.zeros(3, 1, 4, 4), torch.zeros(3, 1, 4, 4)
    maps[0], maps[1, 0, 0, 0], masks[:, :, :2] = 1, 5, 1
    assert share_on(maps, masks).tolist() == [0.5, 1.0, 0.0]


class Reader(nn.Module):
    """Reads the upper left pixel, which is as bright as the tag's class."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = nn.Parameter(torch.arange(2.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return -(images[:, 0, 0, 0, None] - self.classes).abs()


def test_a_network_that_reads_the_tag_follows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, tag_classes = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 0])
    images, tags = torch.zeros(4, 3, 8, 8), torch.zeros(4, 1, 8, 8, dtype=torch.bool)
    images[:, :, 0, 0], tags[:, :, 0, 0] = tag_classes[:, None].float(), True
    parts = TaggedImages(images, targets, torch.zeros_like(tags), tags, tag_classes)
    monkeypatch.setattr(
        "benchmarks.studies.shortcut.measure.maps_of",
        lambda _network, x, _targets: {"map": torch.ones(len(x), 1, 8, 8)},
    )
    scores = evaluate(Reader(), {"test": parts, "clean": parts, "val": parts.take(torch.tensor([0, 2]))})
    assert scores["accuracy"] == 0.5
    assert scores["follows"] == scores["val_accuracy"] == 1.0
    assert scores["tag_map"] == scores["tag_area"] == pytest.approx(1 / 64)


@pytest.mark.parametrize("method", ["plain", "lap", "cam_energy"])
def test_every_kind_of_network_has_a_map(method: str, forms: tuple[TaggedData, TaggedData]) -> None:
    network = ShortcutArm(name="x", title="x", method=method).network(10, 0, 64).eval()
    images = forms[0].splits["test"].images[:3]
    maps = maps_of(network, images, torch.tensor([1, 2, 3]))
    assert set(maps) == ({"map", "contributions"} if method == "lap" else {"map"})
    for values in maps.values():
        assert values.shape == (3, 1, 64, 64)
        assert bool((values >= 0).all())
