"""Passes that metrics ask for, run and repeat are counted."""

from __future__ import annotations

from math import isnan
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from benchmarks.config.load import load_config, preset_path
from benchmarks.metrics import Batch, metrics
from benchmarks.metrics.removal import features_in_step
from benchmarks.run.engine import Engine
from benchmarks.speed.passes import RepeatCounter, count_passes, write_passes
from interp_core.errors import StoreError

SIDE, STEPS = 8, 8


def batch(seed: int) -> Batch:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(4, 2)).eval()
    rng = np.random.default_rng(0)
    images = rng.standard_normal((2, 3, SIDE, SIDE)).astype(np.float32)
    maps = np.random.default_rng(seed).random((2, 1, SIDE, SIDE)).astype(np.float32)
    return Batch(network, images, np.array([0, 1]), maps, None)


def test_images_given_again_are_counted() -> None:
    counter, images = RepeatCounter(nn.Flatten()), torch.arange(6.0).reshape(3, 1, 1, 2)
    torch.testing.assert_close(counter(images), images.flatten(1))
    counter(torch.cat([images[1:], images[:1] + 1, images[:1] + 1]))
    assert counter.repeated == 3


def test_what_two_metrics_share_is_run_once() -> None:
    chosen = {name: metrics.get(name)(steps=STEPS) for name in ("pixel_flipping", "deletion")}
    rows = {row.metric: row for row in count_passes(chosen, [[batch(1), batch(2)]])}
    # Both orders of two maps on two images, with the ends: nothing removed, and everything, equal for both images.
    ends, between = 3, 2 * (3 * SIDE**2 // features_in_step((3, SIDE, SIDE), STEPS) - 1)
    assert rows["pixel_flipping"].asked == 2 * (ends + 2 * between)
    assert rows["pixel_flipping"].run == ends + 4 * between
    assert rows["deletion"].asked == 2 * (ends + between)
    assert rows["deletion"].run == rows["deletion"].repeated == 0


def test_repeats_within_the_shared_passes_are_seen() -> None:
    chosen = {"deletion": metrics.get("deletion")(steps=STEPS)}
    twice = batch(1)
    twice.images[1], twice.targets[1], twice.maps[1] = twice.images[0], twice.targets[0], twice.maps[0]
    (row,) = count_passes(chosen, [[twice]])
    assert row.repeated == (row.run - 1) // 2  # all but the image without any pixels, which is run once


def test_fewer_steps_are_tried_where_there_are_steps() -> None:
    chosen = {"deletion": metrics.get("deletion")(steps=STEPS), "single_deletion": metrics.get("single_deletion")()}
    rows = {row.metric: row for row in count_passes(chosen, [[batch(1)]])}
    assert rows["deletion"].half_largest >= rows["deletion"].half_mean > 0
    assert isnan(rows["single_deletion"].half_largest)


@pytest.mark.slow
def test_a_stored_run_is_counted(tmp_path: Path) -> None:
    settings = (
        "dataset.train=40", "dataset.test=40", "recipe.epochs=1", "images=2", f"output={tmp_path}", "gallery=1",
        "explainers=[grad_cam, random]", "metrics=[{name: deletion, steps: 8}, pointing_game]",
    )  # fmt: skip
    engine = Engine(load_config(preset_path("smoke"), assignments=settings))
    folder = Path(str(engine.run().folder))
    table = pd.read_csv(write_passes(tmp_path / "out", folder, images=2)[0])
    assert table["metric"].tolist() == ["deletion"]
    assert 0 < table["run"].iloc[0] < table["asked"].iloc[0]
    for path in (folder / "maps").iterdir():
        path.unlink()
    with pytest.raises(StoreError, match="no networks with maps"):
        write_passes(tmp_path / "out", folder, images=2)
