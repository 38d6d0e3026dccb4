"""Repair by exchange of the cue, with the network's own answers to the images without it kept.

Every image has one target, with whatever cue it is shown:

    t = (1 - keep) * one hot label + keep * p_before(image without the cue)

p_before is the answer of the network before the repair, to the image with its own cue in-painted. So nothing but the
cue's influence is asked to change, and labels that the network has learned by heart are not learned further. The
weights are averaged over the later half of the epochs.

Sources: distillation (Hinton et al., arXiv 1503.02531); averaged weights (Izmailov et al., arXiv 1803.05407).

Limit: answers that were wrong without the cue are kept, as far as `keep` says.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import Field
from torch import Tensor, nn

from benchmarks.diagnosis.repairs.base import FineTune, Need, RepairTask, repairs
from benchmarks.diagnosis.repairs.support.edited_images import CueRemoval, EditedImages
from interp_core.datasets import Images
from interp_core.training import fit
from interp_core.training.callbacks import Epoch
from interp_core.training.evaluate import sum_losses


class SoftTargets(nn.Module):
    """A network that is trained on probabilities as targets.

    Args:
        network: from images to logits.
        single: whether classes exclude each other; else each has its own sigmoid.
    """

    def __init__(self, network: nn.Module, *, single: bool) -> None:
        super().__init__()
        self.network, self.single = network, single

    def forward(self, images: Tensor) -> Tensor:
        """Return the logits of the network."""
        return self.network(images)

    def losses(self, images: Tensor, targets: Tensor, regions: Mapping[str, Tensor]) -> dict[str, Tensor]:  # noqa: ARG002
        """Compute the cross-entropy of target probabilities (N, K)."""
        logits = self(images)
        if self.single:
            return {"cross_entropy": F.cross_entropy(logits, targets)}
        return {"cross_entropy": F.binary_cross_entropy_with_logits(logits, targets)}


@repairs.register("distil")
class Distil(FineTune):
    """Fine-tuning on exchanged cues towards labels and the answers without the cue.

    Fields:
        keep: weight of the network's answers in the targets, in [0, 1); the rest is that of the labels.
        share: of the images that is changed; None for the least that suffices.
    """

    title: ClassVar[str] = "exchange of the cue, answers kept"
    source: ClassVar[str] = "counterfactual augmentation with distillation (Hinton et al. 2015)"
    needs: ClassVar[tuple[Need, ...]] = ("region",)

    keep: float = Field(0.5, ge=0, lt=1)
    share: float | None = Field(0.9, gt=0, le=1)

    def apply(self, task: RepairTask) -> dict[str, Any]:
        """Fine-tune the network; see the class."""
        edit = task.exchange(self.share)
        assert task.cues is not None
        assert task.validation_cues is not None
        lap, single = task.subject.lap, task.subject.lap.num_classes > 1 and not task.subject.multi_label
        targets = self._targets(task, task.images, CueRemoval(task.cues))
        validation_images = EditedImages(
            task.subject, task.validation, task.validation_edit, seed=task.seed, fresh=False
        )
        validation = validation_images, self._targets(task, task.validation, CueRemoval(task.validation_cues))
        wrapper, average = SoftTargets(lap, single=single), WeightAverage(lap)

        def after_epoch(epoch: Epoch) -> None:
            if epoch.epoch > self.epochs // 2:
                average.add(lap)
            if task.report:
                task.report(epoch.epoch, self.epochs)

        history = fit(
            wrapper, self.training_images(task, edit), targets,
            recipe=self._recipe(task), validation=validation, progress=after_epoch,
        )  # fmt: skip
        losses = [float(epoch.val_loss) for epoch in history if epoch.val_loss is not None]
        average.write(lap)
        return {
            "share of changed images": round(edit.plan.share, 3),
            "donors": len(task.donors),
            "epochs": len(history),
            "validation losses": losses,
            "validation loss, averaged weights": mean_loss(wrapper, *validation),
        }

    def _targets(self, task: RepairTask, images: Images, removal: CueRemoval) -> Tensor:
        """Return targets (N, K) of images from their labels and the answers without the cue."""
        subject = task.subject
        outputs = subject.lap.num_classes
        labels = torch.from_numpy(images.targets)
        hard = labels.float() if labels.ndim == 2 else F.one_hot(labels.long(), max(2, outputs)).float()
        targets = hard.clone()
        source = EditedImages(subject, images, removal)
        for rows, pixels in source.edited(list(torch.arange(len(images)).split(64))):
            targets[rows] = (1 - self.keep) * hard[rows] + self.keep * subject.predict(pixels)
        return targets[:, -outputs:]  # one logit is that of the last class


class WeightAverage:
    """Mean of the weights of a network after its later epochs.

    Args:
        network: before training.
    """

    def __init__(self, network: nn.Module) -> None:
        self.count = 0
        self.weights = {name: value.detach().clone() for name, value in network.named_parameters()}

    def add(self, network: nn.Module) -> None:
        """Add the present weights."""
        self.count += 1
        for name, value in network.named_parameters():
            self.weights[name].lerp_(value.detach(), 1 / self.count)

    def write(self, network: nn.Module) -> None:
        """Give the network the mean weights."""
        network.load_state_dict({**network.state_dict(), **self.weights})


def mean_loss(model: nn.Module, images: EditedImages, targets: Tensor) -> float:
    """Compute the mean loss of images that can be read."""
    total, count = sum_losses(model, images, targets, (), list(torch.arange(len(targets)).split(64)))
    return total / max(1, count)
