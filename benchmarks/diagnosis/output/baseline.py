"""Compare a diagnosis with an older one, and decide whether it passes a gate.

Findings of two diagnoses are the same where their `key` is. The gate looks at checks and at confirmed causes: a check
that fails and a cause of high severity count as "fail", a check that warns and a cause of medium severity as "warn".
With a baseline only causes count that it did not have, or had not confirmed.
"""

from __future__ import annotations

from dataclasses import dataclass

from benchmarks.diagnosis.finding import Diagnosis, Finding, Severity, Status, Verdict
from benchmarks.diagnosis.opening.choices import FailOn

STATUSES = {FailOn.fail: (Status.failed,), FailOn.warn: (Status.failed, Status.warned)}
SEVERITIES = {FailOn.fail: (Severity.high,), FailOn.warn: (Severity.high, Severity.medium)}


@dataclass(frozen=True)
class Comparison:
    """Differences to an older diagnosis.

    Attributes:
        new: findings that it did not have.
        gone: its findings that are not there any more.
        changed: pairs (before, now) of findings whose verdict differs.
        differences: names of what else differs: "network", "data" or "explainer".
    """

    new: tuple[Finding, ...]
    gone: tuple[Finding, ...]
    changed: tuple[tuple[Finding, Finding], ...]
    differences: tuple[str, ...] = ()

    @property
    def newly_confirmed(self) -> tuple[Finding, ...]:
        """Causes that are new, or were not confirmed before."""
        candidates = (*self.new, *(now for _, now in self.changed))
        return tuple(finding for finding in candidates if finding.verdict is Verdict.cause)


def compare_with_baseline(diagnosis: Diagnosis, baseline: Diagnosis) -> Comparison:
    """Match findings of two diagnoses by their keys."""
    before = {finding.key: finding for finding in baseline.findings}
    now = {finding.key: finding for finding in diagnosis.findings}
    both = [(before[key], finding) for key, finding in now.items() if key in before]
    return Comparison(
        new=tuple(finding for key, finding in now.items() if key not in before),
        gone=tuple(finding for key, finding in before.items() if key not in now),
        changed=tuple(pair for pair in both if pair[0].verdict is not pair[1].verdict),
        differences=tuple(
            name for name in ("network", "data", "explainer") if getattr(diagnosis, name) != getattr(baseline, name)
        ),
    )


def gate_failures(diagnosis: Diagnosis, fail_on: FailOn | None, comparison: Comparison | None = None) -> list[str]:
    """Return one sentence for everything that fails the gate, none if it passes.

    Args:
        diagnosis: to judge.
        fail_on: least outcome that fails; None for no gate.
        comparison: with a baseline, of which only newly confirmed causes count; None to count everything.
    """
    if fail_on is None:
        return []
    if comparison is not None:
        return _causes(comparison.newly_confirmed, fail_on, "new cause")
    checks = [check for check in diagnosis.checks if check.status in STATUSES[fail_on]]
    sentences = [f"check {check.name}: {check.status.value}: {check.sentence}" for check in checks]
    return [*sentences, *_causes(diagnosis.findings, fail_on, "cause")]


def _causes(findings: tuple[Finding, ...], fail_on: FailOn, label: str) -> list[str]:
    return [
        f"{label} {finding.number} ({finding.severity}): {finding.title}"
        for finding in findings
        if finding.verdict is Verdict.cause and finding.severity in SEVERITIES[fail_on]
    ]
