"""The contract of a repair: it changes a copy of a network, so that a suspected cue no longer decides."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from benchmarks.diagnosis.check import Edit
from benchmarks.diagnosis.finding import Finding
from benchmarks.diagnosis.repairs.support.cue_exchange import CueExchange, plan_exchange
from benchmarks.diagnosis.repairs.support.cues import Cues, Donors, collect_donors, groups_of
from benchmarks.diagnosis.repairs.support.edited_images import EditedImages, PixelEdit, Turned, leave
from benchmarks.diagnosis.subject import Subject
from interp_core.datasets import Images
from interp_core.errors import ContractError
from interp_core.knowledge import Term
from interp_core.registry import ClassRegistry
from interp_core.training import Recipe, evaluate, fit

Need = Literal["region", "property", "boxes", "linear head"]
Boxes = tuple[Tensor, Tensor]
Report = Callable[[int, int], None]
SHIFT = 0.02  # of the longer side, largest random shift of training images


@dataclass(frozen=True)
class RepairTask:
    """What a repair may use.

    Attributes:
        subject: copy of the network, which is changed.
        finding: the suspected cause.
        images: labelled training images.
        validation: labelled images that choose the epoch.
        cues: masks of the finding's region on training images; None for a finding without a region.
        validation_cues: the same on validation images.
        property_edit: change of images that moves the finding's property, if there is one.
        boxes: indices of training images and masks (n, 1, H, W) of where the evidence should be, given by the user.
        seed: of all draws.
        report: called with the number of epochs done and of all.
    """

    subject: Subject
    finding: Finding
    images: Images
    validation: Images
    cues: Cues | None = None
    validation_cues: Cues | None = None
    property_edit: Edit | None = None
    boxes: Boxes | None = None
    seed: int = 0
    report: Report | None = None

    @property
    def followed(self) -> int:
        """The class whose answers the cue drives: the finding's first; the last one where it names none."""
        classes = self.subject.classes
        return classes.index(self.finding.classes[0]) if self.finding.classes else len(classes) - 1

    @cached_property
    def groups(self) -> np.ndarray:
        """Groups (N,) of the training images between which cues are exchanged."""
        return self.groups_of(self.images)

    def groups_of(self, images: Images) -> np.ndarray:
        """Return the groups (N,) of images between which cues are exchanged."""
        return groups_of(images.targets, self.followed)

    @cached_property
    def donors(self) -> Donors:
        """Training images whose cues are pasted."""
        return collect_donors(self.images, self.present_cues, self.groups, self.seed)

    @property
    def present_cues(self) -> Cues:
        """Cues of the training images.

        Raises:
            ContractError: the finding has no region.
        """
        if self.cues is None:
            raise ContractError(f"finding {self.finding.number} has no region: choose a repair that needs none")
        return self.cues

    def exchange(self, share: float | None = None) -> CueExchange:
        """Return the edit that exchanges cues of training images."""
        plan = plan_exchange(self.groups, self.present_cues.present, share=share)
        return CueExchange(self.present_cues, self.groups, self.donors, plan)

    @cached_property
    def validation_edit(self) -> PixelEdit:
        """The edit of validation images in which the cue says nothing about the label."""
        if self.cues is None or self.validation_cues is None:
            return leave
        groups = self.groups_of(self.validation)
        plan = plan_exchange(self.groups, self.cues.present, share=1.0)
        return CueExchange(self.validation_cues, groups, self.donors, plan)


def targets_for(subject: Subject, targets: np.ndarray) -> Tensor:
    """Return targets in the form that `fit` takes for this network: (N,) int64, or floating point (N, K)."""
    values = torch.from_numpy(targets)
    if subject.lap.num_classes == 1:
        return values.float()[:, None] if values.ndim == 1 else values.float()[:, -1:]
    return values.float() if values.ndim == 2 else values.long()


class Repair(BaseModel):
    """Base class of repairs. Subclasses write `apply`; their fields are their parameters.

    Class attributes:
        name: registered name.
        title: for people.
        source: paper of the method.
        needs: what the finding, the network or the user must provide.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    source: ClassVar[str] = ""
    needs: ClassVar[tuple[Need, ...]] = ()

    def apply(self, task: RepairTask) -> dict[str, Any]:
        """Change the network of a task in place, and return facts about it as plain data."""
        raise NotImplementedError(f"{type(self).__name__} must define apply")

    def missing(self, task: RepairTask) -> str | None:
        """Return what the task lacks for this repair, as a sentence; None if it has all."""
        present = {
            "region": (task.cues is not None, "the finding has no region"),
            "property": (task.property_edit is not None, "the finding has no property that images can be changed in"),
            "boxes": (task.boxes is not None, "no boxes or masks of the object are given"),
            "linear head": (task.subject.lap.info.linear_head, "the last layer does not follow the pooling directly"),
        }
        return next((why for need, (has, why) in present.items() if need in self.needs and not has), None)


repairs: ClassRegistry[Repair] = ClassRegistry("repair", "interp_bench.repairs")


class FineTune(Repair):
    """Base class of repairs that train the whole network, slowly, with fixed batch norms.

    Attention that is off stays off, so the network starts from the answers that it gave.

    Fields:
        epochs: passes over the training images; the best one by validation is kept.
        batch_size: images of a step.
        learning_rate: peak of the schedule.
        weight_decay: see `Recipe`.
        flip: whether images may be mirrored left to right, where that changes no label.
        turn: whether they may be mirrored and turned by quarter turns.
        relearn: whether batch norms learn too, for a network that has to learn the true feature first.
    """

    epochs: int = Field(5, ge=1)
    batch_size: int = Field(32, ge=2)
    learning_rate: float = Field(2e-4, gt=0)
    weight_decay: float = Field(0.01, ge=0)
    flip: bool = False
    turn: bool = False
    relearn: bool = False

    def train(
        self,
        task: RepairTask,
        edit: PixelEdit = leave,
        terms: Sequence[Term] = (),
        regions: dict[str, Boxes] | None = None,
        validation_edit: PixelEdit | None = None,
    ) -> dict[str, Any]:
        """Fine-tune the network on changed images, and keep the epoch that is best on validation images.

        Returns:
            The accuracy on validation images with exchanged cues, before and after, and the epoch that was kept.
        """
        subject = task.subject
        images = self.training_images(task, edit)
        change = validation_edit or task.validation_edit
        unbiased = EditedImages(subject, task.validation, change, seed=task.seed, fresh=False)
        targets = targets_for(subject, task.images.targets)
        validation = unbiased, targets_for(subject, task.validation.targets)
        before = evaluate(subject.lap, *validation)
        history = fit(
            subject.lap, images, targets, recipe=self._recipe(task), terms=terms, regions=regions or {},
            names=subject.classes, validation=validation,
            progress=lambda epoch: task.report(epoch.epoch, self.epochs) if task.report else None,
        )  # fmt: skip
        losses = np.array([np.nan if epoch.val_loss is None else epoch.val_loss for epoch in history])
        return {
            "epochs": len(history),
            "epoch kept": int(np.nanargmin(losses)) + 1 if np.isfinite(losses).any() else len(history),
            "validation accuracy with exchanged cues, before": before,
            "validation accuracy with exchanged cues, after": evaluate(subject.lap, *validation),
        }

    def training_images(self, task: RepairTask, edit: PixelEdit) -> EditedImages:
        """Return training images that are changed by an edit, and turned if that is allowed."""
        return EditedImages(task.subject, task.images, Turned(edit) if self.turn else edit, seed=task.seed)

    def _recipe(self, task: RepairTask) -> Recipe:
        lap = task.subject.lap
        return Recipe(
            mode="finetune",
            epochs=self.epochs,
            batch_size=max(2, min(self.batch_size, len(task.images))),
            learning_rate=self.learning_rate,
            backbone_rate=1.0,
            weight_decay=self.weight_decay,
            learn_gates=any(bool(block.a != 0) for block in lap.gates),
            start_a=None,
            patience=self.epochs,
            shift=round(SHIFT * max(task.images.shape[-2:])),
            flip=self.flip,
            fixed_norms=not self.relearn,
            seed=task.seed,
        )
