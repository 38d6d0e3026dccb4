"""Repair by a few boxes or masks of the object: evidence has to lie inside them."""

from __future__ import annotations

from typing import Any, ClassVar

from pydantic import Field

from benchmarks.diagnosis.repairs.base import FineTune, Need, RepairTask, repairs
from benchmarks.diagnosis.repairs.support.edited_images import PixelEdit, leave
from interp_core.errors import ContractError
from interp_core.knowledge import Region

OBJECT = "object"


@repairs.register("region")
class KeepToRegion(FineTune):
    """Fine-tuning with the term `Region` on the few images that have a box or mask.

    Fields:
        weight: of `Region`.
    """

    title: ClassVar[str] = "evidence kept inside boxes of the object"
    source: ClassVar[str] = "interp_core.knowledge: Region"
    needs: ClassVar[tuple[Need, ...]] = ("boxes",)

    weight: float = Field(1.0, gt=0)

    def apply(self, task: RepairTask) -> dict[str, Any]:
        """Fine-tune the network; see the class."""
        if task.boxes is None:
            raise ContractError("the repair 'region' needs boxes or masks of the object on some training images")
        edit: PixelEdit = leave if task.cues is None else task.exchange()
        facts = self.train(task, edit, [Region(weight=self.weight, region=OBJECT)], {OBJECT: task.boxes})
        return {"boxes": len(task.boxes[0]), **facts}
