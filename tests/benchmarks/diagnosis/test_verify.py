"""A verification passes a good repair, and nothing that only looks like one."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from helpers.shortcut_task import CORNER_MASK, REGION, STATISTICS, ShapeNet, corner_finding, shape_images, shortcut_case

from benchmarks.diagnosis.amend import amend, copy_subject
from benchmarks.diagnosis.finding import Diagnosis, Status
from benchmarks.diagnosis.region import FixedRegion, save_regions
from benchmarks.diagnosis.repairs import repairs
from benchmarks.diagnosis.subject import Subject
from benchmarks.diagnosis.verify import verify
from benchmarks.diagnosis.verifying.verification import Change, Verification
from benchmarks.statistics.intervals import Resampling
from interp_core.errors import ContractError

pytestmark = pytest.mark.slow

QUICK = Resampling(resamples=300)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    path = tmp_path_factory.mktemp("diagnosis")
    save_regions(path, {"corner": REGION, "nowhere": FixedRegion(np.zeros((2, 2), bool))})
    return path


@pytest.fixture(scope="module")
def before():
    return shortcut_case()[0]


@pytest.fixture(scope="module")
def images():
    return shape_images(240, 0.5, 7)


@pytest.fixture(scope="module")
def repaired(before, folder):
    train = shortcut_case()[1]
    return amend(
        before, corner_finding(), folder, train, repair=repairs["exchange"](learning_rate=3e-3, epochs=3)
    ).subject


def check(before, after, images, folder, finding=None, **options):
    return verify(before, after, images, [finding or corner_finding()], folder, resampling=QUICK, **options)


class MapAway(Subject):
    """A network that decides as before, but whose maps avoid the corner."""

    def explain(self, normalised, classes):
        return super().explain(normalised, classes) * ~torch.from_numpy(CORNER_MASK)


class MapStays(Subject):
    """A network whose maps lie on the corner alone."""

    def explain(self, normalised, classes):
        maps = super().explain(normalised, classes)
        return torch.ones_like(maps) * torch.from_numpy(CORNER_MASK)


def subject_as(kind, subject):
    return kind(copy_subject(subject).lap, subject.classes, STATISTICS)


def test_a_good_repair_succeeds(before, repaired, images, folder):
    groups = images.targets * 2 + (images.images[:, 0, 0, 0] > 128)
    weights = {key: value.clone() for key, value in before.lap.state_dict().items()}
    verification = check(before, repaired, images, folder, groups=groups)
    assert verification.succeeded, verification.sentence
    assert verification.status is Status.passed
    assert not verification.worse
    by_name = {row.name: row for row in verification.rows}
    assert by_name["accuracy"].verdict is Change.better
    assert by_name["AUROC"].after > by_name["AUROC"].before
    assert by_name["accuracy of the worst group"].before < 0.3
    assert by_name["accuracy of the worst group"].after > 0.8
    swapped = by_name["swap: cross, probability"]
    assert swapped.before > 0.3
    assert abs(swapped.after) < 0.1
    assert swapped.low <= swapped.difference <= swapped.high
    assert swapped.control_before is not None
    assert by_name["accuracy with exchanged cues"].verdict is Change.better
    assert Verification.model_validate_json(verification.model_dump_json()) == verification
    assert all(torch.equal(value, weights[key]) for key, value in before.lap.state_dict().items())


def test_the_same_network_does_not_succeed(before, images, folder):
    verification = check(before, copy_subject(before), images, folder)
    assert verification.status is Status.failed
    assert not verification.succeeded
    assert {row.verdict for row in verification.rows} == {Change.same}


def test_a_map_that_moved_alone_is_a_warning(before, images, folder):
    verification = check(before, subject_as(MapAway, before), images, folder)
    assert verification.findings[0].answers is Change.same
    assert verification.findings[0].map is Change.better
    assert verification.status is Status.warned
    assert not verification.succeeded


def test_answers_that_moved_alone_are_a_warning(before, repaired, images, folder):
    verification = check(before, subject_as(MapStays, repaired), images, folder)
    assert verification.findings[0].answers is Change.better
    assert verification.findings[0].map is Change.worse
    assert verification.status is Status.warned
    assert not verification.succeeded


def test_lost_accuracy_is_a_failure(before, repaired, folder):
    after = copy_subject(repaired)
    with torch.no_grad():
        after.lap.backbone.fc.bias += torch.tensor([4.0, -4.0])
    verification = check(before, after, shape_images(240, 0.95, 8), folder)
    assert verification.status is Status.failed
    assert "accuracy of class ring" in verification.worse
    assert not verification.succeeded


def test_a_property_has_no_map(before, images, folder):
    finding = corner_finding(
        region=None, property="brightness", details={"median": 0.6, "median of others": 0.45}, classes=("ring",)
    )
    verification = check(before, copy_subject(before), images, folder, finding)
    assert verification.findings[0].map is None
    assert verification.findings[0].answers is Change.same


def test_too_few_images_are_said_to_be(before, images, folder):
    verification = check(before, copy_subject(before), images, folder, corner_finding(region="nowhere"))
    assert verification.findings[0].status is Status.not_run
    assert not verification.succeeded


def test_checks_run_again_on_the_network_after(before, repaired, images, folder):
    def diagnose(subject):
        assert subject is repaired
        finding = corner_finding(verdict="cause")
        return Diagnosis(network={}, data={}, classes=subject.classes, explainer="lap", findings=(finding,))

    verification = check(before, repaired, images, folder, diagnose=diagnose)
    assert verification.still_present == (corner_finding().key,)


def test_errors(before, images, folder):
    other = Subject(ShapeNet(), ("a", "b"), STATISTICS, image_size=32)
    with pytest.raises(ContractError):
        check(before, other, images, folder)
    with pytest.raises(ContractError):
        check(before, copy_subject(before), images, folder, groups=np.zeros(3))
