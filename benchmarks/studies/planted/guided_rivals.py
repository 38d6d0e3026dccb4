"""Repairs that train a network on with more knowledge than labels: masks in 1 % of the images, or groups.

Known limits: the weights of the penalties are the rivals' defaults, not tuned on these networks.
"""

from __future__ import annotations

import copy
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.diagnosis.subject import Subject
from benchmarks.rivals.base import build as build_rival
from benchmarks.studies.planted.causes import Planted
from benchmarks.studies.planted.setting import SIDE, Setting, normalise, subject_of
from benchmarks.studies.shortcut.arms import COPIES, FEW
from interp_core.lap.attach import detach
from interp_core.training import Recipe, fit

EPOCHS, RATE = 20, 4e-3  # the rate of the first training, and epochs enough to learn what it did not
STEP = 0.01  # of the weights of the groups


def fine_tune_recipe(seed: int) -> Recipe:
    """Return the recipe of all repairs that train on."""
    return Recipe(
        mode="finetune", epochs=EPOCHS, learning_rate=RATE, backbone_rate=1.0, batch_size=32, seed=seed,
        learn_gates=False, start_a=None, weight_decay=0.01, shift=1, fixed_norms=False,
    )  # fmt: skip


def guide_by_gradients(subject: Subject, train: Planted, _val: Planted, setting: Setting) -> Subject:
    """Train a copy on with RRR: the input gradient is kept small on the cue of a few images."""
    return _guide("rrr", {}, "irrelevant", train.masks, subject, train, setting)


def guide_by_energy(subject: Subject, train: Planted, _val: Planted, setting: Setting) -> Subject:
    """Train a copy on with the energy loss: CAM is kept inside the object of a few images."""
    return _guide("cam_energy", {}, "object", train.images.masks, subject, train, setting)


def _guide(
    rival: str, options: dict[str, Any], region: str, masks: np.ndarray, subject: Subject, train: Planted,
    setting: Setting,
) -> Subject:  # fmt: skip
    """Train a copy on as a rival that is told the region of a few images, which are shown several times an epoch."""
    backbone = detach(copy.deepcopy(subject.lap))
    network = build_rival(rival, backbone, {"image_size": SIDE, **options})
    with_mask = np.flatnonzero(masks.any((1, 2, 3)))
    count = min(len(with_mask), max(1, round(FEW * len(masks))))
    told = np.random.default_rng(setting.seed).choice(with_mask, count, replace=False)
    rows = np.concatenate([np.arange(len(masks)), np.tile(told, COPIES - 1)])
    places = np.concatenate([told, np.arange(len(masks), len(rows))])
    regions = {region: (torch.from_numpy(places), torch.from_numpy(masks[rows[places]]))}
    targets = torch.from_numpy(train.images.targets[rows])
    images = normalise(train.images.images[rows])
    fit(network, images, targets, recipe=fine_tune_recipe(setting.seed), regions=regions, progress=None)
    return subject_of(backbone.eval())


class WorstGroup(nn.Module):
    """A network with the loss of Group DRO: a weighted mean of the groups' losses, whose weights follow the losses.

    Targets are numbers of groups, 2 x class + whether the cue conflicts.
    """

    weights: Tensor

    def __init__(self, backbone: nn.Module, classes: int) -> None:
        super().__init__()
        self.backbone = backbone
        self.register_buffer("weights", torch.full((2 * classes,), 1 / (2 * classes)))

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits."""
        logits: Tensor = self.backbone(images)
        return logits

    def losses(self, images: Tensor, targets: Tensor, _regions: Any) -> dict[str, Tensor]:
        """Compute the weighted loss, and move the weights towards the groups with the highest."""
        errors = F.cross_entropy(self(images), targets // 2, reduction="none")
        counts = torch.bincount(targets, minlength=len(self.weights))
        means = torch.zeros_like(self.weights).index_add(0, targets, errors) / counts.clamp(min=1)
        if torch.is_grad_enabled():
            raised = self.weights * (STEP * means.detach()).exp()
            self.weights.copy_(raised / raised.sum())
        return {"worst_group": (self.weights.clone() * means).sum()}


def protect_groups(subject: Subject, train: Planted, _val: Planted, setting: Setting) -> Subject:
    """Train a copy on for the worst group."""
    backbone = detach(copy.deepcopy(subject.lap))
    network = WorstGroup(backbone, len(subject.classes))
    groups = torch.from_numpy(2 * train.images.targets + train.conflicts)
    fit(network, normalise(train.images.images), groups, recipe=fine_tune_recipe(setting.seed), progress=None)
    return subject_of(backbone.eval())
