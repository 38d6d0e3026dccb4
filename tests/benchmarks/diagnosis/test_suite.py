from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import ClassVar

import numpy as np
import pytest
from helpers.cue_nets import cue_images, follower, twin
from PIL import Image

from benchmarks.diagnosis.check import Check, CheckResult, Context, Suspect, checks
from benchmarks.diagnosis.evidence import Evidence
from benchmarks.diagnosis.finding import Diagnosis, Severity, Status, Verdict
from benchmarks.diagnosis.region import load_region
from benchmarks.diagnosis.subject import Subject
from benchmarks.diagnosis.suite import Named, choose_suspects, diagnose, rank
from interp_core.errors import ContractError

pytestmark = pytest.mark.slow
NAMES = ("patches", "places")


def run(subject: Subject, folder: Path, count: int = 100, **options: object) -> Diagnosis:
    images, _ = cue_images(count, share=0.4, **options)  # type: ignore[arg-type]
    return diagnose(subject, images, folder, names=NAMES)


def test_the_cue_of_the_follower_is_its_first_finding(tmp_path: Path) -> None:
    subject = follower()
    diagnosis = run(subject, tmp_path)
    first = diagnosis.findings[0]
    assert first.verdict is Verdict.cause
    assert first.classes == ("with",)
    assert first.severity is Severity.high
    assert [rung.reached for rung in first.ladder] == [True, True, True, True]
    assert {term["name"] for term in first.terms} == {"exchange", "forbid"}
    images, cues = cue_images(100, share=0.4)
    has_cue = cues.any((1, 2, 3))
    masks = load_region(tmp_path, first.key).masks(subject, images.images[has_cue]).numpy()
    assert ((masks & cues[has_cue]).sum() / (masks | cues[has_cue]).sum()) > 0.5
    for picture in first.pictures:
        assert Image.open(tmp_path / picture).size[0] > 100


def test_the_twin_has_no_cause_beside_its_object(tmp_path: Path) -> None:
    diagnosis = run(twin(), tmp_path)
    assert not [finding for finding in diagnosis.findings if finding.verdict is Verdict.cause]


def test_a_diagnosis_is_the_same_again(tmp_path: Path) -> None:
    first, second = (run(follower(), tmp_path) for _ in range(2))
    assert first.findings == second.findings
    assert [finding.number for finding in first.findings] == list(range(1, len(first.findings) + 1))


class Broken(Check):
    title: ClassVar[str] = "Broken"

    def run(self, evidence: Evidence, context: Context) -> CheckResult:
        raise ZeroDivisionError("no luck")


def test_a_check_that_fails_stops_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(checks._entries, "broken", Broken)
    images, _ = cue_images(40)
    diagnosis = diagnose(follower(), images, tmp_path, names=("broken", "places"))
    reports = {report.name: report for report in diagnosis.checks}
    assert reports["broken"].status is Status.not_run
    assert "no luck" in reports["broken"].sentence
    assert reports["places"].status is not Status.not_run


@pytest.mark.parametrize("case", ["one class", "ten images", "no evidence", "no labels"])
def test_poor_data_get_a_clear_word(case: str, tmp_path: Path) -> None:
    images, _ = cue_images(10 if case == "ten images" else 40)
    if case == "one class":
        images = images.take(np.flatnonzero(images.targets == 1))
    if case == "no evidence":
        images = type(images)(np.zeros_like(images.images), images.targets, images.masks, images.ids)
    if case == "no labels":
        images = type(images)(images.images, np.full(40, -1), images.masks, images.ids)
    diagnosis = diagnose(follower(), images, tmp_path)
    assert {report.name for report in diagnosis.checks} == set(checks)
    assert all(report.sentence for report in diagnosis.checks)
    assert (diagnosis.accuracy is None) == (case == "no labels")


def test_without_labels_the_cue_is_still_a_cause(tmp_path: Path) -> None:
    images, _ = cue_images(100, share=0.4)
    images = replace(images, targets=np.full(100, -1))
    need_labels = ("labels", "metadata", "overlap")
    facts = {"site": np.arange(100) % 3}
    diagnosis = diagnose(follower(), images, tmp_path, names=(*NAMES, *need_labels), metadata=facts)
    first = diagnosis.findings[0]
    assert (first.verdict, first.check, first.classes) == (Verdict.cause, "patches", ("with",))
    assert [rung.reached for rung in first.ladder] == [None, True, True, None]
    assert max(effect.flips.value - effect.control_flips.value for effect in first.effects) > 0.3
    reports = {report.name: report for report in diagnosis.checks}
    assert {name for name, report in reports.items() if report.status is Status.not_run} == set(need_labels)
    assert all("labels" in reports[name].sentence for name in need_labels)
    assert all(reports[name].status is not Status.failed for name in NAMES)


def test_metadata_of_another_length_are_refused(tmp_path: Path) -> None:
    images, _ = cue_images(20)
    with pytest.raises(ContractError, match="'colour'"):
        diagnose(follower(), images, tmp_path, names=(), metadata={"colour": np.zeros(3)})


def test_suspects_are_taken_in_turn() -> None:
    def suspect(key: str) -> Suspect:
        return Suspect(key, key, (), np.arange(0), 0.0)

    results = {
        "a": CheckResult("", suspects=tuple(suspect(f"a{i}") for i in range(3))),
        "b": CheckResult("", suspects=(suspect("b0"),)),
    }
    assert [named.suspect.key for named in choose_suspects(results, 3)] == ["a0", "b0", "a1"]
    assert choose_suspects({}) == []


def test_findings_have_one_order(tmp_path: Path) -> None:
    findings = run(follower(), tmp_path).findings
    assert findings
    shuffled = [findings[i] for i in np.random.default_rng(0).permutation(len(findings))]
    assert tuple(finding for _, finding in rank(shuffled)) == findings
    assert isinstance(Named("a", Suspect("k", "t", (), np.arange(0), 0.0)).outcomes, tuple)
