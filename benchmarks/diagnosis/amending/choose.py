"""Choice of a repair by what the finding is and by what the last features say."""

from __future__ import annotations

from typing import NamedTuple

from benchmarks.diagnosis.amending.probe import ENOUGH, Probe
from benchmarks.diagnosis.finding import Finding
from benchmarks.diagnosis.repairs import Repair, repairs
from benchmarks.diagnosis.repairs.forbid import ForbidCue
from interp_core.errors import ContractError

LITTLE = 0.5  # share of the accuracy above chance that is left without the cue, below which features are learned anew
RELEARN = {"relearn": True, "epochs": 20}
LARGE = 0.4  # share of the image from which an in-painted region leaves too little


class Choice(NamedTuple):
    """A repair, and why it is chosen in one sentence."""

    repair: Repair
    reason: str


def choose_repair(finding: Finding, probe: Probe | None, has_boxes: bool) -> Choice:
    """Choose the repair of a finding.

    Args:
        finding: the suspected cause.
        probe: of the last layer; None where it was not possible.
        has_boxes: whether the user gives boxes or masks of the object.

    Raises:
        ContractError: the finding names nothing that a network could be kept from using.
    """
    if finding.region is None:
        return _without_region(finding, has_boxes)
    if probe is not None and probe.area > LARGE:
        return _large_region(probe, has_boxes)
    if probe is not None and probe.linear_head and probe.recovery >= ENOUGH:
        return Choice(
            repairs["last_layer"](),
            f"the last features tell the classes without the cue nearly as well as with it (balanced accuracy "
            f"{probe.exchanged:.2f} against {probe.original:.2f}), so a new last layer suffices",
        )
    if probe is not None and probe.exchanged is not None and probe.recovery < LITTLE:
        return Choice(repairs["exchange"](**RELEARN), _why_anew(probe))
    return Choice(repairs["exchange"](), _why_all_layers(probe))


def _without_region(finding: Finding, has_boxes: bool) -> Choice:
    if finding.property is not None:
        return Choice(
            repairs["augment"](),
            f"{finding.property} is a property of the whole image, so it is shifted at random until it says nothing "
            "about the label",
        )
    if has_boxes:
        return Choice(repairs["region"](), "the finding has no region, but boxes say where the evidence should be")
    raise ContractError(
        f"finding {finding.number} ({finding.check}) has neither a region nor a property, so there is nothing to keep "
        "the network from using: correct the data, or give boxes of the object"
    )


def _large_region(probe: Probe, has_boxes: bool) -> Choice:
    covered = f"the region covers {probe.area:.0%} of the image, too much to be in-painted"
    if has_boxes:
        return Choice(repairs["region"](), f"{covered}, and boxes say where the evidence should be")
    return Choice(ForbidCue(exchange=0.0), f"{covered}, so evidence in it is forbidden")


def _why_anew(probe: Probe) -> str:
    return (
        f"the last features hardly tell the classes once the cue says nothing (balanced accuracy {probe.exchanged:.2f} "
        f"against {probe.original:.2f} with it), so the network has to learn the true feature: longer, norms too"
    )


def _why_all_layers(probe: Probe | None) -> str:
    advice = "so the whole network is fine-tuned on images with exchanged cues"
    if probe is None or probe.exchanged is None or probe.original is None:
        return f"the last layer could not be probed, {advice}"
    if probe.recovery >= ENOUGH:
        return f"the last layer does not follow the pooling directly, {advice}"
    return (
        f"the last features tell the classes less well once the cue says nothing (balanced accuracy "
        f"{probe.exchanged:.2f} against {probe.original:.2f} with it), {advice}"
    )
