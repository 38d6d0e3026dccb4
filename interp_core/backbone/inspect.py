"""Inspect a backbone with one probe image: its last map, its head, and the sites of its gates.

No layer is named here. A network that follows timm's protocol names its last map (`forward_features`, `forward_head`),
its last layer (`get_classifier`) and the modules that end a resolution (`feature_info`). In any other network they are
searched, see `interp_core.backbone.partition`. Where the search fails, the network can provide the first three.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

import torch
from torch import Tensor, nn

from interp_core.backbone.geometry import CellGrid
from interp_core.backbone.grids import LAST, MapGrids, Point
from interp_core.backbone.linear_head import is_linear_head
from interp_core.backbone.outputs import check_logits_shape
from interp_core.backbone.partition import (
    PROTOCOL,
    Partition,
    Sizes,
    follows_protocol,
    graph_partition,
    on_copies,
    protocol_partition,
)
from interp_core.backbone.positions import grid_of, is_fixed
from interp_core.backbone.probe import check_convolutional, run_probe
from interp_core.backbone.shells import name_of
from interp_core.backbone.sites import Site, find_sites
from interp_core.backbone.trace import Trace, evaluating, side_of
from interp_core.errors import BackboneError


@dataclass(frozen=True)
class BackboneInfo:
    """Properties of a backbone.

    Attributes:
        in_channels: number of channels of the images.
        classes: K.
        channels: number of channels of the last feature map.
        reduction: input pixels per position of the last feature map, for the probe; the geometric mean of both axes.
        linear_head: whether logits = W mean(X) + b, so that contributions need no gradient.
        feature_module: outermost module whose output is the last feature map, or the last one of its size where a
            function makes the map of a module's output; "" if there is none.
        sites: sites of the gates, finest first, without the global pooling.
        partition: the network as features and head.
        grid: rows and columns of the last feature map, for an image of `size`.
        size: rows and columns of the probe.
        grids: grids of the network's maps.
    """

    in_channels: int
    classes: int
    channels: int
    reduction: int
    linear_head: bool
    feature_module: str
    sites: tuple[Site, ...]
    partition: Partition
    grid: tuple[int, int]
    size: tuple[int, int]
    grids: MapGrids = field(repr=False, compare=False)

    def grid_of(self, size: tuple[int, int]) -> CellGrid:
        """Return the position of the last map's cells on images of a size.

        Args:
            size: rows and columns of the images.

        Raises:
            ContractError: the network cannot take images of that size.
        """
        return self.grids.at(LAST, size)


def inspect_backbone(model: nn.Module, image_size: int | tuple[int, int] | None = None) -> BackboneInfo:
    """Inspect a network with a probe image.

    It runs in evaluation mode and is left as it was.

    Args:
        model: any convolutional network, or one with attention on convolutional features.
        image_size: side of the probe in pixels, or its rows and columns. By default timm's input size, else 224.

    Raises:
        BackboneError: the network is not convolutional, cannot take the probe, or its head is not understood.
    """
    check_convolutional(model)
    with evaluating(model), torch.inference_mode(False), torch.no_grad():
        images, outputs, changes_images = run_probe(model, image_size)
        logits = check_logits_shape(outputs, name_of(model), len(images))
        trace = Trace(model)
        partition = _find_partition(model, images, trace, changes_images=changes_images)
        features, sizes = trace.features, trace.sizes
        maps = partition.layout.to_map(features, images.shape[-2] / images.shape[-1])
        _check_head(model, partition, features, sizes, logits)
        linear = is_linear_head(model, partition, features, sizes, maps)
        sites, grids = _place_maps(trace, model, images, partition)
        if grids.fixed:
            grids.confirm()
    return BackboneInfo(
        in_channels=images.shape[1],
        classes=logits.shape[1],
        channels=maps.shape[1],
        reduction=grids.probed[LAST].reduction,
        linear_head=linear,
        feature_module=trace.source_of(features) or partition.last_module,
        sites=sites,
        partition=partition,
        grid=side_of(maps),
        size=side_of(images),
        grids=grids,
    )


def _place_maps(
    trace: Trace, model: nn.Module, images: Tensor, partition: Partition
) -> tuple[tuple[Site, ...], MapGrids]:
    """Return the sites of the gates and the grids of their maps and of the last one."""
    features, size = trace.features, side_of(images)
    maps = {LAST: (features, partition.layout)}
    sites = list(find_sites(trace, model, size, side_of(partition.layout.to_map(features, size[0] / size[1]))))
    for site in sites:
        maps[site.module] = (trace.inputs if site.before else trace.outputs)[site.module], site.layout
    grids = MapGrids(
        model,
        partition.features,
        partition.layout,
        images.shape[1],
        [Point(site.module, site.before, site.layout) for site in sites],
        size,
        {name: grid_of(tensor, layout, size) for name, (tensor, layout) in maps.items()},
        all(is_fixed(tensor) for tensor, _ in maps.values()),
    )
    return tuple(replace(site, reduction=grids.probed[site.module].reduction, grids=grids) for site in sites), grids


@dataclass(frozen=True)
class FeatureLayer:
    """Module whose output is the last feature map.

    For explainers that hook a layer, such as Grad-CAM.

    Attributes:
        module: the outermost such module.
        name: its dotted name in the backbone.
        info: properties of the backbone.
    """

    module: nn.Module
    name: str
    info: BackboneInfo

    def grid_of(self, size: tuple[int, int]) -> CellGrid:
        """Return the position of its cells on images of a size, see `BackboneInfo.grid_of`."""
        return self.info.grid_of(size)


def feature_layer(model: nn.Module, info: BackboneInfo | None = None) -> FeatureLayer:
    """Return the module whose output is the last feature map.

    Args:
        model: a backbone, or a LAP model, whose backbone is then used.
        info: properties of the backbone, if they are known.

    Raises:
        BackboneError: not a convolutional network, or no module's output is its last features as (N, C, h, w).
    """
    backbone = getattr(model, "backbone", model)
    info = info or getattr(model, "info", None)
    info = info if isinstance(info, BackboneInfo) else inspect_backbone(backbone)
    name = info.feature_module
    if not name or info.partition.layout.order != "NCHW":
        raise BackboneError(
            f"{type(backbone).__name__}: no module puts out the last feature map as (N, C, h, w), so no layer to hook"
        )
    return FeatureLayer(backbone.get_submodule(name), name, info)


def _find_partition(model: nn.Module, images: Tensor, trace: Trace, *, changes_images: bool) -> Partition:
    """Divide the network into features and head.

    Args:
        model: the network.
        images: (1, C, H, W).
        trace: records the pass of the features.
        changes_images: whether the model works in place on its images; its features then get a copy.
    """
    if follows_protocol(model):
        with trace.watching(images):
            features = model.forward_features(images.clone() if changes_images else images)  # type: ignore[operator]
        named = protocol_partition(model, features, images, _last_reduction(model))
        if named is not None:
            trace.features, trace.sizes = features, ()
            return on_copies(named) if changes_images else named
        trace.clear()
    partition = graph_partition(model, images)
    if isinstance(partition, str):
        raise BackboneError(_describe_undivided(model, partition))
    if changes_images:
        partition = on_copies(partition)
    with trace.watching(images):
        trace.features, trace.sizes = partition.features(model, images)
    return partition


def _describe_undivided(model: nn.Module, reason: str) -> str:
    """Say why a network could not be divided."""
    hint = f"give the network {', '.join(PROTOCOL)} as timm's networks have them"
    if follows_protocol(model):
        hint = "it reads a class token, or several maps; choose a convolutional backbone such as resnet18"
    elif reason:
        hint = f"its forward cannot be followed ({reason}): keep such steps out of forward, or {hint}"
    return (
        f"{name_of(model)}: no place found where one feature map (N, C, h, w) is all that the logits depend on; {hint}"
    )


def _last_reduction(model: nn.Module) -> int:
    info = list(getattr(model, "feature_info", None) or [])
    return int(info[-1].get("reduction", 32)) if info else 32


def _check_head(model: nn.Module, partition: Partition, features: Tensor, sizes: Sizes, logits: Tensor) -> None:
    head_logits = partition.head(model, features.clone(), sizes)
    is_same_shape = head_logits.shape == logits.shape
    if not is_same_shape or not torch.allclose(head_logits, logits, rtol=1e-3, atol=1e-4, equal_nan=True):
        raise BackboneError(
            f"{type(model).__name__}: its head on its last features does not give its logits ({_shape(head_logits)} "
            f"against {_shape(logits)}), so the head is not understood"
        )


def _shape(value: object) -> str:
    return str(tuple(value.shape)) if isinstance(value, Tensor) else type(value).__name__
