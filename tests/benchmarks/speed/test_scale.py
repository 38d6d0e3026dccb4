from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.speed.scale import run_once, tabulate_growth

pytestmark = pytest.mark.slow


def test_further_images_are_charged_without_what_every_run_pays_once() -> None:
    rows = [{"images": n, "seconds": 7 + 0.02 * n, "peak_mib": 1000 + n / 100} for n in (50, 500, 5000)]
    table = tabulate_growth(rows)  # type: ignore[arg-type]
    assert table["ms_per_further_image"].iloc[1:].tolist() == pytest.approx([20, 20])
    assert table["ms_per_image"].tolist() == pytest.approx([160, 34, 21.4])
    assert table["peak_ratio"].tolist() == pytest.approx([1, 1.004498, 1.049475], abs=1e-5)


def test_one_run(tmp_path: Path) -> None:
    cost = run_once(3, 400, tmp_path, "dataset.train=40", "recipe.epochs=1")
    assert cost["images"] == 3
    assert cost["seconds"] > 0
    assert 100 < cost["peak_mib"] < 20_000
