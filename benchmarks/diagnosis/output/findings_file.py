"""Write and read `findings.json`, and publish its JSON schema.

    interp-bench schema --of findings > findings.schema.json

The file is UTF-8 JSON with the fields of `finding.Diagnosis`. Its `version` rises when a field changes its meaning or
disappears. A reader refuses a newer version, since it could misread it.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from pydantic import ValidationError

from benchmarks.config.errors import problems_of
from benchmarks.config.json_schema import DIALECT
from benchmarks.diagnosis.finding import SCHEMA_VERSION, Diagnosis
from benchmarks.store.atomic import write_atomically
from benchmarks.store.json_text import json_text, without_infinite
from interp_core.errors import InterpError, one_line

FILE = "findings.json"


class FindingsError(InterpError):
    """A file that is no readable result of a diagnosis."""


def write_findings(folder: Path, diagnosis: Diagnosis) -> Path:
    """Write `findings.json` into a folder, whole or not at all, and return its path.

    JSON has no numbers that are not finite. They become null, and where null means nothing, in `details` and in the
    estimates of an effect, the entry is left out.

    Raises:
        StoreError: the folder cannot be written.
    """
    content = without_infinite(diagnosis.model_dump(mode="json"))
    for finding in content["findings"]:
        finding["details"] = {name: value for name, value in finding["details"].items() if value is not None}
        finding["effects"] = [effect for effect in finding["effects"] if _is_complete(effect)]
    return write_atomically(folder / FILE, json_text(content))


def read_findings(path: Path) -> Diagnosis:
    """Read the findings of a diagnosis.

    Args:
        path: of `findings.json`, or of the folder that holds it.

    Raises:
        FindingsError: the file is missing, damaged or of a newer version.
    """
    file = findings_path(path)
    content = _read_json(file)
    _refuse_newer(file, content.get("version"))
    try:
        diagnosis = Diagnosis.model_validate(content)
    except ValidationError as error:
        first, *others = problems_of(error, Diagnosis)
        more = f" (and {len(others)} more)" if others else ""
        raise FindingsError(f"{file} is damaged: {first}{more}; run interp-bench diagnose again") from error
    _refuse_newer(file, diagnosis.version)  # a number written as text
    return diagnosis


def findings_path(path: Path) -> Path:
    """Return the path of `findings.json`, given the file or its folder."""
    return path / FILE if path.is_dir() else path


def findings_schema() -> dict[str, Any]:
    """Return the JSON schema of `findings.json`."""
    return {"$schema": DIALECT, **Diagnosis.model_json_schema(mode="serialization")}


def _refuse_newer(file: Path, version: object) -> None:
    if isinstance(version, int | float) and version > SCHEMA_VERSION:
        raise FindingsError(f"{file} has version {version}, this program reads up to {SCHEMA_VERSION}: update it")


def _read_json(file: Path) -> dict[str, Any]:
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
    except FileNotFoundError as error:
        raise FindingsError(f"no file {file}: give the {FILE} that interp-bench diagnose wrote") from error
    except (OSError, ValueError, RecursionError) as error:
        raise FindingsError(f"cannot read {file}: {one_line(error, limit=200)}") from error
    if not isinstance(content, dict) or "findings" not in content:
        raise FindingsError(f"{file} holds no findings: give the {FILE} that interp-bench diagnose wrote")
    return content


def _is_complete(effect: dict[str, Any]) -> bool:
    """Return whether all estimates of an effect have a value."""
    return all(part["value"] is not None for part in effect.values() if isinstance(part, dict))
