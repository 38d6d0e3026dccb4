"""What LAP asks of a backbone, read through timm's protocol and one probing forward pass; no layer is ever named here.

The protocol: `forward_features` gives the last feature map (N, C, h, w), `forward_head` turns it into logits,
`get_classifier` is the last layer, `feature_info` lists the modules that end a resolution. A network of your own
joins by giving these four.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import pairwise

import torch
from torch import Tensor, nn

from interp_core.errors import BackboneError
from interp_core.geometry import first_centre

PROTOCOL = ("forward_features", "forward_head", "get_classifier", "feature_info")


@dataclass(frozen=True)
class Site:
    """A place where the network is about to lose resolution.

    Attributes:
        module: dotted name of the module.
        before: gate the module's input (it is an average pooling, which becomes LAP) instead of its output.
        channels: of the gated features.
        window: stride of the operation that follows.
        reduction: input pixels per position of the gated features.
    """

    module: str
    before: bool
    channels: int
    window: int
    reduction: int


@dataclass(frozen=True)
class BackboneInfo:
    """What the probe found.

    Attributes:
        in_channels: of the images.
        classes: K.
        channels: of the last feature map.
        reduction: input pixels per position of the last feature map.
        linear_head: whether logits = W mean(X) + b, so that contributions need no gradient.
        feature_module: outermost module whose output is the last feature map; "" if none is.
        first: pixel on which the first cell of the last feature map is centred, see `interp_core.geometry`.
        sites: where gates go, finest first; the global pooling is not among them.
    """

    in_channels: int
    classes: int
    channels: int
    reduction: int
    linear_head: bool
    feature_module: str
    first: float
    sites: tuple[Site, ...]


def inspect_backbone(model: nn.Module) -> BackboneInfo:
    """Probe `model` once, in evaluation mode and without gradients, and leave it as it was.

    Raises:
        BackboneError: the protocol is missing or the network is not convolutional.
    """
    _check_protocol(model)
    images = _probe_images(model)
    with evaluating(model), torch.no_grad():
        trace = _Trace(model)
        with trace.watching():
            features = model.forward_features(images)  # type: ignore[operator]
        _check_features(model, features)
        logits = model.forward_head(features)  # type: ignore[operator]
        linear = _is_linear_head(model, features)
    size, last = images.shape[-1], features.shape[-1]
    return BackboneInfo(
        in_channels=images.shape[1],
        classes=logits.shape[1],
        channels=features.shape[1],
        reduction=round(size / last),
        linear_head=linear,
        feature_module=trace.source_of(features),
        first=first_centre(size, last, trace.shrinkers),
        sites=tuple(_sites(trace, model, size, last)),
    )


@dataclass(frozen=True)
class FeatureLayer:
    """The module that puts out the last feature map, for explainers such as Grad-CAM that hook a layer.

    Attributes:
        module: the outermost such module.
        name: its dotted name in the backbone.
        first: pixel on which its first cell is centred.
        pitch: pixels from cell to cell.
    """

    module: nn.Module
    name: str
    first: float
    pitch: int


def feature_layer(model: nn.Module) -> FeatureLayer:
    """Where the last feature map of `model` comes from.

    Args:
        model: a backbone, or a LAP model, whose backbone is then taken.

    Raises:
        BackboneError: not a convolutional network, or no module puts out its last features.
    """
    backbone = getattr(model, "backbone", model)
    info = getattr(model, "info", None)
    info = info if isinstance(info, BackboneInfo) else inspect_backbone(backbone)
    name = info.feature_module
    if not name:
        raise BackboneError(f"{type(backbone).__name__}: no module puts out the last feature map, so no layer to hook")
    return FeatureLayer(backbone.get_submodule(name), name, info.first, info.reduction)


def _check_protocol(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise BackboneError(f"a backbone must be a torch.nn.Module, got {type(model).__name__}")
    missing = [name for name in PROTOCOL if not hasattr(model, name)]
    if missing:
        raise BackboneError(
            f"{type(model).__name__} has no {', '.join(missing)}: LAP reaches a network through timm's protocol; "
            "use timm.create_model(...) or add these to your network"
        )


def _check_features(model: nn.Module, features: object) -> None:
    if isinstance(features, Tensor) and features.ndim == 4:
        return
    shape = tuple(features.shape) if isinstance(features, Tensor) else type(features).__name__
    raise BackboneError(
        f"{type(model).__name__} is not convolutional: forward_features gives {shape}, LAP needs a feature map "
        "(N, C, H, W); choose a convolutional backbone such as resnet18"
    )


def _probe_images(model: nn.Module) -> Tensor:
    """One image of the size the network was made for. Noise, since equal images could hide a non-linear head."""
    first = next((m for m in model.modules() if isinstance(m, nn.Conv2d)), None)
    if first is None:
        raise BackboneError(
            f"{type(model).__name__} has no convolution; choose a convolutional backbone such as resnet18"
        )
    config = getattr(model, "pretrained_cfg", None) or {}
    height, width = tuple(config.get("input_size", (3, 224, 224)))[1:]
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, first.in_channels, height, width, generator=generator).to(first.weight)


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every module has the flag it had."""
    flags = [(module, True) for module in model.modules() if module.training]
    if flags:
        model.eval()
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag


class _Trace:
    """Shapes and outputs that passed through the modules of one forward pass."""

    def __init__(self, model: nn.Module) -> None:
        self.modules = {name: module for name, module in model.named_modules() if name}
        self.shapes: dict[str, tuple[tuple[int, ...], tuple[int, ...]]] = {}
        self._outputs: dict[str, Tensor] = {}

    def _watch(self, name: str) -> Callable[[nn.Module, tuple, object], None]:
        def hook(_module: nn.Module, inputs: tuple, output: object) -> None:
            if isinstance(output, Tensor) and inputs and isinstance(inputs[0], Tensor):
                self.shapes[name] = tuple(inputs[0].shape), tuple(output.shape)
                self._outputs[name] = output

        return hook

    @contextmanager
    def watching(self) -> Iterator[None]:
        handles = [module.register_forward_hook(self._watch(name)) for name, module in self.modules.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def source_of(self, tensor: Tensor) -> str:
        """Outermost module that put out this very tensor; "" if none did."""
        names = [name for name, output in self._outputs.items() if output is tensor]
        return min(names, key=lambda name: name.count("."), default="")

    def name_of(self, module: nn.Module) -> str:
        """Dotted name of a module."""
        return next(name for name, other in self.modules.items() if other is module)

    def shrinkers(self, size: int) -> list[tuple[nn.Module, int]]:
        """Leaf modules that take a map of side `size` to a smaller one, with its side."""
        return [
            (self.modules[name], behind[-1])
            for name, (before, behind) in self.shapes.items()
            if len(before) == len(behind) == 4
            and before[-1] == size > behind[-1]
            and not list(self.modules[name].children())
        ]


def _sites(trace: _Trace, model: nn.Module, size: int, last: int) -> Iterator[Site]:
    """One site for each resolution that ends inside the network."""
    ends: dict[int, str] = {}
    for info in list(model.feature_info):  # type: ignore[arg-type]
        name = info["module"]
        if name in trace.shapes and len(trace.shapes[name][1]) == 4:
            ends[trace.shapes[name][1][-1]] = name
    sides = sorted((side for side in ends if side > last), reverse=True)
    for side, after in pairwise([*sides, last]):
        name, before = ends[side], False
        shrinkers = [module for module, smaller in trace.shrinkers(side) if smaller == after]
        if len(shrinkers) == 1 and _is_plain_average(shrinkers[0]):
            name, before = trace.name_of(shrinkers[0]), True
        channels = trace.shapes[name][0 if before else 1][1]
        yield Site(name, before, channels, round(side / after), round(size / side))


def _is_plain_average(module: nn.Module) -> bool:
    """Whether `module` averages windows tiled without overlap or padding, which LAP replaces exactly."""
    if type(module) is not nn.AvgPool2d:
        return False
    return module.kernel_size == module.stride and module.padding in (0, (0, 0))


def _is_linear_head(model: nn.Module, features: Tensor) -> bool:
    classifier = model.get_classifier()  # type: ignore[operator]
    if not isinstance(classifier, nn.Linear) or classifier.in_features != features.shape[1]:
        return False
    noise = torch.randn(features.shape, generator=torch.Generator().manual_seed(1)).to(features)
    expected = classifier(noise.mean((2, 3)))
    return torch.allclose(model.forward_head(noise), expected, rtol=1e-4, atol=1e-5)  # type: ignore[operator]
