"""Repair by shifts of a property of the whole image, so that it no longer goes with the label."""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from torch import Tensor

from benchmarks.diagnosis.check import Edit
from benchmarks.diagnosis.properties import NAMES, image_properties
from benchmarks.diagnosis.repairs.base import FineTune, Need, RepairTask, repairs
from benchmarks.diagnosis.repairs.support.cue_exchange import ExchangePlan, plan_exchange
from benchmarks.diagnosis.repairs.support.image_parts import slices
from interp_core.datasets import Images
from interp_core.errors import ContractError


@repairs.register("augment")
class ShiftProperty(FineTune):
    """Fine-tuning on images whose property takes the value of a random image of another class.

    The shares are those of an exchange of cues in which every image shows the cue of its class, see
    `benchmarks.diagnosis.repairs.support.cue_exchange`.

    Fields:
        share: of the images that is changed; None for the least that suffices.
    """

    title: ClassVar[str] = "random shifts of the property"
    source: ClassVar[str] = "augmentation along the property"
    needs: ClassVar[tuple[Need, ...]] = ("property",)

    share: float | None = Field(None, gt=0, le=1)

    def apply(self, task: RepairTask) -> dict[str, Any]:
        """Fine-tune the network; see the class."""
        edit = shift_of(task, self.share)
        facts = self.train(task, edit, validation_edit=shift_of(task, 1.0, validation=True))
        return {"property": task.finding.property, "share of changed images": round(edit.plan.share, 3), **facts}


class PropertyExchange:
    """Edit that gives images the property of images of other groups.

    Args:
        edit: moves the property.
        values: (n,) of the images that are changed.
        groups: (n,) int64 of these images.
        donor_values: (B,) whose values are given.
        donor_groups: (B,) int64.
        plan: how often.
    """

    def __init__(
        self,
        edit: Edit,
        values: np.ndarray,
        groups: np.ndarray,
        donor_values: np.ndarray,
        donor_groups: np.ndarray,
        plan: ExchangePlan,
    ) -> None:
        self.edit, self.values, self.groups, self.plan = edit, values, groups, plan
        self._values_of_kind = [donor_values[donor_groups == kind] for kind in range(plan.table.shape[1] - 1)]
        self._table = torch.from_numpy(plan.table)

    def __call__(self, pixels: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Move the property of some images (n, 3, H, W) in [0, 1] with indices (n,)."""
        chosen = (torch.rand(len(rows), generator=generator) < self.plan.share).nonzero()[:, 0]
        if not len(chosen):
            return pixels
        positions = rows[chosen].numpy()
        kinds = torch.multinomial(self._table[self.groups[positions]], 1, generator=generator)[:, 0].tolist()
        targets = torch.tensor([self._draw_value(kind, generator) for kind in kinds])
        amounts = (targets - torch.from_numpy(self.values[positions])).to(pixels)
        return pixels.index_copy(0, chosen, self.edit.apply(pixels[chosen], amounts))

    def _draw_value(self, kind: int, generator: torch.Generator) -> float:
        values = self._values_of_kind[kind]
        return float(values[int(torch.randint(len(values), (), generator=generator))])


def shift_of(task: RepairTask, share: float | None, *, validation: bool = False) -> PropertyExchange:
    """Return the edit of training or validation images that exchanges the finding's property."""
    name, edit = task.finding.property, task.property_edit
    if name is None or edit is None:
        raise ContractError("the repair 'augment' needs a finding with a property that images can be changed in")
    values, groups = property_values(task.images, name), task.groups
    plan = plan_exchange(groups, np.ones(len(groups), bool), share=share)
    if not validation:
        return PropertyExchange(edit, values, groups, values, groups, plan)
    own_values, own_groups = property_values(task.validation, name), task.groups_of(task.validation)
    return PropertyExchange(edit, own_values, own_groups, values, groups, plan)


def property_values(images: Images, name: str) -> np.ndarray:
    """Compute a property (N,) of all images; NaN where an image cannot be read.

    Raises:
        ContractError: it is not a property of pixels.
    """
    if name not in NAMES:
        raise ContractError(f"{name!r} is not a property of pixels: choose a repair that needs none")
    values = np.full(len(images), np.nan, np.float32)
    for rows, batch in images.batches(slices(len(images))):
        values[rows] = image_properties(batch.images)[:, NAMES.index(name)]
    return values
