"""Tables of the page of results say what the stored rows say."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.studies.diagnosis_results import SHOWN_FINDINGS, trained_context, trained_groups, trained_table


def finding(number: int, network: str = "pneumonia", **fields: Any) -> dict[str, Any]:
    values = {
        "network": network, "number": number, "title": f"finding {number}", "verdict": "bystander", "action": "swap",
        "difference": 0.214, "low": 0.1, "high": 0.31, "n": 48.0, "flips": 0.25, "control flips": 0.0,
        "collar overlap": np.nan,
    }  # fmt: skip
    return values | fields


def cells(table: str) -> list[list[str]]:
    return [[cell.strip() for cell in line.strip("|").split("|")] for line in table.splitlines()]


def test_findings_without_an_intervention_are_left_to_the_file() -> None:
    rows = [finding(1, verdict="cause"), finding(2, difference=np.nan), finding(3)]
    head, _, *lines = cells(trained_table(pd.DataFrame(rows)))
    assert [line[head.index("finding")] for line in lines] == ["finding 1", "finding 3"]
    assert [line[head.index("confirmed")] for line in lines] == ["yes", "no"]
    assert lines[0][head.index("difference to its control")] == "+0.21 (+0.10 to +0.31)"
    assert lines[0][head.index("answers changed, %")] == "25"
    assert "overlap with collars" not in head


def test_the_first_findings_of_each_network_are_shown() -> None:
    rows = [finding(n, network, **{"collar overlap": 0.5}) for network in ("a", "b") for n in range(SHOWN_FINDINGS + 2)]
    head, _, *lines = cells(trained_table(pd.DataFrame(rows)))
    assert len(lines) == 2 * SHOWN_FINDINGS
    assert head[-1] == "overlap with collars"


def test_groups_have_intervals() -> None:
    rows = [{"network": "a", "group": "b", "images": 32, "accuracy": 0.5, "low": 0.331, "high": 0.66}]
    assert cells(trained_groups(pd.DataFrame(rows)))[-1] == ["a", "b", "32", "50 (33 to 66)"]


@pytest.mark.parametrize("has_faces", [True, False])
def test_the_context_counts_verdicts(has_faces: bool, tmp_path: Path) -> None:
    folder = tmp_path / "diagnosis"
    folder.mkdir()
    rows = [finding(1, verdict="cause"), finding(2), finding(3), *([finding(1, "male")] if has_faces else [])]
    pd.DataFrame(rows).to_csv(folder / "trained_findings.csv", index=False)
    group = {"network": "a", "group": "b", "images": 3, "accuracy": 1.0, "low": 1.0, "high": 1.0}
    pd.DataFrame([group]).to_csv(folder / "trained_groups.csv", index=False)
    (folder / "trained.json").write_text(json.dumps({"images": {"faces": 6}}))
    context = trained_context(tmp_path)
    assert "1 cause, 2 bystander, 0 unconfirmed" in context["trained_counts"]
    assert context["trained_faces"] is has_faces
