"""What is asked of a trained arm: does it follow the tag, does its map admit it, and what does a step cost?

Shares are of the map's sum at input resolution. LAP is asked for its own map and for its positive contributions; a
rival with a map of its own for that; other networks for CAM, which with this head is Grad-CAM up to a factor that
shares do not see.
"""

from __future__ import annotations

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from benchmarks.rivals import Rival, build
from benchmarks.studies.shortcut.data import Images
from interp_core.backbone.geometry import resize
from interp_core.lap.model import LapModel
from interp_core.training import predict

BATCH = 128


def maps_of(network: nn.Module, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
    """Maps (N, 1, H, W) >= 0 of what the network says of `targets` (N,): "map", and of LAP also "contributions"."""
    parts = [_maps(network, *batch) for batch in zip(images.split(BATCH), targets.split(BATCH), strict=True)]
    return {name: torch.cat([part[name] for part in parts]) for name in parts[0]}


def _maps(network: nn.Module, images: Tensor, targets: Tensor) -> dict[str, Tensor]:
    if isinstance(network, LapModel):
        found, info = network.explain(images, targets), network.info
        cells = found.head.contributions.clamp(min=0).float()
        placed = resize(cells, images.shape[-2], images.shape[-1], info.first, info.reduction)
        return {"map": found.map, "contributions": placed}
    if isinstance(network, Rival) and network.explains_itself:
        return {"map": network.explain(images, targets)}
    backbone = network.backbone if isinstance(network, Rival) else network
    return {"map": build("cam", backbone, {"image_size": images.shape[-1]}).explain(images, targets)}  # type: ignore[arg-type]


def share_on(maps: Tensor, masks: Tensor) -> Tensor:
    """Share (N,) of each map (N, 1, H, W) that lies on its mask (N, 1, H, W); 0 for a map of zeros."""
    total = maps.sum((1, 2, 3))
    return (maps * masks).sum((1, 2, 3)) / total.clamp(min=torch.finfo(maps.dtype).tiny)


def judge(network: nn.Module, parts: Mapping[str, Images]) -> dict[str, float]:
    """All that a line of the table says of a trained network, shares and accuracies in [0, 1].

    Args:
        network: in evaluation mode.
        parts: "val", "test" (tags random) and "clean" (the same images without tags).
    """
    test, clean, val = parts["test"], parts["clean"], parts["val"]
    answers = predict(network, test.images).argmax(1)
    apart = test.told != test.targets
    found = {
        "accuracy": _mean(answers == test.targets),
        "accuracy_clean": _mean(predict(network, clean.images).argmax(1) == clean.targets),
        "follows": _mean((answers == test.told)[apart]),
        "val_accuracy": _mean(predict(network, val.images).argmax(1) == val.targets),
    }
    agreeing = test.take((~apart).nonzero()[:, 0])
    found["tag_area"] = float(agreeing.tags.float().mean())
    for name, maps in maps_of(network, agreeing.images, agreeing.targets).items():
        found[f"tag_{name}"] = _mean(share_on(maps, agreeing.tags))
    found["object_map"] = _mean(share_on(maps_of(network, test.images, test.targets)["map"], test.masks))
    if bool(val.tags.any()):
        found["val_hidden"] = _mean(predict(network, val.hidden()).argmax(1) == val.targets)
        found["val_tag_map"] = _mean(share_on(maps_of(network, val.images, val.targets)["map"], val.tags))
    return found


def _mean(values: Tensor) -> float:
    return float(values.float().mean()) if len(values) else float("nan")
