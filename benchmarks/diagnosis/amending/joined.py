"""Join findings that are one cause in several forms, such as a tag for each class, so that one repair mends all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks.diagnosis.finding import Finding
from benchmarks.diagnosis.region import UnionRegion, add_region, load_region
from benchmarks.store.provenance import digest
from interp_core.errors import ContractError

LARGE = 2.0  # times the median area of the regions, above which one is left out


def join_findings(findings: Sequence[Finding], folder: Path) -> Finding:
    """Return one finding whose region is the union of those of several; the region is added to `folder`.

    Of each class the smallest region counts, and regions over twice their median area are left out: a border that holds
    a tag would take much of the object with it.

    Args:
        findings: of one diagnosis; those without a region are left out.
        folder: of the diagnosis.

    Raises:
        ContractError: none of them has a region.
    """
    located = _most_specific([finding for finding in findings if finding.region is not None])
    if not located:
        raise ContractError("none of the findings has a region, so there is nothing to join: repair them one by one")
    if len(located) == 1:
        return located[0]
    region = UnionRegion(tuple(load_region(folder, str(finding.region)) for finding in located))
    key = f"joined-{digest(*(finding.key for finding in located))[:8]}"
    add_region(folder, key, region)
    first = located[0]
    return first.model_copy(
        update={
            "key": key,
            "region": key,
            "title": f"{len(located)} findings together: {first.title}, and others",
            "classes": tuple(dict.fromkeys(name for finding in located for name in finding.classes)),
            "images": tuple(dict.fromkeys(name for finding in located for name in finding.images)),
        }
    )


def _most_specific(findings: Sequence[Finding]) -> list[Finding]:
    """Return the finding with the smallest region of each class, without those that are much larger than the others."""
    smallest: dict[tuple[str, ...], Finding] = {}
    for finding in sorted(findings, key=area_of):
        smallest.setdefault(finding.classes, finding)
    chosen = sorted(smallest.values(), key=lambda finding: finding.number)
    limit = LARGE * float(np.median([area_of(finding) for finding in chosen])) if chosen else 0.0
    return [finding for finding in chosen if area_of(finding) <= limit]


def area_of(finding: Finding) -> float:
    """Return the share of the image that the region of a finding covers; 0 where it is not known."""
    return float(finding.details.get("area", 0.0))
