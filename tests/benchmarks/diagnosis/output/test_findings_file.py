"""Findings survive the file, its schema is right, and what is wrong with a file is said in one line."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from helpers.command import exit_code
from helpers.diagnoses import diagnosis, effect, finding

from benchmarks.diagnosis.finding import SCHEMA_VERSION
from benchmarks.diagnosis.output.findings_file import FindingsError, findings_schema, read_findings, write_findings

pytestmark = pytest.mark.slow


def test_a_diagnosis_survives_the_file(tmp_path: Path) -> None:
    path = write_findings(tmp_path, diagnosis())
    assert path == tmp_path / "findings.json"
    assert read_findings(path) == read_findings(tmp_path) == diagnosis()
    assert [file.name for file in tmp_path.iterdir()] == ["findings.json"]


def test_the_file_fits_the_published_schema(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    content = json.loads(write_findings(tmp_path, diagnosis()).read_text())
    assert exit_code("schema", "--of", "findings") == 0
    schema = json.loads(capsys.readouterr().out)
    assert schema == findings_schema()
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    assert not list(validator.iter_errors(content))
    assert list(validator.iter_errors(content | {"accuracy": "high"}))
    assert list(validator.iter_errors({key: value for key, value in content.items() if key != "network"}))


def test_every_level_of_the_schema_refuses_unknown_fields() -> None:
    schema = findings_schema()
    assert all(part.get("additionalProperties") is False for part in schema["$defs"].values() if "properties" in part)


def test_numbers_that_are_not_finite_are_left_out(tmp_path: Path) -> None:
    nothing = float("nan")
    effects = (effect(change=nothing), effect())
    item = finding(value=float("inf"), details={"share": 0.5, "odds": nothing}, effects=effects)
    read = read_findings(write_findings(tmp_path, diagnosis(accuracy=nothing, findings=(item,))))
    assert read.accuracy is None
    assert read.findings[0].value is None
    assert read.findings[0].details == {"share": 0.5}
    assert read.findings[0].effects == (effect(),)


def damaged(path: Path, **changes: Any) -> None:
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({"version": SCHEMA_VERSION + 1}, f"version {SCHEMA_VERSION + 1}"),
        ({"findings": [{"number": 0}]}, "findings.0.number.*and 3 more"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_what_is_wrong_is_told(changes: dict[str, Any], expected: str, tmp_path: Path) -> None:
    path = write_findings(tmp_path, diagnosis())
    damaged(path, **changes)
    with pytest.raises(FindingsError, match=expected):
        read_findings(path)


@pytest.mark.parametrize("content", [None, "", "[1]", '{"cells": 3}', '{"findings": ['])
def test_other_files_are_refused_by_name(content: str | None, tmp_path: Path) -> None:
    path = tmp_path / "findings.json"
    if content is not None:
        path.write_text(content)
    with pytest.raises(FindingsError, match=r"findings\.json") as caught:
        read_findings(path)
    assert "\n" not in str(caught.value)


def test_a_newer_version_is_refused_however_it_is_written(tmp_path: Path) -> None:
    path = write_findings(tmp_path, diagnosis())
    for version in (SCHEMA_VERSION + 1, float(SCHEMA_VERSION + 1), str(SCHEMA_VERSION + 1)):
        path.write_text(json.dumps({**json.loads(path.read_text()), "version": version}))
        with pytest.raises(FindingsError, match="version"):
            read_findings(path)


def test_json_nested_without_end_is_refused(tmp_path: Path) -> None:
    (tmp_path / "findings.json").write_text("[" * 100_000)
    with pytest.raises(FindingsError, match=r"cannot read .*findings\.json"):
        read_findings(tmp_path)
