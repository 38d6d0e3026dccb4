"""The configuration of `interp-bench amend` that the page of a diagnosis offers for download.

    {"findings": "out/findings.json",
     "amend": [{"finding": 1, "key": "patches-1", "terms": [{"name": "forbid", "region": "patches-1"}]}]}

It is YAML or JSON. `key` guards against numbers of another diagnosis.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from benchmarks.config.errors import ConfigError
from benchmarks.config.load import parse, read_content
from benchmarks.diagnosis.finding import Diagnosis, Finding
from benchmarks.diagnosis.output.findings_file import read_findings


class AmendChoice(BaseModel):
    """A finding that is to be amended.

    Fields:
        finding: its number.
        key: its key; None to trust the number.
        terms: knowledge terms to use; empty to let `amend` choose.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    finding: int = Field(ge=1)
    key: str | None = None
    terms: tuple[dict[str, Any], ...] = ()


class AmendConfig(BaseModel):
    """What `amend` is to do.

    Fields:
        findings: path of `findings.json`, from the current folder or from that of the configuration.
        amend: the findings, at least one.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    findings: Path
    amend: tuple[AmendChoice, ...] = Field(min_length=1)


def read_amend_config(path: Path) -> tuple[AmendConfig, Diagnosis]:
    """Read a configuration and the diagnosis that it refers to.

    Returns:
        The configuration, its `findings` as a path that exists, and the diagnosis.

    Raises:
        ConfigError: the file cannot be read, or a finding is not in the diagnosis.
        FindingsError: the diagnosis cannot be read.
    """
    config = parse(AmendConfig, read_content(path), str(path))
    beside = path.parent / config.findings
    config = config.model_copy(update={"findings": config.findings if config.findings.exists() else beside})
    diagnosis = read_findings(config.findings)
    for choice in config.amend:
        look_up_finding(choice, diagnosis)
    return config, diagnosis


def look_up_finding(choice: AmendChoice, diagnosis: Diagnosis) -> Finding:
    """Return the finding of a choice.

    Raises:
        ConfigError: there is none of this number, or it has another key.
    """
    numbers = {finding.number: finding for finding in diagnosis.findings}
    if choice.finding not in numbers:
        raise ConfigError(f"there is no finding {choice.finding}: there are {', '.join(map(str, numbers)) or 'none'}")
    finding = numbers[choice.finding]
    if choice.key not in (None, finding.key):
        raise ConfigError(
            f"finding {choice.finding} is {finding.key!r}, not {choice.key!r}: download the configuration again"
        )
    return finding
