"""Study: what do networks that others trained depend on? Pneumonia by source and marker, faces by hair and collar.

Each network is diagnosed on images that are at hand, many of which it was probably trained on. What it was trained on
is not known, so the findings describe the network on these images and are no claim about others. Nothing was chosen by
looking at the results.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from benchmarks.config.weight_files import file_digest
from benchmarks.diagnosis.finding import Diagnosis, Finding
from benchmarks.diagnosis.intervention import deciding, is_cause
from benchmarks.diagnosis.output.findings_file import write_findings
from benchmarks.diagnosis.region import load_region
from benchmarks.diagnosis.subject import Statistics, Subject
from benchmarks.diagnosis.suite import diagnose
from benchmarks.statistics.intervals import bootstrap_ci
from benchmarks.store.provenance import write_provenance
from benchmarks.studies.progress import track
from benchmarks.studies.resumable_table import ResumableTable
from benchmarks.studies.trained.data import Labelled, load_collars, load_faces, load_radiographs
from benchmarks.studies.trained.networks import load_face_network, load_pneumonia

OUTPUT = Path("results/diagnosis")
IMAGENET: Statistics = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
HALF: Statistics = ((0.5,) * 3, (0.5,) * 3)
ALL_SOURCES = ("kermany", "nih", "journals")
RADIOGRAPHS, FACES = 150, 600  # of each source and label, and in all
RADIOGRAPH_SIDE, FACE_SIDE = 224, 256
FLOATS = "%.3f"


@dataclass(frozen=True)
class Case:
    """A network with the images it is diagnosed on.

    Attributes:
        name: in the tables.
        classes: names of both answers.
        statistics: that normalise its images.
        load_network: from a file of weights.
        weights: the file.
        load_images: from the folder of the images.
        root: the folder.
    """

    name: str
    classes: tuple[str, str]
    statistics: Statistics
    load_network: Callable[[Path], nn.Module]
    weights: Path
    load_images: Callable[[Path], Labelled]
    root: Path


def cases(chest: Path, faces: Path, pneumonia: Path, male: Path) -> list[Case]:
    """Return all cases; see `run`."""
    lungs = ("normal", "pneumonia")
    return [
        Case(
            "pneumonia, own source", lungs, IMAGENET, load_pneumonia, pneumonia,
            lambda root: load_radiographs(root, RADIOGRAPH_SIDE, RADIOGRAPHS), chest,
        ),
        Case(
            "pneumonia, three sources", lungs, IMAGENET, load_pneumonia, pneumonia,
            lambda root: load_radiographs(root, RADIOGRAPH_SIDE, RADIOGRAPHS, ALL_SOURCES), chest,
        ),
        Case(
            "male", ("not male", "male"), HALF, load_face_network, male,
            lambda root: load_faces(root, FACE_SIDE, "Male", FACES), faces,
        ),
    ]  # fmt: skip


def run(chest: Path, faces: Path, pneumonia: Path, male: Path, output: Path = OUTPUT, *, work: Path) -> list[Path]:
    """Diagnose all networks, and return the files written.

    Args:
        chest: folder of the radiographs and their index.csv.
        faces: folder of the faces and their index.csv.
        pneumonia: weights of the network of radiographs.
        male: weights of the face network.
        output: folder of the tables.
        work: folder of the diagnoses, which hold pictures that are not to be published.

    Raises:
        ContractError: a file is missing or of another kind.
    """
    findings = ResumableTable(output / "trained_findings.csv", ("network",), float_format=FLOATS)
    groups = ResumableTable(output / "trained_groups.csv", ("network",), float_format=FLOATS)
    everything = cases(chest, faces, pneumonia, male)
    facts = {
        "images": {"of each source and label": RADIOGRAPHS, "faces": FACES},
        "weights": {case.weights.name: file_digest(case.weights) for case in everything},
    }
    facts_path = write_provenance(output / "trained.json", facts, command="interp-bench study trained")
    for case in track([case for case in everything if (case.name,) not in findings], "networks"):
        labelled = case.load_images(case.root)
        network = case.load_network(case.weights)
        subject = Subject(network, case.classes, case.statistics, image_size=labelled.images.shape[-1])
        folder = work / case.name.replace(", ", "-").replace(" ", "-")
        diagnosis = diagnose_case(case, subject, labelled, folder)
        overlap = _collar_overlap(case, folder, subject)
        if (case.name,) not in groups:
            groups.add(*judge_groups(case.name, subject, labelled))
        findings.add(*(describe(case.name, finding, overlap(finding)) for finding in diagnosis.findings))
    return [findings.path, groups.path, facts_path]


def diagnose_case(case: Case, subject: Subject, labelled: Labelled, folder: Path) -> Diagnosis:
    """Diagnose one network."""
    diagnosis = diagnose(
        subject, labelled.images, folder, metadata=labelled.metadata,
        network={"name": case.name, "digest": file_digest(case.weights)}, data={"name": case.name},
    )  # fmt: skip
    write_findings(folder, diagnosis)
    return diagnosis


def describe(case: str, finding: Finding, overlap: float = float("nan")) -> dict[str, Any]:
    """Return a finding as a row: its verdict, and the intervention that decides, with intervals over images."""
    row: dict[str, Any] = {
        "network": case,
        "number": finding.number,
        "check": finding.check,
        "classes": "; ".join(finding.classes),
        "title": finding.title,
        "value": finding.value,
        "p": finding.p,
        "verdict": finding.verdict.value,
        "area": finding.details.get("area", float("nan")),
        "collar overlap": overlap,
    }
    if not finding.effects:
        return row
    effect = max(deciding(finding.effects), key=lambda effect: (is_cause(effect), abs(effect.difference.value)))
    return row | {
        "action": effect.action,
        "difference": effect.difference.value,
        "low": effect.difference.low,
        "high": effect.difference.high,
        "n": effect.difference.n,
        "flips": effect.flips.value,
        "control flips": effect.control_flips.value,
        "p_holm": effect.p_holm,
    }


def _collar_overlap(case: Case, folder: Path, subject: Subject) -> Callable[[Finding], float]:
    """Return what computes the mean intersection over union of a finding's region and collar masks."""
    if case.load_network is not load_face_network:
        return lambda _: float("nan")
    images, collars = load_collars(case.root, FACE_SIDE)
    pixels = images.take(np.arange(len(images))).images

    def overlap(finding: Finding) -> float:
        if finding.region is None:
            return float("nan")
        masks = load_region(folder, finding.region).masks(subject, pixels).numpy()
        union = np.maximum((masks | collars).sum((1, 2, 3)), 1)
        return float(((masks & collars).sum((1, 2, 3)) / union).mean())

    return overlap


def judge_groups(case: str, subject: Subject, labelled: Labelled) -> list[dict[str, Any]]:
    """Return the accuracy of each group that the diagnosis was not told of, with its interval."""
    batches = labelled.images.batches(np.array_split(np.arange(len(labelled.images)), -(-len(labelled.images) // 64)))
    correct = np.full(len(labelled.images), np.nan)
    for rows, batch in batches:
        correct[rows] = subject.predict(batch.images).argmax(1).numpy() == batch.targets
    return [summarise(case, str(name), correct[rows.index]) for name, rows in labelled.table.groupby("group")]


def summarise(case: str, group: str, correct: np.ndarray) -> dict[str, Any]:
    """Return accuracy and interval of images (n,), without those that cannot be read."""
    known = correct[np.isfinite(correct)]
    low, high = bootstrap_ci(known)
    return {"network": case, "group": group, "images": len(known), "accuracy": known.mean(), "low": low, "high": high}
