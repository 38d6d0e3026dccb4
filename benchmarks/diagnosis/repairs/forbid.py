"""Repair by knowledge terms: no evidence on the cue, and the decision stays when the cue is exchanged."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field

from benchmarks.diagnosis.repairs.base import FineTune, Need, RepairTask, repairs
from interp_core.knowledge import Exchange, Forbid

CUE = "cue"


@repairs.register("forbid")
class ForbidCue(FineTune):
    """Fine-tuning with the terms `Forbid` and `Exchange` on the cue.

    Fields:
        weight: of `Forbid`.
        exchange: weight of `Exchange`; with 0 the map alone is constrained, which a network can obey and still decide
            by the cue.
    """

    title: ClassVar[str] = "evidence on the cue forbidden"
    source: ClassVar[str] = "interp_core.knowledge: Forbid, Exchange"
    needs: ClassVar[tuple[Need, ...]] = ("region",)

    weight: float = Field(1.0, ge=0)
    exchange: float = Field(1.0, ge=0)

    def apply(self, task: RepairTask) -> dict[str, Any]:
        """Fine-tune the network; see the class."""
        rows = np.flatnonzero(task.present_cues.present)
        masks = task.present_cues.masks_of(rows)
        terms = [Forbid(weight=self.weight, region=CUE), Exchange(weight=self.exchange, region=CUE)]
        facts = self.train(
            task, terms=[term for term in terms if term.weight], regions={CUE: (torch.from_numpy(rows), masks)}
        )
        return {"masks": len(rows), **facts}
