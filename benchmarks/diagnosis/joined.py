"""Join findings that are one cause in several forms, such as a tag for each class, so that one repair mends all."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from benchmarks.diagnosis.finding import Finding
from benchmarks.diagnosis.region import UnionRegion, add_region, load_region
from benchmarks.store.provenance import digest
from interp_core.errors import ContractError


def join_findings(findings: Sequence[Finding], folder: Path) -> Finding:
    """Return one finding whose region is the union of those of several; the region is added to `folder`.

    Args:
        findings: of one diagnosis; those without a region are left out.
        folder: of the diagnosis.

    Raises:
        ContractError: none of them has a region.
    """
    located = [finding for finding in findings if finding.region is not None]
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
