"""Study: does a repair that is told only the findings bring a network back to one that never saw the cause?

Networks with a cue for every class are diagnosed on validation images. All confirmed findings with a region are joined
and repaired at once. Images of the test split with cues at random judge: accuracy where the cue agrees with the label,
and where it conflicts. The reference was trained on the same images without the cue, for as many epochs as a repair.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from benchmarks.diagnosis.amend import amend
from benchmarks.diagnosis.amending.joined import join_findings
from benchmarks.diagnosis.finding import Diagnosis, Verdict
from benchmarks.diagnosis.repairs import repairs
from benchmarks.diagnosis.subject import Subject
from benchmarks.diagnosis.suite import diagnose
from benchmarks.store.provenance import write_provenance
from benchmarks.studies.planted.causes import Cause, Planted, plant_cause
from benchmarks.studies.planted.guided_rivals import EPOCHS, RATE
from benchmarks.studies.planted.repair_report import write_report
from benchmarks.studies.planted.repair_rivals import REPAIR_RIVALS
from benchmarks.studies.planted.setting import Setting, digits, subject_of, train_network
from benchmarks.studies.planted.study import OUTPUT, trained_network
from benchmarks.studies.progress import track
from benchmarks.studies.resumable_table import ResumableTable

KEYS = ("cause", "agreement", "seed", "repair")
CAUSES: tuple[Cause, ...] = ("tag", "watermark", "texture", "object")
AGREEMENTS = (0.98,)
RANDOM = 0.5  # agreement of the cues of the images that judge
TOLD_FINDINGS = ("amend", "inpaint", "last_layer")
OPTIONS: dict[str, dict[str, Any]] = {
    "exchange": {"epochs": EPOCHS, "learning_rate": RATE, "relearn": True},
    "inpaint": {"epochs": EPOCHS, "learning_rate": RATE, "relearn": True},
    "last_layer": {},
}
Method = Callable[[Subject, Planted, Planted, Setting], Subject]


def run(
    output: Path = OUTPUT,
    *,
    causes: Sequence[Cause] = CAUSES,
    agreements: Sequence[float] = AGREEMENTS,
    seeds: Sequence[int] = (10,),
    work: Path | None = None,
) -> list[Path]:
    """Run the study, or continue it, and return the files it wrote.

    Args:
        output: folder of the tables.
        causes: kinds of cues.
        agreements: of the cues with the label.
        seeds: of the networks.
        work: folder of trained networks; None for none.
    """
    table = ResumableTable(output / "repairs.csv", KEYS)
    names = ("before", "never saw it", *TOLD_FINDINGS, *REPAIR_RIVALS)
    settings = [Setting(cause, "planted", a, "all", seed) for seed in seeds for cause in causes for a in agreements]
    open_settings = [s for s in settings if table.missing([(*_unit(s), name) for name in names])]
    for setting in track(open_settings, "networks"):
        missing = {unit[-1] for unit in table.missing([(*_unit(setting), name) for name in names])}
        table.add(*repair_all(setting, missing, work))
    provenance = write_provenance(output / "repairs.json", {"options": OPTIONS}, command="interp-bench study repairs")
    return [table.path, provenance, write_report(table.frame, output)]


def repair_all(setting: Setting, names: set[str], work: Path | None) -> list[dict[str, Any]]:
    """Repair one network in several ways, and judge each."""
    subject = subject_of(trained_network(setting, work))
    train, val = (setting.images(split, diagnosed=True) for split in ("train", "val"))
    judges = judging_images(setting)
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        diagnosis = diagnose(subject, val.images, folder, seed=setting.seed)
        for repair in sorted(names):
            begin = time.perf_counter()
            repaired = apply_repair(repair, subject, train, val, setting, diagnosis, folder)
            seconds = round(time.perf_counter() - begin, 1)
            if repaired is not None:
                rows.append({**dict(zip(KEYS, (*_unit(setting), repair), strict=True)), **judge(repaired, judges)})
                rows[-1]["seconds"] = seconds
    return rows


def apply_repair(
    name: str, subject: Subject, train: Planted, val: Planted, setting: Setting, diagnosis: Diagnosis, folder: Path
) -> Subject | None:
    """Return a repaired copy of a network; None where the diagnosis confirmed no region."""
    if name == "before":
        return subject
    if name == "never saw it":
        return subject_of(train_network(setting, digits("train"), epochs=EPOCHS))
    if name in REPAIR_RIVALS:
        return REPAIR_RIVALS[name](subject, train, val, setting)
    causes = [f for f in diagnosis.findings if f.verdict is Verdict.cause and f.region is not None]
    if not causes:
        return None
    joined = join_findings(causes, folder)
    kind = "exchange" if name == "amend" else name
    repair = repairs[kind](**OPTIONS[kind])
    return amend(subject, joined, folder, train.images, repair=repair, seed=setting.seed).subject


def judging_images(setting: Setting) -> Planted:
    """Return test images with a cue of the own or of another class, as often."""
    return plant_cause(
        setting.cause, digits("test"), 10, agreement=RANDOM, scope="all", cls=0, seed=7000 + setting.seed
    )


def judge(subject: Subject, planted: Planted) -> dict[str, float]:
    """Return accuracies where the cue agrees and where it conflicts, and the lower of both."""
    correct = subject.predict(planted.images.images).argmax(1).numpy() == planted.images.targets
    conflicts = planted.conflicts
    agree, conflict = float(correct[~conflicts].mean()), float(correct[conflicts].mean())
    return {"agree": agree, "conflict": conflict, "worst": min(agree, conflict)}


def _unit(setting: Setting) -> tuple[Any, ...]:
    return setting.cause, setting.agreement, setting.seed
