"""index.html: one self-contained page of a diagnosis, readable on a phone and on a desktop, and in print.

It begins with the confirmed causes in one sentence each, then shows each finding with its ladder, interventions and
images, and last the checks. Findings can be ticked, and a button downloads the configuration for `interp-bench amend`.
The page loads nothing from outside: its content policy forbids that, and allows one script by its hash. Without the
script only the ticks are missing. All names pass through jinja2's escaping.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader

from benchmarks.diagnosis.finding import CheckReport, Diagnosis, Finding, Status, Verdict
from benchmarks.diagnosis.intervention import MINIMUM_EFFECT
from benchmarks.diagnosis.output import wording
from benchmarks.diagnosis.output.embed import embed_picture
from benchmarks.diagnosis.output.findings_file import FILE
from benchmarks.store.atomic import write_atomically

TEMPLATES = Path(__file__).parent / "templates"
PAGE = "index.html"
MOST_PICTURES = 12  # of a finding
PICTURED_CAUSES = 3  # in the summary
STATUS_KINDS = {Status.failed: "bad", Status.warned: "warn", Status.passed: "good", Status.not_run: ""}
VERDICT_KINDS = {Verdict.cause: "bad", Verdict.bystander: "good", Verdict.unconfirmed: "warn"}
RUNG_KINDS = {True: "yes", False: "no", None: ""}
ANCHORS = {
    Status.failed: "not-passed",
    Status.warned: "not-passed",
    Status.passed: "passed",
    Status.not_run: "not-run",
}
TILE_LABELS = {Status.failed: "failed", Status.warned: "warned", Status.passed: "passed", Status.not_run: "did not run"}


@dataclass(frozen=True)
class Picture:
    """A picture of the page.

    Attributes:
        name: file in the folder of the diagnosis.
        source: data URI; None if the file cannot be read.
        caption: text beneath.
        alt: text in its place.
        is_wide: whether it takes a row of its own, being more than twice as wide as high.
    """

    name: str
    source: str | None
    caption: str
    alt: str
    is_wide: bool


def write_page(diagnosis: Diagnosis, folder: Path) -> Path:
    """Write `index.html` beside `findings.json` and return its path.

    Args:
        diagnosis: what the page shows.
        folder: of the diagnosis, with its pictures.

    Raises:
        StoreError: the file cannot be written.
    """
    return write_atomically(folder / PAGE, render_page(diagnosis, folder))


def render_page(diagnosis: Diagnosis, folder: Path) -> str:
    """Render a diagnosis as HTML; see `write_page`."""
    environment = Environment(loader=FileSystemLoader(TEMPLATES), autoescape=True, trim_blocks=True, lstrip_blocks=True)
    environment.filters.update(
        number=wording.number, p_value=wording.p_value, change=wording.change_parts, share=wording.share_parts
    )
    return environment.get_template("page.html.j2").render(**context(diagnosis, folder)).lstrip() + "\n"


def context(diagnosis: Diagnosis, folder: Path) -> dict[str, Any]:
    """Collect everything that the template shows."""
    script = (TEMPLATES / "page.js").read_text(encoding="utf-8")
    return {
        "css": (TEMPLATES / "page.css").read_text(encoding="utf-8"),
        "script": script,
        "script_hash": base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "headline": wording.headline(diagnosis),
        "network": diagnosis.network.get("name", "network"),
        "facts": facts_of(diagnosis),
        "file": (folder / FILE).as_posix(),
        "causes": [_cause(finding, rank, folder) for rank, finding in enumerate(wording.confirmed(diagnosis.findings))],
        "tiles": _tiles(diagnosis),
        "unreadable": list(diagnosis.unreadable.items()),
        "findings": [_finding(finding, folder) for finding in diagnosis.findings],
        "checks": _checks(diagnosis, folder),
        "least": MINIMUM_EFFECT,
        "provenance": json.dumps(diagnosis.provenance, indent=1, ensure_ascii=False, default=str),
    }


def facts_of(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    """Return what a reader wants to know first, as names and values."""
    data, network = diagnosis.data, diagnosis.network
    images = data.get("images")
    facts = {
        "Network": network.get("name"),
        "Weights": network.get("file") and Path(str(network["file"])).name,
        "Data": " · ".join(str(data[name]) for name in ("name", "split") if data.get(name)),
        "Images": f"{images:,}" if isinstance(images, int) else images,
        "Classes": len(diagnosis.classes),
        "Accuracy": wording.percent(diagnosis.accuracy),
        "Maps by": diagnosis.explainer,
        "Seed": diagnosis.provenance.get("seed"),
    }
    return [(name, str(value)) for name, value in facts.items() if value not in (None, "")]


def amend_choice(finding: Finding) -> dict[str, Any]:
    """Return the entry of a finding in the amend configuration; see `amend_config`."""
    return {"finding": finding.number, "key": finding.key, "terms": list(finding.terms)}


def _cause(finding: Finding, rank: int, folder: Path) -> dict[str, Any]:
    """Return a line of the summary; the first few have their first picture."""
    names = finding.pictures[: rank < PICTURED_CAUSES]
    pictures = _pictures(names, folder, finding.title, finding.key)
    return {"finding": finding, "sentence": wording.cause_sentence(finding), "pictures": pictures}


def _tiles(diagnosis: Diagnosis) -> list[dict[str, Any]]:
    return [
        {"count": count, "label": TILE_LABELS[status], "kind": STATUS_KINDS[status], "anchor": ANCHORS[status]}
        for status, count in wording.count_statuses(diagnosis).items()
    ]


def _finding(finding: Finding, folder: Path) -> dict[str, Any]:
    rungs = [(rung, RUNG_KINDS[rung.reached], wording.MARKS[rung.reached]) for rung in finding.ladder]
    return {
        "finding": finding,
        "kind": VERDICT_KINDS[finding.verdict],
        "sentence": wording.cause_sentence(finding) if finding.effects else "",
        "ladder": [{"name": r.name, "grounds": r.grounds, "kind": kind, "mark": mark} for r, kind, mark in rungs],
        "pictures": _pictures(finding.pictures[:MOST_PICTURES], folder, finding.title, finding.key),
        "choice": json.dumps(amend_choice(finding), ensure_ascii=False),
    }


def _checks(diagnosis: Diagnosis, folder: Path) -> dict[str, list[dict[str, Any]]]:
    by_anchor: dict[str, list[dict[str, Any]]] = {"not_passed": [], "not_run": [], "passed": []}
    order = {status: rank for rank, status in enumerate(Status.__members__.values())}
    for report in sorted(diagnosis.checks, key=lambda report: -order[report.status]):
        by_anchor[ANCHORS[report.status].replace("-", "_")].append(_check(report, diagnosis, folder))
    return by_anchor


def _check(report: CheckReport, diagnosis: Diagnosis, folder: Path) -> dict[str, Any]:
    names = [report.picture] if report.picture else []
    return {
        "report": report,
        "kind": STATUS_KINDS[report.status],
        "findings": [finding for finding in diagnosis.findings if finding.check == report.name],
        "picture": next(iter(_pictures(names, folder, report.title, "check-")), None),
    }


def _pictures(names: Sequence[str], folder: Path, subject: str, prefix: str) -> list[Picture]:
    return [_picture(name, folder, subject, prefix) for name in names]


def _picture(name: str, folder: Path, subject: str, prefix: str) -> Picture:
    embedded = embed_picture(folder / name)
    source, is_wide = (None, False) if embedded is None else (embedded.uri, embedded.width > 2 * embedded.height)
    text = caption(name, prefix)
    return Picture(name, source, text, f"{text}: {subject}", is_wide)


def caption(name: str, prefix: str) -> str:
    """Turn a picture's name into a caption: "pictures/places-1a-examples.png" of "places-1a" gives "Examples"."""
    text = Path(name).stem.removeprefix(prefix)
    return re.sub(r"[-_]+", " ", text).strip().capitalize()
