"""Propose knowledge terms for a finding, as `amend` and a training configuration take them."""

from __future__ import annotations

from typing import Any

from benchmarks.diagnosis.check import Suspect
from benchmarks.diagnosis.finding import Verdict


def propose_terms(check: str, suspect: Suspect, verdict: Verdict) -> tuple[dict[str, Any], ...]:
    """Return terms, each with its name and fields; none for what training cannot mend.

    A region that is a cause is exchanged, so that it says nothing, and its evidence is forbidden. Evidence outside the
    object asks for a few boxes.
    """
    if suspect.is_legitimate or verdict is Verdict.bystander:
        return ()
    if suspect.region is not None:
        return ({"name": "exchange", "region": "finding"}, {"name": "forbid", "region": "finding"})
    if check == "outside":
        return ({"name": "region", "region": "object"},)
    return ()
