"""The configuration that the page offers is read, and checked against the diagnosis."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from helpers.diagnoses import diagnosis

from benchmarks.config.errors import ConfigError
from benchmarks.diagnosis.amending.config import look_up_finding, read_amend_config
from benchmarks.diagnosis.output.findings_file import FindingsError, write_findings
from benchmarks.diagnosis.output.page import amend_choice

pytestmark = pytest.mark.slow


def write_config(folder: Path, **changes: Any) -> Path:
    content = {"findings": "findings.json", "amend": [amend_choice(item) for item in diagnosis().findings[:2]]}
    path = folder / "amend.json"
    path.write_text(json.dumps(content | changes))
    return path


def test_a_configuration_is_read_beside_its_findings(tmp_path: Path) -> None:
    write_findings(tmp_path, diagnosis())
    config, read = read_amend_config(write_config(tmp_path))
    assert config.findings == tmp_path / "findings.json"
    assert read == diagnosis()
    assert [look_up_finding(choice, read).number for choice in config.amend] == [1, 2]
    assert config.amend[0].terms == diagnosis().findings[0].terms


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"amend": [{"finding": 7}]}, "no finding 7"),
        ({"amend": [{"finding": 1, "key": "places/top"}]}, "places/top"),
        ({"amend": []}, "amend"),
        ({"colour": 1}, "colour"),
    ],
)
def test_what_does_not_fit_is_told(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    write_findings(tmp_path, diagnosis())
    with pytest.raises(ConfigError, match=expected):
        read_amend_config(write_config(tmp_path, **changes))


def test_missing_findings_are_told(tmp_path: Path) -> None:
    with pytest.raises(FindingsError, match="no file"):
        read_amend_config(write_config(tmp_path))
