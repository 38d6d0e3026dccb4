"""Study: a real wrong reason, from its discovery to its repair.

Both networks are diagnosed on the images that they were trained on, from images and labels alone. The first confirmed
finding of the network that uses the patches is repaired, five times. Hand-drawn masks and held-out images judge.
"""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.config.weight_files import file_digest, load_weights
from benchmarks.diagnosis.amend import amend
from benchmarks.diagnosis.finding import Diagnosis, Finding, Verdict
from benchmarks.diagnosis.output.findings_file import write_findings
from benchmarks.diagnosis.region import load_region
from benchmarks.diagnosis.repairs import repairs
from benchmarks.diagnosis.subject import Subject
from benchmarks.diagnosis.suite import diagnose
from benchmarks.statistics.intervals import bootstrap_ci
from benchmarks.store.atomic import write_atomically
from benchmarks.store.markdown import markdown_table
from benchmarks.store.provenance import write_provenance
from benchmarks.studies.lesions.data import CLASSES, SIDE, STATISTICS, Lesions, judge, load_lesions
from benchmarks.studies.progress import track
from benchmarks.studies.resumable_table import ResumableTable
from interp_core.backbone.timm_models import create_backbone
from interp_core.errors import ContractError

OUTPUT = Path("results/diagnosis")
BACKBONE = "tf_efficientnet_lite0"
USER, TWIN = "user", "twin"
REPAIRS: dict[str, Mapping[str, Any]] = {
    "distil": {"epochs": 6, "learning_rate": 3e-4, "turn": True},
    "exchange": {"epochs": 6, "learning_rate": 3e-4, "turn": True},
    "inpaint": {"epochs": 6, "learning_rate": 3e-4, "turn": True},
    "last_layer": {},
}
REPEATED = ("distil", "exchange")  # with all seeds, the others with the first
FIRST = 3  # findings among which the patches must be


def run(
    root: Path, user: Path, twin: Path, output: Path = OUTPUT, *, seeds: Sequence[int] = range(5), work: Path
) -> list[Path]:
    """Diagnose both networks, repair the user, and return the files written.

    Args:
        root: folder of the images and their index.
        user: weights of the network that uses the patches.
        twin: weights of the network that does not.
        output: folder of the tables.
        seeds: of the repairs.
        work: folder of the diagnoses.

    Raises:
        ContractError: a file is missing, or the diagnosis confirms nothing.
    """
    lesions = load_lesions(root)
    subjects = {USER: load_subject(user), TWIN: load_subject(twin)}
    diagnoses = {
        role: diagnose_lesions(role, subject, lesions, work / role, {USER: user, TWIN: twin}[role])
        for role, subject in subjects.items()
    }
    findings = [
        row for role in subjects for row in judge_findings(role, diagnoses[role], work / role, subjects, lesions)
    ]
    output.mkdir(parents=True, exist_ok=True)
    paths = [write_atomically(output / "lesions_findings.csv", pd.DataFrame(findings).to_csv(index=False))]
    table = ResumableTable(output / "lesions.csv", ("network", "repair", "seed"))
    for role, subject in subjects.items():
        if (role, "none", 0) not in table:
            table.add({"network": role, "repair": "none", "seed": 0, **asdict(judge(subject, lesions))})
    first = first_cause(diagnoses[USER])
    units = [(USER, name, seed) for name in REPAIRS for seed in (seeds if name in REPEATED else seeds[:1])]
    for _, name, seed in track(table.missing(units), "repairs"):
        train = lesions.select(lesions.training)
        repair = repairs[name](**REPAIRS[name])
        amended = amend(subjects[USER], first, work / USER, train, repair=repair, seed=seed)
        table.add({"network": USER, "repair": name, "seed": seed, **asdict(judge(amended.subject, lesions))})
    facts = {"images": len(lesions.ids), "side": SIDE, "user": file_digest(user), "twin": file_digest(twin)}
    paths += [table.path, write_provenance(output / "lesions.json", facts, command="interp-bench study lesions")]
    return [*paths, write_report(pd.DataFrame(findings), table.frame, output), *copy_pictures(first, work, output)]


def load_subject(weights: Path) -> Subject:
    """Load one of the two networks."""
    network = create_backbone(BACKBONE, num_classes=len(CLASSES))
    load_weights(network, weights)
    return Subject(network.float(), CLASSES, STATISTICS, image_size=SIDE)


def diagnose_lesions(role: str, subject: Subject, lesions: Lesions, folder: Path, weights: Path) -> Diagnosis:
    """Diagnose a network on its training images, from images and labels alone."""
    images = lesions.select(lesions.training)
    diagnosis = diagnose(
        subject, images, folder, network={"name": role, "digest": file_digest(weights)}, data={"name": "isic2150"}
    )
    write_findings(folder, diagnosis)
    return diagnosis


def judge_findings(
    role: str, diagnosis: Diagnosis, folder: Path, subjects: Mapping[str, Subject], lesions: Lesions
) -> list[dict[str, Any]]:
    """Compare the findings of a network with the patches that it was told nothing of."""
    position = {name: i for i, name in enumerate(lesions.ids)}
    rows = []
    for finding in diagnosis.findings:
        listed = [lesions.listed[position[name]] for name in finding.images]
        effects = {effect.action: effect.difference.value for effect in finding.effects}
        rows.append({
            "network": role,
            "number": finding.number,
            "check": finding.check,
            "title": finding.title,
            "verdict": finding.verdict.value,
            "listed": float(np.mean(listed)) if listed else float("nan"),
            "overlap": overlap_with_patches(finding, folder, subjects[role], lesions),
            **{action: effects.get(action, float("nan")) for action in ("remove", "add", "swap", "shift")},
        })  # fmt: skip
    return rows


def overlap_with_patches(finding: Finding, folder: Path, subject: Subject, lesions: Lesions) -> float:
    """Return the mean intersection over union of a finding's region and the hand-drawn patches."""
    if finding.region is None:
        return float("nan")
    masks = load_region(folder, finding.region).masks(subject, lesions.images[lesions.drawn]).numpy()
    union = np.maximum((masks | lesions.patches).sum((1, 2, 3)), 1)
    return float(((masks & lesions.patches).sum((1, 2, 3)) / union).mean())


def first_cause(diagnosis: Diagnosis) -> Finding:
    """Return the first finding that is confirmed as a cause and has a region.

    Raises:
        ContractError: there is none.
    """
    causes = [f for f in diagnosis.findings if f.verdict is Verdict.cause and f.region is not None]
    if not causes:
        raise ContractError("the diagnosis of the user confirms no cause with a region, so nothing can be repaired")
    return causes[0]


def write_report(findings: pd.DataFrame, rows: pd.DataFrame, output: Path) -> Path:
    """Write both tables as Markdown."""
    summary = []
    for (network, repair), group in rows.groupby(["network", "repair"], sort=False):
        low, high = bootstrap_ci(group["flips"])
        summary.append({
            "network": network,
            "repair": repair,
            "seeds": len(group),
            **{name: group[name].mean() for name in ("flips", "control_flips", "auroc", "accuracy", "change")},
            "interval of flips": "" if np.isnan(low) else f"{low:.2f} to {high:.2f}",
        })  # fmt: skip
    text = "\n".join([
        "# Skin lesions", "", "Findings, from the training images and their labels alone:", "",
        markdown_table(findings), "", "Held-out images, before and after repair:", "",
        markdown_table(pd.DataFrame(summary)), "",
    ])  # fmt: skip
    return write_atomically(output / "lesions.md", text)


def copy_pictures(finding: Finding, work: Path, output: Path) -> list[Path]:
    """Copy the pictures of the repaired finding beside the tables."""
    copies = []
    for name in finding.pictures:
        kind = Path(name).stem.rpartition("-")[2]
        copies.append(Path(shutil.copy(work / USER / name, output / f"lesions_{kind}.png")))
    return copies
