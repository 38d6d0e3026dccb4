"""Inspect a backbone with one probe image: its last map, its head, and the modules that end a resolution.

No layer is named here. A network that follows timm's protocol names its last map (`forward_features`, `forward_head`),
its last layer (`get_classifier`) and the modules that end a resolution (`feature_info`). In any other network they are
searched, see `interp_core.backbone.partition`. Where the search fails, the network can provide the first three.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from itertools import pairwise

import torch
from torch import Tensor, nn

from interp_core.backbone.attempt import missing_inputs, not_a_module, required_inputs
from interp_core.backbone.compiled import reason_of_closed_layers
from interp_core.backbone.geometry import CellGrid
from interp_core.backbone.grids import LAST, MapGrids, Point
from interp_core.backbone.layout import Layout, layout_of
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
from interp_core.backbone.positions import grid_of, is_fixed, layout_from_trace
from interp_core.backbone.shells import name_of
from interp_core.backbone.trace import Side, Trace, evaluating, is_smaller, noise_image, side_of
from interp_core.errors import BackboneError, InterpError, one_line

DEFAULT_SIDE = 224
MAP = Layout()
POOLINGS = nn.MaxPool2d | nn.AvgPool2d


@dataclass(frozen=True)
class Site:
    """A module behind which the network loses resolution.

    Attributes:
        module: dotted name of the module.
        before: whether to gate the module's input (it is an average pooling, which becomes LAP) instead of its output.
        channels: number of channels of the gated features.
        window: stride of the operation that follows; a pair where it differs by axis.
        reduction: input pixels per position of the gated features, for the probe; the geometric mean of both axes.
        layout: layout of the gated features.
        grids: grids of the network's maps.
    """

    module: str
    before: bool
    channels: int
    window: int | tuple[int, int]
    reduction: int
    layout: Layout = MAP
    grids: MapGrids | None = field(default=None, repr=False, compare=False)

    def grid_of(self, size: tuple[int, int]) -> CellGrid:
        """Return the position of the cells on images of a size.

        Args:
            size: rows and columns of the images.

        Raises:
            ContractError: the network cannot take images of that size.
        """
        if self.grids is None:
            return CellGrid.tiling((self.reduction, self.reduction))
        return self.grids.at(self.module, size)


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
    _check_convolutional(model)
    with evaluating(model), torch.inference_mode(False), torch.no_grad():
        images, outputs, changes_images = _run_probe(model, image_size)
        logits = check_logits_shape(outputs, name_of(model), len(images))
        trace = Trace(model)
        partition = _find_partition(model, images, trace, changes_images=changes_images)
        features, sizes = trace.features, trace.sizes
        maps = partition.layout.to_map(features, images.shape[-2] / images.shape[-1])
        _check_head(model, partition, features, sizes, logits)
        linear = _is_linear_head(model, partition, features, sizes, maps)
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
    sites = list(_find_sites(trace, model, size, side_of(partition.layout.to_map(features, size[0] / size[1]))))
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


def classifier_weights(model: nn.Module, partition: Partition) -> tuple[Tensor, Tensor | None] | None:
    """Return weights (K, C) and biases (K,) of the last layer.

    None if it is neither a linear layer nor a 1x1 convolution.
    """
    layer = _last_layer(model, partition)
    if isinstance(layer, nn.Linear):
        return layer.weight, layer.bias
    if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1:
        return layer.weight.flatten(1), layer.bias
    return None


def _last_layer(model: nn.Module, partition: Partition) -> object:
    if partition.classifier is not None:
        layer: object = model
        for name in partition.classifier.split("."):  # older compilers of torch take no `get_submodule`
            layer = getattr(layer, name)
        return layer
    get_classifier = getattr(model, "get_classifier", None)
    return get_classifier() if callable(get_classifier) else None


def _check_convolutional(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise BackboneError(not_a_module(model))
    hint = "choose a convolutional backbone such as resnet18"
    kernels = [
        (_pair(m.kernel_size), _pair(m.stride))
        for m in model.modules()
        if isinstance(m, nn.Conv2d | POOLINGS) and _pair(m.kernel_size) != (1, 1)
    ]
    closed = reason_of_closed_layers(model)
    if closed is not None:
        raise BackboneError(closed)
    if any(parameter.is_meta for parameter in model.parameters()):
        raise BackboneError(
            f"{type(model).__name__} has no weights yet, only their shapes (device 'meta'): load them first"
        )
    if not any(isinstance(m, nn.Conv2d) for m in model.modules()):
        raise BackboneError(f"{type(model).__name__} has no convolution; {hint}")
    if len(kernels) <= 2 and all(kernel == stride for kernel, stride in kernels) and _mixes_tokens(model):
        raise BackboneError(
            f"{type(model).__name__} is not convolutional: it cuts the image into patches once, and attention or MLPs "
            f"do the rest, so there is no local pooling that LAP could replace; {hint}"
        )


def _mixes_tokens(model: nn.Module) -> bool:
    return any(
        # There are several root mean square norms without a common base class.
        isinstance(m, nn.LayerNorm | nn.MultiheadAttention) or type(m).__name__.lower().startswith("rmsnorm")
        for m in model.modules()
    )


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value, value)


def _run_probe(model: nn.Module, image_size: int | tuple[int, int] | None) -> tuple[Tensor, object, bool]:
    """Return the probe, the model's output for it, and whether the model changes the images it is called with."""
    config = getattr(model, "pretrained_cfg", None) or {}
    default_channels, *default_size = config.get("input_size", (3, DEFAULT_SIDE, DEFAULT_SIDE))
    height, width = default_size if image_size is None else _pair(image_size)
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    reasons = []
    # A network may rearrange its images before the first convolution, which then has more channels than they do, or
    # take several images stacked, or repeat the one channel of a grey image.
    for channels in dict.fromkeys((first.in_channels, default_channels, 1, 2 * first.in_channels)):
        images = noise_image(model, channels, (height, width))
        passed = images.clone()
        try:
            outputs = model(passed)
        except InterpError:
            raise
        except Exception as error:  # a network's own code may raise anything
            reasons.append(_reason(model, images, error))
        else:
            return images, outputs, not torch.equal(passed, images)
    raise BackboneError(reasons[0])


def _reason(model: nn.Module, images: Tensor, error: Exception) -> str:
    """Return why a model failed on the probe, and what to do."""
    name, missing = name_of(model), required_inputs(model)
    if missing:
        return missing_inputs(name, missing)
    return (
        f"{name} cannot take images (N, {', '.join(map(str, images.shape[1:]))}): {one_line(error, limit=200)}; "
        "say attach(model, image_size=...)"
    )


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


def _find_sites(trace: Trace, model: nn.Module, size: Side, last: Side) -> Iterator[Site]:
    """Yield one site for each resolution that ends inside the network.

    Args:
        trace: of the features' pass.
        model: the network.
        size: rows and columns of the image.
        last: rows and columns of the last map.
    """
    ends = _ends_by_name(trace, model) or _ends_by_order(trace, size, last)
    sides = sorted((side for side in ends if is_smaller(last, side) and is_smaller(side, size)), reverse=True)
    for side, after in pairwise([*sides, last]):
        name, before = ends[side], False
        poolings = [module for module, smaller in trace.shrinking_modules(side) if smaller == after]
        if len(poolings) == 1 and trace.is_called_once(poolings[0]) and _is_plain_average(trace.modules[poolings[0]]):
            name, before = poolings[0], True
        features = trace.inputs[name] if before else trace.outputs[name]
        layout = MAP if before else layout_from_trace(features) or layout_of(features)
        assert layout is not None
        channels = layout.to_map(features).shape[1]
        yield Site(name, before, channels, _window(side, after), 1, layout)


def _window(side: Side, after: Side) -> int | tuple[int, int]:
    """Return the strides of the operation between two resolutions, one number where they are equal."""
    rows, columns = (max(1, round(fine / coarse)) for fine, coarse in zip(side, after, strict=True))
    return rows if rows == columns else (rows, columns)


def _ends_by_name(trace: Trace, model: nn.Module) -> dict[Side, str]:
    """Return the last module of each resolution, as the network names them."""
    ends = {}
    for info in list(getattr(model, "feature_info", None) or []):
        name = info["module"]
        if name in trace.outputs and trace.is_called_once(name):
            features = trace.outputs[name]
            layout = layout_from_trace(features) or layout_of(features, channels=info.get("num_chs"))
            if layout is not None and layout.order != "NLC":
                ends[side_of(layout.to_map(features))] = name
    return ends


def _ends_by_order(trace: Trace, size: Side, last: Side) -> dict[Side, str]:
    """Return the module that ends last on each resolution.

    For a network that names none.
    """
    ends: dict[Side, str] = {}
    side = size
    for name, output in trace.outputs.items():
        if not trace.is_called_once(name) or (layout_from_trace(output) or layout_of(output)) != MAP:
            continue
        after = side_of(output)
        if not is_smaller(last, after) or not (after == side or is_smaller(after, side)) or trace.is_in_branch(name):
            continue
        # A convolution without padding removes a little of the border, which is no loss of resolution.
        if _window(side, after) == 1:
            ends.pop(side, None)
        side = after
        ends[side] = name
    return ends


def _is_plain_average(module: nn.Module) -> bool:
    """Return whether `module` averages windows without overlap or padding.

    LAP replaces such a module exactly.
    """
    if type(module) is not nn.AvgPool2d:
        return False
    return module.kernel_size == module.stride and module.padding in (0, (0, 0))


def _is_linear_head(model: nn.Module, partition: Partition, features: Tensor, sizes: Sizes, maps: Tensor) -> bool:
    """Return whether logits = W mean(X) + b.

    It is tried on noise, and training must not be able to change it.
    """
    weights = classifier_weights(model, partition)
    # A single cell does not tell how the head pools.
    if weights is None or weights[0].shape[1] != maps.shape[1] or maps.shape[-2:] == (1, 1):
        return False
    noise = torch.randn(maps.shape, generator=torch.Generator().manual_seed(1)).to(maps)
    expected = nn.functional.linear(noise.mean((2, 3)), *weights)
    trace = Trace(model)
    with trace.watching():
        logits = partition.head(model, partition.layout.from_map(noise, features), sizes)
    if logits.shape != expected.shape or not torch.allclose(logits, expected, rtol=1e-4, atol=1e-5):
        return False
    # A batch norm before the last layer is the identity until it is trained.
    classifier = _last_layer(model, partition)
    modules = (trace.modules[name] for name in trace.calls if trace.modules[name] is not classifier)
    return not any([*module.parameters(recurse=False), *module.buffers(recurse=False)] for module in modules)
