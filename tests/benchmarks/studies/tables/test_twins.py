"""LAP networks beside their plain twins, from made-up runs."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from benchmarks.studies.tables.twins import compare_twins, read_accuracies, run
from interp_core.errors import InterpError

pytestmark = pytest.mark.slow


def write_run(folder: Path, accuracies: dict[int, float], names: tuple[str, ...] = ("net",)) -> Path:
    folder.mkdir(parents=True)
    models = [
        {"name": name, "seed": seed, "test_accuracy": accuracy}
        for name in names
        for seed, accuracy in accuracies.items()
    ]
    (folder / "run.json").write_text(json.dumps({"models": models}))
    return folder


def test_seeds_that_both_have_are_paired(tmp_path: Path) -> None:
    rows = compare_twins(
        write_run(tmp_path / "a", {0: 0.9, 1: 0.8, 5: 0.1}), write_run(tmp_path / "b", {1: 0.7, 0: 0.95})
    )
    assert [(row.seed, row.lap, row.plain) for row in rows] == [(0, 0.9, 0.95), (1, 0.8, 0.7)]
    assert rows[1].difference == pytest.approx(0.1)


def test_a_loss_beyond_the_interval_is_said(tmp_path: Path) -> None:
    lap, plain = (
        write_run(tmp_path / "lap", {0: 0.80, 1: 0.81, 2: 0.79}),
        write_run(tmp_path / "p", {0: 0.90, 1: 0.91, 2: 0.89}),
    )
    even, odd = write_run(tmp_path / "even", {0: 0.80, 1: 0.90}), write_run(tmp_path / "q", {0: 0.82, 1: 0.90})
    run([(lap, plain), (even, odd)], tmp_path)
    rows = [line for line in (tmp_path / "twins.md").read_text().splitlines() if line.startswith(("| lap", "| even"))]
    assert rows[0] == "| lap | 0 1 2 | 80.0 81.0 79.0 | 90.0 91.0 89.0 | -10.0 ± 0.0 | yes |"
    assert rows[1].endswith("| -1.0 ± 12.7 | no |")  # sd 0.0141, over sqrt 2, times t of one degree of freedom 12.71
    assert len(pd.read_csv(tmp_path / "twins.csv")) == 5


def test_a_run_of_two_networks_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InterpError, match="more than one network"):
        read_accuracies(write_run(tmp_path / "two", {0: 0.5}, ("lap", "plain")))
