"""The ladder of a finding: seen in the data, seen in the maps, confirmed by intervention, costs accuracy."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from benchmarks.diagnosis.check import Suspect
from benchmarks.diagnosis.evidence import Evidence
from benchmarks.diagnosis.finding import Effect, Rung, Verdict
from benchmarks.diagnosis.intervention import deciding, is_cause

FLIPS = 0.1  # share of right answers that a cause turns wrong, above which it costs accuracy


def climb(
    suspect: Suspect, effects: Sequence[Effect], verdict: Verdict, evidence: Evidence
) -> tuple[tuple[Rung, ...], bool]:
    """Return the four rungs of a suspect, and whether it costs accuracy."""
    data, maps = suspect.grounds
    costs, grounds = _costs(suspect, effects, evidence)
    return (
        Rung(name="seen in the data", reached=suspect.in_data, grounds=data),
        Rung(name="seen in the maps", reached=suspect.in_maps, grounds=maps),
        Rung(
            name="confirmed by intervention",
            reached=None if verdict is Verdict.unconfirmed else verdict is Verdict.cause,
            grounds=_describe(effects),
        ),
        Rung(name="costs accuracy", reached=costs, grounds=grounds),
    ), bool(costs)


def _describe(effects: Sequence[Effect]) -> str:
    """Describe the strongest effect in a sentence."""
    if not effects:
        return "no intervention was possible"
    effect = max(deciding(effects), key=lambda effect: (is_cause(effect), abs(effect.difference.value)))
    difference = effect.difference
    interval = "" if difference.low is None else f" [{difference.low:+.2f}, {difference.high:+.2f}]"
    return (
        f"{effect.action}: P({effect.cls}) {effect.change.value:+.2f}, control {effect.control_change.value:+.2f}, "
        f"difference {difference.value:+.2f}{interval}, n {difference.n}, answers changed {effect.flips.value:.0%} "
        f"(control {effect.control_flips.value:.0%})"
    )


def _costs(suspect: Suspect, effects: Sequence[Effect], evidence: Evidence) -> tuple[bool | None, str]:
    """Return whether a suspect makes answers wrong, on images that have it or that are given it."""
    if not evidence.has_labels:
        return None, "there are no labels"
    added = [effect for effect in effects if effect.action != "remove" and is_cause(effect)]
    if added:
        effect = max(added, key=lambda effect: effect.flips.value - effect.control_flips.value)
        excess = effect.flips.value - effect.control_flips.value
        return excess >= FLIPS, f"it changes {excess:.0%} more answers of images that it is given than the control"
    members = suspect.members
    if not len(members):
        return None, "no image shows it"
    wrong, base = float(np.mean(~evidence.correct[members])), float(np.mean(~evidence.correct))
    return wrong > base + FLIPS, f"{wrong:.0%} of the answers to its images are wrong, {base:.0%} of all"
