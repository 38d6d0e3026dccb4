"""Repair by in-painting: the cue is removed from all training images that have it."""

from __future__ import annotations

from typing import Any, ClassVar

from benchmarks.diagnosis.repairs.base import FineTune, Need, RepairTask, repairs
from benchmarks.diagnosis.repairs.support.edited_images import CueRemoval


@repairs.register("inpaint")
class InpaintCue(FineTune):
    """Fine-tuning on images whose cue is in-painted from its surroundings.

    Limit: the network is not taught that the cue means nothing where it meets it. Where few images have the cue, few
    are changed.
    """

    title: ClassVar[str] = "in-painting of the cue"
    source: ClassVar[str] = "removal of the artefact from the training images"
    needs: ClassVar[tuple[Need, ...]] = ("region",)

    def apply(self, task: RepairTask) -> dict[str, Any]:
        """Fine-tune the network; see the class."""
        return self.train(task, CueRemoval(task.present_cues))
