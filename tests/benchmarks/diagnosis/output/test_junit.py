"""JUnit XML as CI servers read it."""

from __future__ import annotations

import xml.etree.ElementTree as ET
from pathlib import Path

import pytest
from helpers.diagnoses import check, diagnosis, finding

from benchmarks.diagnosis.finding import Status
from benchmarks.diagnosis.opening.choices import FailOn
from benchmarks.diagnosis.output.junit import junit_xml, strip_illegal, write_junit

pytestmark = pytest.mark.slow


def suite(fail_on: FailOn | None = None) -> ET.Element:
    (element,) = ET.fromstring(junit_xml(diagnosis(), fail_on)).findall("testsuite")
    return element


@pytest.mark.parametrize(("fail_on", "failures"), [(None, 1), (FailOn.fail, 1), (FailOn.warn, 2)])
def test_the_suite_counts_its_cases(fail_on: FailOn | None, failures: int) -> None:
    element = suite(fail_on)
    numbers = {name: element.get(name) for name in ("tests", "failures", "errors", "skipped", "time")}
    expected = {"tests": "5", "failures": str(failures), "errors": "0", "skipped": "1", "time": "6.250"}
    assert numbers == expected
    assert len(element.findall("testcase/failure")) == failures
    assert len(element.findall("testcase/skipped")) == 1


def test_every_check_is_a_case() -> None:
    cases = suite().findall("testcase")
    assert [case.get("name") for case in cases] == [check.name for check in diagnosis().checks]
    assert all(case.get("classname") and float(case.get("time", "")) == 1.25 for case in cases)
    assert [child.tag for case in cases for child in case] == [
        "failure", "system-out", "system-out", "skipped", "system-out",
    ]  # fmt: skip


def test_a_failure_has_its_conditions_and_findings() -> None:
    failure = suite().find("testcase/failure")
    assert failure is not None
    assert failure.get("type") == "FAIL"
    assert failure.get("message") == "patches <ended> as FAIL"
    assert all(item.title in (failure.text or "") for item in diagnosis().findings)
    assert "0.7 against 0.6" in (failure.text or "")


def test_characters_that_xml_does_not_allow_are_stripped(tmp_path: Path) -> None:
    bad = "a\x00b\x0bc\ud800d\ufffee\U0001f600\n"
    assert strip_illegal(bad) == "abcde\U0001f600\n"
    # A file name may hold a lone surrogate, which UTF-8 cannot encode.
    item = diagnosis(checks=(check(f"x{bad[:3]}", Status.failed, sentence="<&\x00\ufffe"),), findings=(finding(),))
    root = ET.parse(write_junit(tmp_path / "out" / "junit.xml", item)).getroot()
    failure = root.find("testsuite/testcase/failure")
    assert failure is not None
    assert failure.get("message") == "<&"
