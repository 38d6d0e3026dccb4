"""Write the checks of a diagnosis as JUnit XML, which CI servers show as tests.

A check is a test case: FAIL is a failure, NOT RUN is skipped, WARN is a note in its output, or a failure where warnings
fail the gate. Attributes are those that Jenkins, GitLab and GitHub's actions read: tests, failures, errors, skipped and
time of the suite, classname, name and time of a case.
"""

from __future__ import annotations

import re
import xml.etree.ElementTree as ET
from pathlib import Path

from benchmarks.diagnosis.finding import CheckReport, Diagnosis, Finding, Status
from benchmarks.diagnosis.opening.choices import FailOn
from benchmarks.store.atomic import write_atomically

SUITE = "interp-bench diagnose"
ILLEGAL = re.compile(r"[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")


def write_junit(path: Path, diagnosis: Diagnosis, fail_on: FailOn | None = None) -> Path:
    """Write the checks to a file and return its path.

    Args:
        path: the XML file.
        diagnosis: its checks become test cases, findings are part of their text.
        fail_on: with `FailOn.warn`, warnings are failures.

    Raises:
        StoreError: the file cannot be written.
    """
    return write_atomically(path, junit_xml(diagnosis, fail_on))


def junit_xml(diagnosis: Diagnosis, fail_on: FailOn | None = None) -> bytes:
    """Return the checks as JUnit XML; see `write_junit`."""
    cases = [_case(check, _findings_of(check, diagnosis), fail_on) for check in diagnosis.checks]
    counts = {
        "tests": str(len(cases)),
        "failures": str(sum(case.find("failure") is not None for case in cases)),
        "errors": "0",
        "skipped": str(sum(case.find("skipped") is not None for case in cases)),
        "time": _seconds(sum(check.seconds for check in diagnosis.checks)),
    }
    root = ET.Element("testsuites", {"name": SUITE, **counts})
    ET.SubElement(root, "testsuite", {"name": SUITE, **counts}).extend(cases)
    ET.indent(root)
    return ET.tostring(root, encoding="utf-8", xml_declaration=True)


def strip_illegal(text: str) -> str:
    """Remove the characters that XML 1.0 does not allow."""
    return ILLEGAL.sub("", text)


def _case(check: CheckReport, findings: list[Finding], fail_on: FailOn | None) -> ET.Element:
    attributes = {"classname": SUITE, "name": strip_illegal(check.name), "time": _seconds(check.seconds)}
    case = ET.Element("testcase", attributes)
    sentence, text = strip_illegal(check.sentence), strip_illegal(_describe(check, findings))
    if check.status is Status.not_run:
        ET.SubElement(case, "skipped", {"message": sentence})
    elif _is_failure(check.status, fail_on):
        ET.SubElement(case, "failure", {"message": sentence, "type": check.status.value}).text = text
    else:
        ET.SubElement(case, "system-out").text = text
    return case


def _is_failure(status: Status, fail_on: FailOn | None) -> bool:
    return status is Status.failed or (status is Status.warned and fail_on is FailOn.warn)


def _findings_of(check: CheckReport, diagnosis: Diagnosis) -> list[Finding]:
    return [finding for finding in diagnosis.findings if finding.check == check.name]


def _describe(check: CheckReport, findings: list[Finding]) -> str:
    lines = [
        f"{check.status.value}: {check.title}: {check.sentence}",
        *(f"{condition.status.value}: {condition.name}: {condition.detail}" for condition in check.conditions),
        *(f"finding {finding.number} ({finding.verdict}, {finding.severity}): {finding.title}" for finding in findings),
    ]
    return "\n".join(lines)


def _seconds(value: float) -> str:
    return f"{value:.3f}"
