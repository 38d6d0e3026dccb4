"""Answers of a network to images, and how many of them the upper part of a map keeps."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.explaining.images import FileSource
from interp_core.lap.model import LapModel
from interp_core.training import eval_batch_size

KEPT_SHARE = 0.25  # of the pixels of an image
# Called with a phase, the number of its steps done and of all.
Report = Callable[[str, int, int], None]


@torch.no_grad()
def predict_answers(lap: LapModel, source: FileSource, report: Report) -> tuple[Tensor, Tensor]:
    """Return the indices (n,) of the images that can be read, and the network's targets for `fit`, (n,) or (n, 1)."""
    device = next(lap.parameters()).device
    rows, logits = [torch.empty(0, dtype=torch.int64)], [torch.empty(0, lap.num_classes)]
    parts = torch.split(torch.arange(len(source)), eval_batch_size(source.shape))
    for indices, images in source.batches(parts):
        if len(images):
            rows.append(indices)
            logits.append(lap(images.to(device)).float().cpu())
            report("answers", int(indices[-1]) + 1, len(source))
    outputs = torch.cat(logits)
    # One logit is a class of its own, with a sigmoid: present or not.
    return torch.cat(rows), (outputs > 0).float() if lap.num_classes == 1 else outputs.argmax(1)


@dataclass(frozen=True)
class Agreement:
    """Answers to images and to the upper parts of their maps.

    Attributes:
        answers: (n,) to the images.
        agreement: share with the same answer to the upper part alone.
    """

    answers: Tensor
    agreement: float


@torch.no_grad()
def measure_agreement(lap: LapModel, source: FileSource) -> Agreement:
    """Measure how often the pixels that the map ranks highest keep the answer, all others in the mean colour."""
    device = next(lap.parameters()).device
    answers, agree = [], []
    for _, images in source.batches(torch.split(torch.arange(len(source)), eval_batch_size(source.shape))):
        if len(images):
            pixels = images.to(device)
            explanation = lap.explain(pixels)
            kept = lap(pixels * upper_part(explanation.map, KEPT_SHARE))
            answers.append(_answers(explanation.logits).cpu())
            agree.append(_answers(kept).cpu() == answers[-1])
    if not answers:
        return Agreement(torch.empty(0), float("nan"))
    return Agreement(torch.cat(answers), float(torch.cat(agree).float().mean()))


def upper_part(maps: Tensor, share: float) -> Tensor:
    """Mark the highest share of pixels of each map (N, 1, H, W), 1.0 or 0.0.

    >>> upper_part(torch.tensor([[[[1.0, 4.0], [3.0, 2.0]]]]), 0.5).tolist()
    [[[[0.0, 1.0], [1.0, 0.0]]]]
    """
    flat = maps.flatten(1)
    count = max(1, round(share * flat.shape[1]))
    level = flat.topk(count, dim=1).values[:, -1]
    return (maps >= level[:, None, None, None]).to(maps.dtype)


def _answers(logits: Tensor) -> Tensor:
    return (logits[:, 0] > 0).long() if logits.shape[1] == 1 else logits.argmax(1)
