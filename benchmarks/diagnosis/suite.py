"""Run all checks on one network and one split, confirm what they suspect by intervention, and rank the findings."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

import benchmarks.diagnosis.checks  # noqa: F401  (registers the checks)
from benchmarks.diagnosis.check import Check, CheckResult, Context, Suspect, checks
from benchmarks.diagnosis.evidence import Evidence, collect_evidence
from benchmarks.diagnosis.finding import CheckReport, Diagnosis, Finding, Severity, Verdict
from benchmarks.diagnosis.intervention import (
    IMAGES,
    LEAST,
    Outcome,
    adjust,
    deciding,
    intervene_on_region,
    is_cause,
    none_if_nan,
    shift_property,
)
from benchmarks.diagnosis.ladder import climb
from benchmarks.diagnosis.output.pictures import draw_examples, draw_outcomes, save_picture
from benchmarks.diagnosis.processes import ALONE, Processes
from benchmarks.diagnosis.proposals import propose_terms
from benchmarks.diagnosis.region import save_regions
from benchmarks.diagnosis.subject import Subject
from benchmarks.store.provenance import digest, provenance
from interp_core.datasets import Images
from interp_core.errors import ContractError, one_line

Report = Callable[[str, int, int], None]
SUSPECTS = 32  # that interventions are spent on
IDS = 200  # of a finding that are written
NEVER_CONFIRMED = frozenset({"labels", "duplicates", "overlap", "metadata"})  # facts about data, not causes


@dataclass(frozen=True)
class Named:
    """A suspect with the check that named it, and what interventions say."""

    check: str
    suspect: Suspect
    outcomes: tuple[Outcome, ...] = ()
    p_holm: tuple[float, ...] = field(default=())


def diagnose(
    subject: Subject,
    images: Images,
    folder: Path,
    *,
    metadata: Mapping[str, np.ndarray] | None = None,
    others: Mapping[str, tuple[list[str], np.ndarray]] | None = None,
    names: Sequence[str] | None = None,
    network: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    seed: int = 0,
    report: Report | None = None,
    processes: Processes = ALONE,
) -> Diagnosis:
    """Diagnose a network on one split.

    Args:
        subject: the network.
        images: the split.
        folder: for shards of evidence, regions and pictures.
        metadata: columns by name, one value for each image of the split, in its order.
        others: ids and hashes of other splits by name, to find duplicates.
        names: checks to run; None for all.
        network: description of the network, part of the result and of the name of the shards.
        data: description of the data, likewise.
        seed: of samples and permutations.
        report: called with what is done, the number done, and the number of all.
        processes: that explain images together; the others call `share_evidence`.

    Raises:
        ContractError: no image can be read.
        UnknownNameError: there is no check of a name.
    """
    begin = time.perf_counter()
    chosen = {name: checks[name]() for name in (checks if names is None else names)}
    evidence = share_evidence(
        subject, images, folder, network=network, data=data, processes=processes,
        report=_report_for(report, "images explained"),
    )  # fmt: skip
    evidence = with_metadata(evidence, metadata)
    context = Context(subject, images, seed, dict(others or {}))
    results, seconds = run_checks(chosen, evidence, context, report)
    suspects = choose_suspects(results)
    confirmed = confirm(suspects, evidence, context, report)
    made = [(named, make_finding(named, evidence)) for named in confirmed]
    made = [pair for pair in made if is_reported(*pair, made)]
    findings = rank([finding for _, finding in made])
    ordered = [made[i][0] for i, _ in findings]
    regions = {f.key: n.suspect.region for (_, f), n in zip(findings, ordered, strict=True) if n.suspect.region}
    save_regions(folder, regions)
    pictured = tuple(
        _with_pictures(finding, named, evidence, context, folder)
        for (_, finding), named in zip(findings, ordered, strict=True)
    )
    return Diagnosis(
        network=dict(network or {}),
        data={"images": len(evidence), **(data or {})},
        classes=evidence.classes,
        explainer=subject.explainer.name,
        accuracy=float(evidence.correct.mean()) if evidence.has_labels else None,
        unreadable=evidence.unreadable,
        findings=pictured,
        checks=tuple(_check_report(name, chosen[name], results[name], seconds[name], folder) for name in chosen),
        provenance={**provenance(seed=seed), "seconds": round(time.perf_counter() - begin, 1)},
    )


def share_evidence(
    subject: Subject,
    images: Images,
    folder: Path,
    *,
    network: Mapping[str, Any] | None = None,
    data: Mapping[str, Any] | None = None,
    processes: Processes = ALONE,
    report: Callable[[int, int], None] | None = None,
) -> Evidence:
    """Explain this process's share of the images, wait for the others, and return the evidence of all.

    Args:
        subject: the network.
        images: the split.
        folder: as of `diagnose`, like `network` and `data`.
        network: description of the network.
        data: description of the data.
        processes: that explain images together.
        report: called with the number of images done and of all of this process.

    Raises:
        ContractError: no image can be read.
    """
    return collect_evidence(
        subject, images, folder / "evidence", identity=[network, data], report=report, processes=processes
    )


def with_metadata(evidence: Evidence, metadata: Mapping[str, np.ndarray] | None) -> Evidence:
    """Add columns of a split, in its order, for the images that could be read.

    Raises:
        ContractError: a column has the wrong length.
    """
    from dataclasses import replace

    columns = {name: np.asarray(values) for name, values in (metadata or {}).items()}
    least = int(evidence.rows.max()) + 1
    short = next((name for name, values in columns.items() if len(values) < least), None)
    if short is not None:
        raise ContractError(f"metadata column {short!r} has {len(columns[short])} values for at least {least} images")
    return replace(evidence, metadata={name: values[evidence.rows] for name, values in columns.items()})


def run_checks(
    chosen: Mapping[str, Check], evidence: Evidence, context: Context, report: Report | None = None
) -> tuple[dict[str, CheckResult], dict[str, float]]:
    """Run checks; one that fails is reported as not run and stops nothing.

    Returns:
        Results and seconds by name.
    """
    results, seconds = {}, {}
    for number, (name, check) in enumerate(chosen.items()):
        if report is not None:
            report(f"check {name}", number, len(chosen))
        begin = time.perf_counter()
        reason = check.missing(evidence, context)
        try:
            results[name] = CheckResult("", reason=reason) if reason else check.run(evidence, context)
        except Exception as error:
            reason = f"it stopped with {type(error).__name__}: {one_line(error, limit=200)}"
            results[name] = CheckResult("", reason=reason)
        seconds[name] = round(time.perf_counter() - begin, 2)
    return results, seconds


def choose_suspects(results: Mapping[str, CheckResult], most: int = SUSPECTS) -> list[Named]:
    """Choose the suspects to examine: first of every check, then second of every check, and so on.

    Parts of known objects are left out.
    """
    queues = [
        [Named(name, suspect) for suspect in result.suspects if not suspect.is_legitimate]
        for name, result in results.items()
    ]
    longest = max((len(queue) for queue in queues), default=0)
    in_turn = [queue[i] for i in range(longest) for queue in queues if i < len(queue)]
    return in_turn[:most]


def confirm(
    suspects: Sequence[Named], evidence: Evidence, context: Context, report: Report | None = None
) -> list[Named]:
    """Intervene on all suspects, and adjust the p values of all interventions together."""
    examined = []
    for number, named in enumerate(suspects):
        if report is not None:
            report(f"intervening on {named.suspect.key}", number, len(suspects))
        examined.append((named, intervene(named, evidence, context)))
    flat = [outcome for _, outcomes in examined for outcome in outcomes]
    adjusted = iter(adjust(flat)) if flat else iter(())
    return [
        Named(named.check, named.suspect, tuple(outcomes), tuple(float(next(adjusted)) for _ in outcomes))
        for named, outcomes in examined
    ]


def intervene(named: Named, evidence: Evidence, context: Context) -> list[Outcome]:
    """Run the interventions that a suspect allows."""
    suspect = named.suspect
    if named.check in NEVER_CONFIRMED or not suspect.classes or (suspect.region is None and suspect.edit is None):
        return []
    cls = suspect.classes[0]
    receivers = np.flatnonzero(evidence.answers != cls)
    receivers = evidence.rows[context.generator.permutation(receivers)]
    if suspect.region is None:
        assert suspect.edit is not None
        return shift_property(context.subject, context.images, suspect.edit, suspect.amount, cls, receivers)
    holders = suspect.members[evidence.answers[suspect.members] == cls]
    rows = evidence.rows[holders][: 2 * IMAGES]
    if len(rows) < LEAST:
        return []
    return intervene_on_region(context.subject, context.images, suspect.region, cls, rows, receivers)


def make_finding(named: Named, evidence: Evidence) -> Finding:
    """Turn an examined suspect into a finding; its number is set by `rank`."""
    suspect = named.suspect
    effects = tuple(
        outcome.effect(evidence.classes, p) for outcome, p in zip(named.outcomes, named.p_holm, strict=True)
    )
    causes = [effect for effect in deciding(effects) if is_cause(effect)]
    verdict = Verdict.cause if causes else Verdict.bystander if effects else Verdict.unconfirmed
    ladder, costs = climb(suspect, effects, verdict, evidence)
    severity = Severity.low
    if verdict is Verdict.cause:
        severity = Severity.high if costs else Severity.medium
    return Finding(
        number=1,
        key=f"{named.check}-{digest(named.check, suspect.key, suspect.classes)[:8]}",
        check=named.check,
        title=suspect.title,
        classes=tuple(evidence.classes[i] for i in suspect.classes),
        images=tuple(evidence.ids[i] for i in suspect.members[:IDS]),
        region=None,
        property=suspect.property,
        value=none_if_nan(suspect.value),
        null=suspect.null,
        p=suspect.p,
        effects=effects,
        verdict=verdict,
        severity=severity,
        ladder=ladder,
        terms=propose_terms(named.check, suspect, verdict),
        details=suspect.details,
    )


def is_reported(named: Named, finding: Finding, made: Sequence[tuple[Named, Finding]]) -> bool:
    """Return whether a finding is worth a reader's time.

    Screening reports only causes of classes for which nothing else was confirmed.
    """
    if not named.suspect.is_screening:
        return True
    explained = {
        cls for other, f in made if f.verdict is Verdict.cause and not other.suspect.is_screening for cls in f.classes
    }
    return finding.verdict is Verdict.cause and not explained & set(finding.classes)


def rank(findings: Sequence[Finding]) -> list[tuple[int, Finding]]:
    """Number findings: causes with the strongest effect first, then by p.

    Returns:
        Pairs of the position before and the numbered finding.
    """
    order = sorted(range(len(findings)), key=lambda i: _rank_key(findings[i]))
    return [(i, findings[i].model_copy(update={"number": n + 1})) for n, i in enumerate(order)]


def _rank_key(finding: Finding) -> tuple[float, ...]:
    verdicts = {Verdict.cause: 0, Verdict.unconfirmed: 1, Verdict.bystander: 2}
    strength = max((abs(e.difference.value) for e in deciding(finding.effects) if is_cause(e)), default=0.0)
    strength *= 1 - float(finding.details.get("area", 0.0))  # of two causes as strong the smaller region says more
    return verdicts[finding.verdict], -strength, 1.0 if finding.p is None else finding.p


def _with_pictures(finding: Finding, named: Named, evidence: Evidence, context: Context, folder: Path) -> Finding:
    pictures = []
    examples = draw_examples(named.suspect, evidence, context)
    if examples is not None:
        pictures.append(save_picture(examples, folder, f"{finding.key}-examples"))
    if named.outcomes:
        changes = draw_outcomes(named.outcomes, evidence.classes)
        pictures.append(save_picture(changes, folder, f"{finding.key}-interventions"))
    region = finding.key if named.suspect.region is not None else None
    return finding.model_copy(update={"pictures": tuple(pictures), "region": region})


def _check_report(name: str, check: Check, result: CheckResult, seconds: float, folder: Path) -> CheckReport:
    picture = save_picture(result.picture, folder, f"check-{name}") if result.picture is not None else None
    return CheckReport(
        name=name,
        title=check.title or name,
        status=result.status,
        sentence=result.reason if result.reason is not None else result.sentence,
        value=result.value,
        null=result.null,
        p=result.p,
        conditions=result.conditions,
        picture=picture,
        seconds=seconds,
    )


def _report_for(report: Report | None, name: str) -> Callable[[int, int], None] | None:
    return None if report is None else lambda done, total: report(name, done, total)
