"""Evaluate a trained arm: does it follow the tag, and does its map show that?

Shares are of the map's sum at input resolution. LAP is measured by the positive part of its map, or by the map of its
decoders where it has some, and by its positive contributions on the head's grid, a rival
that has a map by that map, and other networks by CAM. With this head CAM equals Grad-CAM up to a factor, which shares
do not depend on.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from benchmarks.rivals import Rival, build
from benchmarks.studies.shortcut.data import TaggedImages
from interp_core.backbone.geometry import resize
from interp_core.lap.model import LapModel
from interp_core.training import predict

BATCH = 128


def maps_of(network: nn.Module, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Compute maps (N, 1, H, W) >= 0 of `targets` (N,): "map", and for LAP also "contributions"."""
    batches = [_maps(network, *batch) for batch in zip(images.split(BATCH), targets.split(BATCH), strict=True)]
    return {name: torch.cat([maps[name] for maps in batches]) for name in batches[0]}


def _maps(network: nn.Module, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
    if isinstance(network, LapModel):
        explanation, info = network.explain(images, targets), network.info
        cells = explanation.head.contributions.clamp(min=0).float()
        height, width = images.shape[-2:]
        contributions = resize(cells, height, width, info.grid_of((height, width)))
        maps = explanation.map.clamp(min=0) if explanation.refined is None else explanation.refined
        return {"map": maps, "contributions": contributions}
    if isinstance(network, Rival) and network.explains_itself:
        return {"map": network.explain(images, targets)}
    backbone = network.backbone if isinstance(network, Rival) else network
    return {"map": build("cam", backbone, {"image_size": images.shape[-1]}).explain(images, targets)}  # type: ignore[arg-type]


def share_on(maps: Tensor, masks: Tensor) -> Tensor:
    """Return the share (N,) of each map (N, 1, H, W) inside its mask (N, 1, H, W), 0 for a map of zeros."""
    total = maps.sum((1, 2, 3))
    return (maps * masks).sum((1, 2, 3)) / total.clamp(min=torch.finfo(maps.dtype).tiny)


def evaluate(network: nn.Module, splits: Mapping[str, TaggedImages]) -> dict[str, float]:
    """Compute the columns of a trained network, shares and accuracies in [0, 1].

    Args:
        network: in evaluation mode.
        splits: "val", "test" (tags random) and "clean" (the same images without tags).
    """
    test, clean, val = splits["test"], splits["clean"], splits["val"]
    answers = predict(network, test.images).argmax(1)
    disagreeing = test.tag_classes != test.targets
    scores = {
        "accuracy": _mean(answers == test.targets),
        "accuracy_clean": _mean(predict(network, clean.images).argmax(1) == clean.targets),
        "follows": _mean((answers == test.tag_classes)[disagreeing]),
        "val_accuracy": _mean(predict(network, val.images).argmax(1) == val.targets),
    }
    agreeing = test.take((~disagreeing).nonzero()[:, 0])
    scores["tag_area"] = float(agreeing.tags.float().mean())
    for name, maps in maps_of(network, agreeing.images, agreeing.targets).items():
        scores[f"tag_{name}"] = _mean(share_on(maps, agreeing.tags))
    scores["object_map"] = _mean(share_on(maps_of(network, test.images, test.targets)["map"], test.masks))
    if bool(val.tags.any()):
        scores["val_hidden"] = _mean(predict(network, val.without_tags()).argmax(1) == val.targets)
        scores["val_tag_map"] = _mean(share_on(maps_of(network, val.images, val.targets)["map"], val.tags))
    return scores


def _mean(values: Tensor) -> float:
    return float(values.float().mean()) if len(values) else float("nan")
