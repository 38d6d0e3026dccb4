"""RSNA Pneumonia Detection Challenge (2018), as Kaggle ships it: chest X-rays as DICOM, boxes of lung opacities.

Source: kaggle.com/c/rsna-pneumonia-detection-challenge; images from NIH ChestX-ray14. The classes are no opacity (0)
and Lung Opacity (1). Images without opacity are normal or not normal. By default this finer class only stratifies the
splits; `labels: three` makes it the class. The test images have no labels, so the training images are divided by
patient.

Boxes are in pixels of the DICOM file. PNG or JPEG exports with the same names can replace DICOM. If exports are smaller
than 1024 pixels, their boxes must be scaled too, or `boxes_refer_to` must give the size the boxes refer to.
Known limits: the file name is taken as the identifier of the patient, as in the challenge.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar, Literal, NamedTuple

import numpy as np

from interp_core.datasets.contract import datasets
from interp_core.datasets.files.boxes import repair_box
from interp_core.datasets.files.dataset import FileDataset
from interp_core.datasets.files.paths import first_existing, require_folder, require_path, walk_images
from interp_core.datasets.files.splits import SHARES, divide
from interp_core.datasets.files.tables import read_table, to_numbers
from interp_core.datasets.records import Box, Finding, Index, Record

LABELS = ("stage_2_train_labels.csv", "stage_1_train_labels.csv", "train_labels.csv")
DETAILS = ("stage_2_detailed_class_info.csv", "stage_1_detailed_class_info.csv", "detailed_class_info.csv")
IMAGES = ("stage_2_train_images", "stage_1_train_images", "train_images", "images")
NOT_NORMAL, NORMAL, OPACITY = "No Lung Opacity / Not Normal", "Normal", "Lung Opacity"
TWO, THREE = ("No Lung Opacity", OPACITY), (NORMAL, OPACITY, NOT_NORMAL)
CORNERS = ("x", "y", "width", "height")
PAGE = "on the challenge's page at Kaggle, 'Data'"


class Patient(NamedTuple):
    """Label and boxes of a patient."""

    positive: bool
    boxes: tuple[Box, ...]


@datasets.register("rsna")
class Rsna(FileDataset):
    """RSNA pneumonia detection.

    Attributes:
        labels: "two" for opacity or none, "three" for the detailed classes; Lung Opacity is 1 in both.
        boxes_refer_to: side in pixels of the images that boxes refer to, if it is not that of the files.
    """

    title: ClassVar[str] = "RSNA pneumonia"

    labels: Literal["two", "three"] = "two"
    boxes_refer_to: int | None = None
    hash_ids: bool = True

    def index(self) -> Index:
        """List all labelled images, divided by patient.

        Raises:
            InterpError: a file is missing or is not a table.
        """
        findings: list[Finding] = []
        root = require_folder(self.root, "RSNA's files")
        folder = require_path(root, IMAGES, f"the training images, stage_2_train_images.zip {PAGE}")
        table = require_path(root, LABELS, f"the labels and boxes, stage_2_train_labels.csv {PAGE}")
        patients = _read_patients(table, self.boxes_refer_to, findings)
        details = _read_details(first_existing(root, DETAILS), patients, findings)
        classes = TWO if self.labels == "two" else THREE
        records = list(self._records(folder, patients, details, findings))
        strata = {patient: details.get(patient, str(entry.positive)) for patient, entry in patients.items()}
        return Index(classes, divide(records, SHARES, self.seed, strata), findings=tuple(findings))

    def describe_layout(self) -> str:
        """Return a few words on the layout of the folder."""
        return "the challenge's layout"

    def _records(
        self, folder: Path, patients: dict[str, Patient], details: dict[str, str], findings: list[Finding]
    ) -> Iterator[Record]:
        size = None if self.boxes_refer_to is None else (self.boxes_refer_to, self.boxes_refer_to)
        patients_left = dict(patients)
        for path in walk_images(folder, findings):
            patient = patients_left.pop(path.stem, None)
            if patient is None:
                what = "has an image already" if path.stem in patients else "no such patient in the table of labels"
                findings.append(Finding("image without label", path.name, f"{what}: left out"))
                continue
            target = int(patient.positive)
            if self.labels == "three" and not patient.positive:
                if path.stem not in details:
                    findings.append(Finding("image without label", path.name, "not in the detailed classes: left out"))
                    continue
                target = THREE.index(details[path.stem])
            yield Record(f"{self.name}/{path.stem}", path, (target,), patient.boxes, group=path.stem, size=size)
        for name in patients_left:
            findings.append(Finding("label without image", name, f"no such file in {folder.name}/"))


def _read_patients(path: Path, side: int | None, findings: list[Finding]) -> dict[str, Patient]:
    """Read labels and boxes by patient. A patient who is positive in any row is positive."""
    description = f"the labels and boxes, stage_2_train_labels.csv {PAGE}"
    table = read_table(path, ("patientId", *CORNERS, "Target"), description, findings)
    values = to_numbers(table, CORNERS)
    patients: dict[str, Patient] = {}
    for row, patient, label, corners in zip(table.index, table["patientid"], table["target"], values, strict=True):
        where = f"{path.name}, row {row}"
        if label not in ("0", "1", "0.0", "1.0") or not patient:
            findings.append(Finding("bad label", where, f"Target must be 0 or 1, got {label[:20]!r}: row left out"))
            continue
        box = _box(corners, label[0] == "1", where, side, findings)
        before = patients.get(patient, Patient(False, ()))
        if patient in patients and before.positive != (label[0] == "1"):
            findings.append(Finding("bad label", where, "the patient has both labels: counted as positive"))
        patients[patient] = Patient(before.positive or label[0] == "1", (*before.boxes, *box))
    return patients


def _box(corners: np.ndarray, positive: bool, where: str, side: int | None, findings: list[Finding]) -> tuple[Box, ...]:
    if np.isnan(corners).all():
        if positive:
            findings.append(Finding("label without box", where, "positive, but without a box"))
        return ()
    if not positive:
        findings.append(Finding("box", where, "of a patient without opacity: left out"))
        return ()
    x, y, width, height = corners.tolist()
    size = None if side is None else (side, side)
    box = repair_box((x, y, x + width, y + height), where, findings, 1, size)
    return () if box is None else (box,)


def _read_details(path: Path | None, patients: dict[str, Patient], findings: list[Finding]) -> dict[str, str]:
    """Read the detailed class by patient, without those that contradict the label."""
    if path is None:
        findings.append(
            Finding("missing file", DETAILS[0], f"splits are stratified by label only; it is offered {PAGE}")
        )
        return {}
    table = read_table(path, ("patientId", "class"), f"the detailed classes {PAGE}")
    details: dict[str, str] = {}
    for row, patient, name in zip(table.index, table["patientid"], table["class"], strict=True):
        labelled = patients.get(patient)
        if name not in THREE or (labelled is not None and labelled.positive != (name == OPACITY)):
            what = f"{name[:40]!r} contradicts the label or is unknown: not used"
            findings.append(Finding("bad label", f"{path.name}, row {row}", what))
        else:
            details[patient] = name
    return details
