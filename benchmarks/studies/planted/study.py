"""Study: does a diagnosis find planted causes, and leave networks alone that have none?

Every network is small and trained from random weights on digits in scenes. Rows are written as they come.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from safetensors.torch import load_model, save_model
from torch import nn

from benchmarks.diagnosis.subject import Subject
from benchmarks.diagnosis.suite import diagnose
from benchmarks.store.provenance import write_provenance
from benchmarks.studies.planted.causes import CAUSES, Cause, Planted, Scope, measure_use
from benchmarks.studies.planted.finding_rivals import FINDING_RIVALS
from benchmarks.studies.planted.judge import Named, judge_finding, score
from benchmarks.studies.planted.report import write_report
from benchmarks.studies.planted.setting import (
    AGREEMENTS,
    COUNTS,
    RECIPE,
    SIDE,
    Setting,
    digits,
    settings_of,
    subject_of,
    train_network,
    untrained_network,
)
from benchmarks.studies.progress import track
from benchmarks.studies.resumable_table import ResumableTable

OUTPUT = Path("results/diagnosis")
KEYS = ("cause", "role", "agreement", "scope", "seed", "method")
Method = Callable[[Subject, Planted, Setting, Path], list[Named]]


def diagnose_planted(subject: Subject, planted: Planted, setting: Setting, folder: Path) -> list[Named]:
    """Run the whole diagnosis, and judge its findings."""
    diagnosis = diagnose(subject, planted.images, folder, seed=setting.seed)
    return [judge_finding(finding, folder, subject, planted, setting) for finding in diagnosis.findings]


METHODS: dict[str, Method] = {"diagnose": diagnose_planted, **FINDING_RIVALS}


def run(
    output: Path = OUTPUT,
    *,
    causes: Sequence[Cause] = CAUSES,
    agreements: Sequence[float] = AGREEMENTS,
    scopes: Sequence[Scope] = ("one", "all"),
    seeds: int = 1,
    controls: int = 20,
    offset: int = 0,
    methods: Mapping[str, Method] | None = None,
    work: Path | None = None,
) -> list[Path]:
    """Run the study, or continue it, and return the files it wrote.

    Args:
        output: folder of the tables.
        causes: kinds of causes.
        agreements: of planted cues with the label.
        scopes: of planted cues.
        seeds: networks of each planted setting.
        controls: networks of each kind of control.
        offset: added to all seeds, for networks that no setting was chosen on.
        methods: that look for the cause; None for all.
        work: folder of trained networks; None for none.
    """
    methods = METHODS if methods is None else methods
    settings = settings_of(tuple(causes), tuple(agreements), tuple(scopes), seeds, controls, offset)
    table = ResumableTable(output / "planted.csv", KEYS)
    units = [(*setting.unit, method) for setting in settings for method in methods]
    missing = set(table.missing(units))
    begin = time.perf_counter()
    for setting in track([s for s in settings if any((*s.unit, m) in missing for m in methods)], "networks"):
        subject = subject_of(trained_network(setting, work))
        for name, method in methods.items():
            if (*setting.unit, name) in missing:
                table.add(examine(setting, subject, name, method))
    facts = {
        "side": SIDE,
        "counts": COUNTS,
        "recipe": RECIPE,
        "offset": offset,
        "seconds": round(time.perf_counter() - begin),
    }
    provenance = write_provenance(output / "planted.json", facts, command="interp-bench study planted")
    return [table.path, provenance, *write_report(table.frame, output)]


def trained_network(setting: Setting, work: Path | None) -> nn.Module:
    """Train the network of a setting, or load it from `work`."""
    if work is None:
        return train_network(setting)
    path = work / ("-".join(str(part) for part in setting.unit) + ".safetensors")
    if not path.exists():
        work.mkdir(parents=True, exist_ok=True)
        network = train_network(setting)
        save_model(network, str(path))
        return network
    network = untrained_network(setting)
    load_model(network, str(path))
    return network.eval()


def examine(setting: Setting, subject: Subject, name: str, method: Method) -> dict[str, Any]:
    """Let one method look for the cause in a network, and return a row of the table."""
    planted = setting.images("val", diagnosed=True)
    begin = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        scores = score(method(subject, planted, setting, Path(folder)))
    seconds = round(time.perf_counter() - begin, 1)
    return {
        **dict(zip(KEYS, (*setting.unit, name), strict=True)),
        **scores,
        "seconds": seconds,
        "cls": setting.cls,
        **facts_of(subject, planted, setting),
    }


def facts_of(subject: Subject, planted: Planted, setting: Setting) -> dict[str, float]:
    """Return accuracies, and how much the network's answers follow the cause."""
    answers = subject.predict(planted.images.images).argmax(1).numpy()
    correct = answers == planted.truth
    conflicts = planted.conflicts
    use = float("nan")
    if setting.cause != "labels" and setting.role != "nothing":
        test = digits("test")

        def predict(images: np.ndarray) -> np.ndarray:
            return np.asarray(subject.predict(images).argmax(1))

        use = measure_use(predict, setting.cause, test, 10, setting.scope, setting.cls, setting.seed)
    return {
        "accuracy": float(correct.mean()),
        "accuracy_conflicts": float(correct[conflicts].mean()) if conflicts.any() else float("nan"),
        "use": use,
    }
