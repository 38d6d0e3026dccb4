from __future__ import annotations

from helpers.scores import UP, long_table

from benchmarks.statistics import (
    per_image,
    summarise,
)


def test_seeds_are_averaged_per_image_before_images_are() -> None:
    # image a has two seeds, image b one: the mean over images is not the mean over rows
    table = long_table([("m", "e", "up", 0, "a", 0.0), ("m", "e", "up", 1, "a", 1.0), ("m", "e", "up", 0, "b", 1.0)])
    assert per_image(table)["value"].tolist() == [0.5, 1.0]
    row = summarise(table, [UP]).iloc[0]
    assert (row["mean"], row["n"]) == (0.75, 2)
