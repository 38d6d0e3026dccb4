"""Amend: repair a copy of a network, given nothing but a finding, training images and their labels.

    amended = amend(subject, diagnosis.finding(3), folder, train)
    save_amended(amended, "amended")

The region's detector, which the diagnosis wrote, says which training images show the cue and where. A probe of the last
layer chooses the repair. The epoch is chosen on held-out training images whose cues are exchanged, so no group labels
and no test images are used.

Known limits: a network that has seen the held-out images in its own training answers them better than new ones. The
redistribution of a fitted LAP model is not fitted again.
"""

from __future__ import annotations

import copy
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks.diagnosis.amending.choose import Choice, choose_repair
from benchmarks.diagnosis.amending.probe import Probe, probe_last_layer
from benchmarks.diagnosis.edits import edit_of
from benchmarks.diagnosis.finding import Finding
from benchmarks.diagnosis.region import load_region
from benchmarks.diagnosis.repairs import Repair, RepairTask, repairs
from benchmarks.diagnosis.repairs.base import Boxes, Report
from benchmarks.diagnosis.repairs.support.cues import find_cues, groups_of
from benchmarks.diagnosis.repairs.support.image_parts import hold_out, part_of, select_labelled, split_rows
from benchmarks.diagnosis.subject import Subject
from benchmarks.store.atomic import write_atomically
from benchmarks.store.json_text import json_text
from benchmarks.store.provenance import provenance
from interp_core.datasets import Images
from interp_core.errors import ContractError
from interp_core.lap.checkpoint import save

HELD_OUT = 0.15
NETWORK, FACTS = "network", "amend.json"


@dataclass(frozen=True)
class Amended:
    """A repaired network.

    Attributes:
        subject: the repaired copy.
        finding: what it was repaired of.
        repair: how.
        reason: why so, in one sentence.
        probe: of the last layer before the repair; None where the finding has no region.
        facts: numbers of the repair.
        seed: of all draws.
    """

    subject: Subject
    finding: Finding
    repair: Repair
    reason: str
    probe: Probe | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    seed: int = 0


def amend(
    subject: Subject,
    finding: Finding,
    folder: Path,
    train: Images,
    *,
    repair: Repair | str | None = None,
    validation: Images | None = None,
    boxes: Boxes | None = None,
    epochs: int | None = None,
    detector: Subject | None = None,
    seed: int = 0,
    report: Report | None = None,
) -> Amended:
    """Repair a copy of a network, so that a suspected cue no longer decides.

    Args:
        subject: the network to repair; it stays as it is.
        finding: of its diagnosis.
        folder: of the diagnosis, with the regions.
        train: training images with labels; others than the diagnosed ones, where there are.
        repair: a repair or its name; None to choose by a probe of the last layer.
        validation: labelled images that choose the epoch; None to hold out a part of the training images.
        boxes: indices (n,) of training images and masks (n, 1, H, W) of the object.
        epochs: of the training; None for the repair's own.
        detector: the network that was diagnosed, whose features the region's detector reads, where it is not `subject`
            since an earlier finding was repaired already.
        seed: of all draws.
        report: called with the number of epochs done and of all.

    Raises:
        ContractError: no training image has a label or shows the cue, or the repair needs what is not there.
    """
    images = select_labelled(train)
    if boxes is not None and len(images) < len(train):
        raise ContractError("boxes number the training images, of which some have no label: leave those out first")
    parts = divide(images, validation, boxes, followed_group(subject, finding), seed)
    task = _prepare(subject, detector or subject, finding, folder, parts, seed, report)
    probe = None if task.cues is None else probe_last_layer(subject, task.images, task.cues, task.groups, seed=seed)
    choice = _resolve(repair, finding, probe, boxes is not None, epochs)
    missing = choice.repair.missing(task)
    if missing is not None:
        raise ContractError(f"the repair {choice.repair.name!r} cannot be used here: {missing}")
    facts = {"training images": len(task.images), "validation images": len(task.validation)}
    if task.cues is not None:
        facts["training images with the cue"] = int(task.cues.present.sum())
    facts |= choice.repair.apply(task)
    task.subject.lap.eval()
    return Amended(task.subject, finding, *choice, probe, facts, seed)


def _prepare(
    subject: Subject,
    detector: Subject,
    finding: Finding,
    folder: Path,
    parts: tuple[Images, Images, Boxes | None],
    seed: int,
    report: Report | None,
) -> RepairTask:
    """Find the cues, and collect all that a repair may use."""
    images, validation, boxes = parts
    region = None if finding.region is None else load_region(folder, finding.region)
    return RepairTask(
        subject=copy_subject(subject),
        finding=finding,
        images=images,
        validation=validation,
        cues=None if region is None else find_cues(detector, region, images),
        validation_cues=None if region is None else find_cues(detector, region, validation),
        property_edit=None if finding.property is None else edit_of(finding.property),
        boxes=boxes,
        seed=seed,
        report=report,
    )


def divide(
    images: Images, validation: Images | None, boxes: Boxes | None, followed: int, seed: int
) -> tuple[Images, Images, Boxes | None]:
    """Return training images, validation images, and the boxes of the former.

    Without validation images a part of the training images is held out, none of those with a box.
    """
    if validation is not None:
        return images, select_labelled(validation), boxes
    groups = groups_of(images.targets, followed)
    if boxes is None:
        return *hold_out(images, groups, HELD_OUT, seed), None
    indices, masks = boxes
    free = np.setdiff1d(np.arange(len(images)), indices.numpy())
    stay, held_out = split_rows(free, groups[free], HELD_OUT, seed)
    rows = np.concatenate([indices.numpy(), stay])
    return part_of(images, rows), part_of(images, held_out), (torch.arange(len(indices)), masks)


def followed_group(subject: Subject, finding: Finding) -> int:
    """Return the class by which multi-label images are grouped: the finding's first, or the last one."""
    return subject.classes.index(finding.classes[0]) if finding.classes else -1


def _resolve(
    repair: Repair | str | None, finding: Finding, probe: Probe | None, has_boxes: bool, epochs: int | None
) -> Choice:
    """Return the repair with the number of epochs, and why it is used."""
    if repair is None:
        choice = choose_repair(finding, probe, has_boxes)
    else:
        choice = Choice(repairs[repair]() if isinstance(repair, str) else repair, "it was asked for")
    if epochs is None or "epochs" not in type(choice.repair).model_fields:
        return choice
    return Choice(choice.repair.model_copy(update={"epochs": epochs}), choice.reason)


def copy_subject(subject: Subject) -> Subject:
    """Return a subject with a copy of the network."""
    return Subject(
        copy.deepcopy(subject.lap),
        subject.classes,
        subject.statistics,
        explainer=subject.explainer.name,
        multi_label=subject.multi_label,
    )


def describe_step(amended: Amended) -> dict[str, Any]:
    """Return a repair as plain data: finding, repair, reason, probe and facts."""
    return {
        "finding": amended.finding.model_dump(mode="json", include={"number", "key", "check", "title", "classes"}),
        "repair": {"name": amended.repair.name, **amended.repair.model_dump(mode="json")},
        "reason": amended.reason,
        "probe": None if amended.probe is None else amended.probe.model_dump(mode="json"),
        "facts": amended.facts,
    }


def save_amended(
    amended: Amended, folder: Path, *, command: str | None = None, facts: dict[str, Any] | None = None
) -> Path:
    """Write the repaired network and how it was made to a folder.

    Args:
        amended: the result of `amend`.
        folder: for `network.safetensors`, `network.json` and `amend.json`.
        command: that made it.
        facts: further facts, such as the description of the network before.

    Returns:
        The path of the weights.

    Raises:
        StoreError: a file cannot be written.
    """
    content = {**describe_step(amended), **(facts or {}), **provenance(command=command, seed=amended.seed)}
    weights = save(amended.subject.lap, folder / NETWORK, classes=list(amended.subject.classes))
    write_atomically(folder / FACTS, json_text(content))
    return weights
