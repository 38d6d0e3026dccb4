"""The result of a verification as plain data, written to `verify.json`, and the rules that judge it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from enum import StrEnum
from typing import Any, Literal

from pydantic import Field

from benchmarks.diagnosis.finding import CheckReport, Facts, Finding, Status

SCHEMA_VERSION = 1
Kind = Literal["accuracy", "class", "group", "exchanged", "answers", "map"]


class Change(StrEnum):
    """Outcome of a comparison: whether its interval leaves out zero, and on which side."""

    better = "better"
    worse = "worse"
    same = "same"
    unknown = "unknown"  # too few images


class Row(Facts):
    """One number of both networks on the same images.

    Fields:
        name: what is measured.
        kind: "accuracy", "class" and "group" are what must not fall; "exchanged" is the accuracy once the cue says
            nothing; "answers" and "map" are the dependence on the cause, which should fall.
        finding: key of the finding it is about; None for the whole network.
        before: value of the network before.
        after: value of the network after.
        difference: after minus before.
        low: lower end of the interval of the difference, by a paired bootstrap over images.
        high: upper end.
        n: number of images.
        control_before: change by the matched control in the network before; only for answers.
        control_after: the same after.
        verdict: better or worse where the interval leaves out zero.
    """

    name: str
    kind: Kind
    finding: str | None = None
    before: float | None
    after: float | None
    difference: float | None
    low: float | None = None
    high: float | None = None
    n: int = Field(ge=0)
    control_before: float | None = None
    control_after: float | None = None
    verdict: Change = Change.unknown


class FindingResult(Facts):
    """Whether one finding was repaired.

    Fields:
        number: of the finding.
        key: of the finding.
        title: of the finding.
        answers: whether the answers depend less on it.
        map: whether less evidence lies on it; None for a property of the whole image.
        status: PASS if both moved, WARN if one did, FAIL if none did or one got worse.
        sentence: why.
    """

    number: int
    key: str
    title: str
    answers: Change
    map: Change | None
    status: Status
    sentence: str


class Verification(Facts):
    """Everything a verification says, the content of `verify.json`.

    Fields:
        version: of this schema.
        before: description of the network before.
        after: description of the network after.
        data: name, split and number of images.
        rows: comparisons.
        findings: outcome of each finding.
        worse: names of what fell beyond its interval.
        checks: outcome of the checks on the network after; empty if they did not run.
        still_present: keys of findings that a diagnosis of the network after confirms as causes.
        status: PASS for success, WARN if only the map or only the answers moved, else FAIL.
        succeeded: whether all findings passed and nothing fell.
        sentence: the result in one sentence.
        provenance: versions, commit, command, seed.
    """

    version: int = SCHEMA_VERSION
    before: dict[str, Any] = Field(default_factory=dict)
    after: dict[str, Any] = Field(default_factory=dict)
    data: dict[str, Any] = Field(default_factory=dict)
    rows: tuple[Row, ...]
    findings: tuple[FindingResult, ...]
    worse: tuple[str, ...] = ()
    checks: tuple[CheckReport, ...] = ()
    still_present: tuple[str, ...] = ()
    status: Status
    succeeded: bool
    sentence: str
    provenance: dict[str, Any] = Field(default_factory=dict)


def judge_finding(finding: Finding, rows: Iterable[Row]) -> FindingResult:
    """Judge whether a finding was repaired.

    Args:
        finding: the suspected cause.
        rows: comparisons of its answers and maps; others are left out.
    """
    mine = [row for row in rows if row.finding == finding.key]
    answers = combine([row.verdict for row in mine if row.kind == "answers"])
    on_map = None if finding.region is None else combine([row.verdict for row in mine if row.kind == "map"])
    status, sentence = _status_of(answers, on_map)
    return FindingResult(
        number=finding.number,
        key=finding.key,
        title=finding.title,
        answers=answers,
        map=on_map,
        status=status,
        sentence=sentence,
    )


def combine(verdicts: Sequence[Change]) -> Change:
    """Combine verdicts about one question: worse if any is, better if any is and none is worse."""
    for change in (Change.worse, Change.better, Change.same):
        if change in verdicts:
            return change
    return Change.unknown


def _status_of(answers: Change, on_map: Change | None) -> tuple[Status, str]:
    if answers is Change.worse:
        return Status.failed, "answers depend more on it than before"
    if answers is Change.unknown:
        return Status.not_run, "too few images show it to judge the answers"
    if on_map is None:
        if answers is Change.better:
            return Status.passed, "answers depend less on it, and it lies nowhere, so there is no map to judge"
        return Status.failed, "answers depend on it as before"
    if on_map is Change.worse:
        if answers is Change.better:
            return Status.warned, "answers depend less on it, but more evidence lies on it than before"
        return Status.failed, "more evidence lies on it than before"
    moved = (answers is Change.better, on_map is Change.better)
    return {
        (True, True): (Status.passed, "answers depend less on it, and less evidence lies on it"),
        (True, False): (Status.warned, "answers depend less on it, but as much evidence lies on it as before"),
        (False, True): (Status.warned, "less evidence lies on it, but answers depend on it as before"),
        (False, False): (Status.failed, "neither answers nor evidence moved"),
    }[moved]


def conclude(results: Sequence[FindingResult], rows: Iterable[Row]) -> dict[str, Any]:
    """Return the fields of a verification that sum it up: worse, status, succeeded and sentence."""
    guarded = ("accuracy", "class", "group", "exchanged")
    worse = tuple(row.name for row in rows if row.kind in guarded and row.verdict is Change.worse)
    statuses = [result.status for result in results]
    if worse:
        status, sentence = Status.failed, f"{_list_names(worse)} fell beyond the interval"
    elif not results:
        status, sentence = Status.not_run, "there is no finding to verify"
    elif all(status is Status.passed for status in statuses):
        status, sentence = Status.passed, "answers and evidence no longer depend on it as before, and nothing else fell"
    else:
        worst = next(s for s in (Status.failed, Status.not_run, Status.warned) if s in statuses)
        result = next(result for result in results if result.status is worst)
        status, sentence = worst, f"finding {result.number}: {result.sentence}"
    return {"worse": worse, "status": status, "succeeded": status is Status.passed, "sentence": sentence}


def _list_names(names: Sequence[str], most: int = 4) -> str:
    more = f" and {len(names) - most} more" if len(names) > most else ""
    return ", ".join(names[:most]) + more
