"""Decide which explainers can explain a network."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from baselines import Explainer
from interp_core.errors import one_line


@dataclass(frozen=True)
class Applicability:
    """Whether an explainer can explain a network.

    Attributes:
        reason: why it cannot; None if it can.
        caveat: why its maps are doubtful on this network; None if they are not.
    """

    reason: str | None = None
    caveat: str | None = None

    @property
    def applies(self) -> bool:
        """Whether the network can be explained."""
        return self.reason is None


def applicability(explainer: Explainer, network: nn.Module) -> Applicability:
    """Ask an explainer whether it can explain a network; an error of its check counts as a reason against it."""
    try:
        reason = explainer.refusal(network)
        return Applicability(caveat=explainer.caveat(network)) if reason is None else Applicability(reason)
    except Exception as error:  # an explainer probes the network, and may raise anything
        return Applicability(one_line(error, with_type=True))
