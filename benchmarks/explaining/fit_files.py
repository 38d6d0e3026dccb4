"""The folder of a fit: its network, its report, and what it was made of."""

from __future__ import annotations

import json
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from benchmarks.explaining.network import OpenNetwork, describe
from benchmarks.store.atomic import write_atomically
from benchmarks.store.provenance import provenance
from interp_core.errors import StoreError
from interp_core.lap.hub import DESCRIPTION, WEIGHTS

FACTS, CHECKPOINT, LOG = "fit.json", "fit.checkpoint", "log.csv"


@dataclass(frozen=True)
class FitReport:
    """What a fit did.

    Attributes:
        folder: of the fitted network.
        images: number of images it learned from.
        epochs: passes over them.
        seconds: time of the training.
        losses: loss of the order of pixels in the first and in the last epoch, in nats.
        agreement: share of held-out images with the same answer to the map's upper quarter alone, before and after.
        answers_kept: share of held-out images with the same answer as before the fit.
        unreadable: reasons by name of the images that were left out.
        was_done: whether the fit was complete before, so that nothing was computed.
    """

    folder: Path
    images: int
    epochs: int
    seconds: float
    losses: tuple[float, float]
    agreement: tuple[float, float]
    answers_kept: float
    unreadable: dict[str, str]
    was_done: bool = False


def read_report(folder: Path, identity: dict[str, str]) -> FitReport | None:
    """Return the report of a complete fit in a folder, None for a fit to begin or to go on with.

    Raises:
        StoreError: the folder holds a fit of something else.
    """
    path = folder / FACTS
    if not path.exists():
        if any((folder / name).exists() for name in (WEIGHTS, DESCRIPTION)):
            raise StoreError(f"{folder} holds a network that no fit wrote: give another --output")
        write_atomically(path, json.dumps({"identity": identity, "report": None}, indent=1) + "\n")
        return None
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        stored, report = content["identity"], content["report"]
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        raise StoreError(f"cannot read {path}: {error}; delete {folder} to start anew") from error
    changed = [name for name, value in identity.items() if stored.get(name) != value]
    if changed:
        raise StoreError(
            f"{folder} holds a fit with another {', '.join(changed)}: give another --output, or delete the folder"
        )
    if report is None:
        return None
    pairs = {name: tuple(report[name]) for name in ("losses", "agreement")}
    return FitReport(**{**report, **pairs, "folder": folder, "was_done": True})


def write_fit(opened: OpenNetwork, report: FitReport, folder: Path, identity: dict[str, str]) -> None:
    """Write the network, then the report, which marks the fit as complete, and delete the checkpoint."""
    facts = {key: value for key, value in asdict(report).items() if key not in ("folder", "was_done", "unreadable")}
    extra = {**describe(opened), "fit": facts}
    opened.lap.save_pretrained(folder, classes=list(opened.classes) or None, extra=extra)
    stored = {**facts, "unreadable": report.unreadable}
    content = {"identity": identity, "report": stored, "provenance": provenance(command="interp-bench fit")}
    write_atomically(folder / FACTS, json.dumps(content, indent=1) + "\n")
    for path in folder.glob(f"{CHECKPOINT}*"):  # with what killed processes left
        with suppress(OSError):
            path.unlink()
