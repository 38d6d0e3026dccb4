"""The gate counts checks and causes, and against a baseline only causes that are new."""

from __future__ import annotations

import pytest
from helpers.diagnoses import check, diagnosis, finding

from benchmarks.diagnosis.finding import Severity, Status, Verdict
from benchmarks.diagnosis.opening.choices import FailOn
from benchmarks.diagnosis.output.baseline import compare_with_baseline, gate_failures

pytestmark = pytest.mark.slow
GOOD = (check("places", Status.passed), check("metadata", Status.not_run))


def test_findings_are_matched_by_key() -> None:
    old = diagnosis(findings=(finding(1, key="a"), finding(2, key="b"), finding(3, key="c")))
    now = diagnosis(
        findings=(finding(1, key="d"), finding(2, key="a"), finding(3, key="b", verdict=Verdict.cause)),
        explainer="grad_cam",
    )
    comparison = compare_with_baseline(now, old)
    assert [item.key for item in comparison.new] == ["d"]
    assert [item.key for item in comparison.gone] == ["c"]
    assert [(a.verdict, b.verdict) for a, b in comparison.changed] == [(Verdict.unconfirmed, Verdict.cause)]
    assert [item.key for item in comparison.newly_confirmed] == ["b"]
    assert comparison.differences == ("explainer",)
    assert compare_with_baseline(now, now).differences == ()


@pytest.mark.parametrize(
    ("status", "verdict", "severity", "failing"),
    [
        (Status.passed, Verdict.bystander, Severity.high, ()),
        (Status.passed, Verdict.unconfirmed, Severity.high, ()),
        (Status.passed, Verdict.cause, Severity.low, ()),
        (Status.passed, Verdict.cause, Severity.medium, (FailOn.warn,)),
        (Status.passed, Verdict.cause, Severity.high, (FailOn.warn, FailOn.fail)),
        (Status.warned, Verdict.bystander, Severity.low, (FailOn.warn,)),
        (Status.failed, Verdict.bystander, Severity.low, (FailOn.warn, FailOn.fail)),
        (Status.not_run, Verdict.bystander, Severity.low, ()),
    ],
)
def test_gate(status: Status, verdict: Verdict, severity: Severity, failing: tuple[FailOn, ...]) -> None:
    item = diagnosis(checks=(*GOOD, check("patches", status)), findings=(finding(verdict=verdict, severity=severity),))
    assert not gate_failures(item, None)
    assert tuple(level for level in FailOn if gate_failures(item, level)) == failing


@pytest.mark.parametrize(
    ("before", "now", "fails"),
    [
        ((), Verdict.cause, True),
        ((), Verdict.bystander, False),
        ((finding(verdict=Verdict.cause),), Verdict.cause, False),
        ((finding(verdict=Verdict.bystander),), Verdict.cause, True),
    ],
)
def test_against_a_baseline_only_new_causes_count(before: tuple, now: Verdict, fails: bool) -> None:
    item = diagnosis(
        checks=(check("patches", Status.failed),), findings=(finding(verdict=now, severity=Severity.high),)
    )
    comparison = compare_with_baseline(item, diagnosis(findings=before))
    assert bool(gate_failures(item, FailOn.fail, comparison)) is fails
