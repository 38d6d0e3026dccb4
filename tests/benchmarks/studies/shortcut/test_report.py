"""The report of the shortcut study."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from benchmarks.studies.shortcut import report
from benchmarks.studies.shortcut.arms import ARMS


def example_rows() -> pd.DataFrame:
    lines = [
        {"data": "digits", "arm": arm, "seed": seed, "told": count, "accuracy": accuracy + seed / 100,
         "accuracy_clean": accuracy, "follows": 0.1, "tag_area": 1 / 64, "tag_map": tag, "tag_contributions": share}
        for arm, count, accuracy, tag, share in (
            ("plain_clean", 0, 0.9, 0.01, np.nan), ("plain", 0, 0.1, 0.2, np.nan), ("lap", 0, 0.1, 0.5, 0.4))
        for seed in (0, 1)
    ]  # fmt: skip
    return pd.DataFrame(lines)


@pytest.mark.slow
def test_the_table_says_how_far_an_arm_is_from_the_clean_network(tmp_path: Path) -> None:
    path = tmp_path / "control_digits.csv"
    example_rows().to_csv(path, index=False)
    table, picture = report.write_report(path, "command")
    rows = [row.split(" | ") for row in table.read_text().splitlines() if row.startswith("| ")]
    row = next(row for row in rows if row[0] == f"| {next(a.title for a in ARMS if a.name == 'lap')}")
    assert row[3] == "-80.0 ± 0.0"
    assert row[7] == "32.0"
    assert picture.stat().st_size > 1000


def test_half_interval_is_students() -> None:
    assert report.half_interval([1.0, 3.0]) == pytest.approx(12.7062, abs=1e-3)
    assert np.isnan(report.half_interval([1.0]))
