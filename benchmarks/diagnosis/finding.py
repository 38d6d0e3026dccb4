"""Findings of a diagnosis as plain data, written to and read from `findings.json`.

A finding is a suspected cause of a network's answers. It climbs a ladder: seen in the data, seen in the maps, confirmed
by intervention, costs accuracy. Each rung says whether it was reached, and on what grounds.
"""

from __future__ import annotations

from enum import StrEnum
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

SCHEMA_VERSION = 1


class Status(StrEnum):
    """Outcome of a check."""

    passed = "PASS"
    warned = "WARN"
    failed = "FAIL"
    not_run = "NOT RUN"


class Verdict(StrEnum):
    """What interventions say about a suspect."""

    cause = "cause"
    bystander = "bystander"
    unconfirmed = "unconfirmed"  # no intervention was possible, or too few images


class Severity(StrEnum):
    """How much a finding matters: a confirmed cause that costs accuracy is high."""

    high = "high"
    medium = "medium"
    low = "low"


class Facts(BaseModel):
    """Base class of the parts of a findings file."""

    model_config = ConfigDict(extra="forbid", frozen=True)


class Estimate(Facts):
    """A mean with its interval.

    Fields:
        value: the mean.
        low: lower end of the 95 % interval; None with fewer than two values.
        high: upper end.
        n: number of values.
    """

    value: float
    low: float | None = None
    high: float | None = None
    n: int = Field(ge=0)


class Effect(Facts):
    """What one intervention does to the answers.

    Fields:
        action: "remove" from images that have it, "add" to images of other classes, "swap" between classes, or
            "shift", which moves a property of the whole image.
        control: what the matched control does instead, in words.
        cls: class whose probability is followed.
        change: of the probability of `cls` by the intervention, in [-1, 1].
        control_change: of the same images by the control.
        difference: change minus control's change, paired.
        flips: share of images whose answer changes to or from `cls`.
        control_flips: the same by the control.
        p: two-sided, of the paired difference.
        p_holm: adjusted over all interventions of the diagnosis.
    """

    action: Literal["remove", "add", "swap", "shift"]
    control: str
    cls: str
    change: Estimate
    control_change: Estimate
    difference: Estimate
    flips: Estimate
    control_flips: Estimate
    p: float | None = None
    p_holm: float | None = None


class Rung(Facts):
    """One step of the ladder.

    Fields:
        name: "seen in the data", "seen in the maps", "confirmed by intervention" or "costs accuracy".
        reached: None where it was not tested.
        grounds: one sentence.
    """

    name: str
    reached: bool | None
    grounds: str


class Condition(Facts):
    """One criterion of a check.

    Fields:
        name: what is asked, with its threshold.
        status: outcome.
        detail: one sentence with value and threshold.
    """

    name: str
    status: Status
    detail: str


class Finding(Facts):
    """A suspected cause.

    Fields:
        number: rank in this diagnosis, from 1.
        key: stable over diagnoses of the same network and data, for `--baseline`.
        check: name of the check that found it.
        title: one sentence.
        classes: names of the classes whose answers it drives.
        images: ids of images that show it, clearest first.
        region: name of the region in `regions.npz`; None where there is none.
        property: name of the image property; None where there is none.
        value: of the check's statistic.
        null: mean of the statistic under permutation; None where there is no null distribution.
        p: of the statistic under permutation, adjusted by Holm within the check.
        effects: of interventions.
        verdict: what they say.
        severity: how much it matters.
        ladder: four rungs.
        terms: proposed knowledge terms, each with its name and fields, for `amend`.
        pictures: names of PNG files in the folder of the diagnosis: examples, then before and after intervention.
        details: further numbers by name.
    """

    number: int = Field(ge=1)
    key: str
    check: str
    title: str
    classes: tuple[str, ...] = ()
    images: tuple[str, ...] = ()
    region: str | None = None
    property: str | None = None
    value: float | None = None
    null: float | None = None
    p: float | None = None
    effects: tuple[Effect, ...] = ()
    verdict: Verdict = Verdict.unconfirmed
    severity: Severity = Severity.low
    ladder: tuple[Rung, ...] = ()
    terms: tuple[dict[str, Any], ...] = ()
    pictures: tuple[str, ...] = ()
    details: dict[str, float | int | str] = {}


class CheckReport(Facts):
    """Outcome of one check.

    Fields:
        name: registered name.
        title: for people.
        status: worst of its conditions; NOT RUN where it could not.
        sentence: result in one sentence, or why it was not run.
        value: of its statistic, the most extreme.
        null: mean under permutation.
        p: smallest, adjusted.
        conditions: criteria with their outcomes.
        picture: name of a PNG file in the folder of the diagnosis.
        seconds: duration.
    """

    name: str
    title: str
    status: Status
    sentence: str
    value: float | None = None
    null: float | None = None
    p: float | None = None
    conditions: tuple[Condition, ...] = ()
    picture: str | None = None
    seconds: float = 0.0


class Diagnosis(Facts):
    """Everything a diagnosis says, the content of `findings.json`.

    Fields:
        version: of this schema.
        network: name, file and digest of the network.
        data: name, split and number of images.
        classes: names.
        explainer: registered name.
        accuracy: share of correct answers; None without labels.
        unreadable: reasons by id of the images that could not be read.
        findings: ranked.
        checks: in the order they ran.
        provenance: versions, commit, command, seed, seconds.
    """

    version: int = SCHEMA_VERSION
    network: dict[str, Any]
    data: dict[str, Any]
    classes: tuple[str, ...]
    explainer: str
    accuracy: float | None = None
    unreadable: dict[str, str] = {}
    findings: tuple[Finding, ...] = ()
    checks: tuple[CheckReport, ...] = ()
    provenance: dict[str, Any] = {}

    def finding(self, number: int) -> Finding:
        """Return the finding of a number.

        Raises:
            KeyError: there is none.
        """
        return {finding.number: finding for finding in self.findings}[number]
