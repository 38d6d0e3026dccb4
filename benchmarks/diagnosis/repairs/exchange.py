"""Repair by exchange of the cue: each epoch draws anew which images lose it and which get another image's."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from benchmarks.diagnosis.repairs.base import FineTune, Need, RepairTask, repairs


@repairs.register("exchange")
class ExchangeCue(FineTune):
    """Fine-tuning on images whose cues are exchanged, so that they no longer go with the label.

    See `benchmarks.diagnosis.repairs.support.cue_exchange` for how many are changed, and how.

    Fields:
        share: of the images that is changed; None for the least that suffices.
    """

    title: ClassVar[str] = "exchange of the cue"
    source: ClassVar[str] = "counterfactual augmentation; A-ClArC at the input (Anders et al. 2022)"
    needs: ClassVar[tuple[Need, ...]] = ("region",)

    share: float | None = Field(None, gt=0, le=1)

    def apply(self, task: RepairTask) -> dict[str, Any]:
        """Fine-tune the network; see the class."""
        edit = task.exchange(self.share)
        facts = self.train(task, edit)
        return {"share of changed images": round(edit.plan.share, 3), "donors": len(task.donors), **facts}
