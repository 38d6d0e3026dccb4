"""Divide a network into features and head, at its last feature map.

timm's protocol names both parts: `forward_features` and `forward_head`. Any other network is traced by torch.fx. The
cut is the last map (N, C, h, w) on which everything behind it depends, and which is all that it needs of the image.
Both parts are functions of the network itself, which is neither copied nor wrapped.

Worked example. For a network with

    def forward(self, images):
        count = images.size(0)
        maps = self.body(self.stem(images))
        return self.fc(maps.mean((2, 3)).view(count, -1))

the trace, with the shapes of a probe of 64 x 64 pixels, is

    images (1, 3, 64, 64) -> size 1
    images (1, 3, 64, 64) -> stem (1, 8, 16, 16) -> body (1, 8, 8, 8) -> mean (1, 8) -> view (1, 8) -> fc (1, 4)

1. `body` is the last map. The nodes behind it need nothing else of the image but the number `size`. So the cut is
   there. Features are images -> stem -> body, the head is mean -> view -> fc, and `size` goes along with the features.
2. Modules are leaves of the trace at first. Were mean and view inside `body`, the last map would be that of `stem`, and
   `body` the only module behind it. Then `body` is expanded, the network is traced again, and the cut moves into it.
3. Tracing ends when the module behind the cut has no children, or when the network cannot be traced any deeper.
4. Both parts are traced in training mode too, since a trace fixes whatever depends on the mode.

Limits: hooks on expanded modules do not fire. A cut is found with an image of one size. Whatever a network returns
besides its logits, such as auxiliary logits in training, is dropped.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor, fx, nn

from interp_core.backbone.graph_cut import GraphCut, drop_dead_code, find_cut, image_dependent_nodes, trace_network
from interp_core.backbone.layout import Layout, layout_of
from interp_core.backbone.positions import layout_from_trace

PROTOCOL = ("forward_features", "forward_head", "get_classifier")

# Plain numbers that the head needs besides the features, such as the batch size.
Sizes = tuple[Any, ...]
# features(network, images) -> last map and sizes; head(network, last map, sizes) -> logits
Features = Callable[[nn.Module, Tensor], tuple[Tensor, Sizes]]
Head = Callable[[nn.Module, Tensor, Sizes], Tensor]


@dataclass(frozen=True)
class Partition:
    """A network as two functions.

    Attributes:
        features: from the network and images (N, C, H, W) to its last map, in the network's layout, and the sizes that
            its head needs.
        head: from the network, the last map and the sizes to logits (N, K).
        layout: layout of the last map.
        classifier: dotted name of the last layer; None where the network itself tells it or nothing does.
        last_module: dotted name of the last module whose output has the size of the last map and is all that the
            logits depend on; "" where it is not known.
    """

    features: Features
    head: Head
    layout: Layout
    classifier: str | None = None
    last_module: str = ""


def on_copies(partition: Partition) -> Partition:
    """Return a partition whose features work on a copy of the images, for a network that changes them in place."""
    return replace(partition, features=_CopyingFeatures(partition.features))


@dataclass(frozen=True)
class _CopyingFeatures:
    features: Features

    def __call__(self, model: nn.Module, images: Tensor) -> tuple[Tensor, Sizes]:
        return self.features(model, images.clone())


def follows_protocol(model: nn.Module) -> bool:
    """Return whether the model has the three functions of timm's protocol."""
    return all(hasattr(model, name) for name in PROTOCOL)


def protocol_partition(model: nn.Module, features: object, images: Tensor, reduction: int) -> Partition | None:
    """Return the partition that timm's protocol names.

    None if its features are no map that the logits depend on.

    Args:
        model: a network that follows timm's protocol.
        features: result of its `forward_features` on `images`.
        images: (1, C, H, W).
        reduction: expected number of input pixels per position where features are rows of tokens.
    """
    grid = (-(-images.shape[-2] // reduction), -(-images.shape[-1] // reduction))
    layout = layout_from_trace(features) or layout_of(features, grid, getattr(model, "num_features", None))
    if layout is None or not isinstance(features, Tensor):
        return None
    if layout.order == "NLC" and not _depends_on_all_positions(model, features, layout):
        return None
    return Partition(_protocol_features, _protocol_head, layout)


def _protocol_features(model: nn.Module, images: Tensor) -> tuple[Tensor, Sizes]:
    return model.forward_features(images), ()  # type: ignore[operator]


def _protocol_head(model: nn.Module, features: Tensor, _sizes: Sizes) -> Tensor:
    return model.forward_head(features)  # type: ignore[operator,no-any-return]


def _depends_on_all_positions(model: nn.Module, features: Tensor, layout: Layout) -> bool:
    """Return whether the logits depend on every position.

    They do not where only a class token is read.
    """
    with torch.enable_grad():
        leaf = features.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(_protocol_head(model, leaf, ()).square().sum(), leaf)
    return bool(layout.to_map(gradient).abs().sum(1).gt(0).all())


def graph_partition(model: nn.Module, images: Tensor) -> Partition | str:
    """Return the partition that torch.fx finds, or why it cannot follow the network ("" if it can, but finds none).

    Args:
        model: a network in evaluation mode.
        images: (1, C, H, W).
    """
    cut = find_cut(model, images)
    if isinstance(cut, str):
        return cut
    features, head, classifier = _halves_of(cut, model)
    training_features, training_head = _training_halves_of(cut, model, images) or (features, head)
    by_mode = _ByMode(training_features, features), _ByMode(training_head, head)
    return Partition(*by_mode, cut.layout, classifier, cut.last_module)


@dataclass(frozen=True)
class _ByMode:
    """A function of the network for each mode.

    A trace fixes whatever depends on the mode.
    """

    training: Callable[..., Any]
    evaluation: Callable[..., Any]

    def __call__(self, model: nn.Module, *arguments: Any) -> Any:
        return (self.training if model.training else self.evaluation)(model, *arguments)


def _training_halves_of(cut: GraphCut, model: nn.Module, images: Tensor) -> tuple[Features, Head] | None:
    """Return features and head in training mode.

    None if the network returns no logits then, or the cut is missing.
    """
    flags = {module: module.training for module in model.modules()}
    try:
        model.train()
        graph = trace_network(model, cut.expanded, images)
        nodes = {node.name: node for node in graph.nodes}
        if not _keep_logits_only(graph) or any(n.name not in nodes for n in (cut.node, *cut.sizes)):
            return None
        sizes = tuple(nodes[n.name] for n in cut.sizes)
        features, head, _ = _halves_of(GraphCut(graph, cut.expanded, nodes[cut.node.name], sizes, cut.layout), model)
        return features, head
    except Exception:  # as in `find_cut`; the halves of evaluation mode are used
        return None
    finally:
        for module, flag in flags.items():
            module.training = flag


def _keep_logits_only(graph: fx.Graph) -> bool:
    """Drop what a network returns behind its logits.

    Returns whether there are logits.
    """
    output = next(iter(reversed(graph.nodes)))
    logits = output.args[0]
    if isinstance(logits, tuple | list) and logits:
        logits = logits[0]
        output.args = (logits,)
        drop_dead_code(graph)
    return isinstance(logits, fx.Node)


def _halves_of(cut: GraphCut, model: nn.Module) -> tuple[Features, Head, str | None]:
    """Return features, head and last layer's name from a cut."""
    nodes = list(cut.graph.nodes)
    index = nodes.index(cut.node)
    front, back = fx.Graph(), fx.Graph()
    in_front: dict[fx.Node, fx.Node] = {}
    images = next(node for node in nodes if node.op == "placeholder")
    for node in nodes[: index + 1]:
        if node.op != "placeholder" or node is images:
            in_front[node] = front.node_copy(node, in_front.__getitem__)
    front.output((in_front[cut.node], tuple(in_front[n] for n in cut.sizes)))
    in_back: dict[fx.Node, fx.Node] = {cut.node: back.placeholder("features")}
    sizes = back.placeholder("sizes")
    for position, node in enumerate(cut.sizes):
        in_back[node] = back.call_function(operator.getitem, (sizes, position))
    dependent = image_dependent_nodes(nodes)
    for i, node in enumerate(nodes):
        if node not in in_back and (node not in dependent or i > index) and node.op != "placeholder":
            in_back[node] = back.node_copy(node, in_back.__getitem__)
    for graph in (front, back):
        drop_dead_code(graph)
    return _compile_graph(front), _compile_graph(back), _classifier_of(back, model)


def _compile_graph(graph: fx.Graph) -> Callable[..., Any]:
    """Return the graph as a function of the network.

    It looks up modules in the network it is called with, so that copies and replicas use their own.
    """
    code = graph.python_code("self")
    names = dict(code.globals)
    exec(compile(code.src, "<interp_core.backbone.partition>", "exec"), names)
    function: Callable[..., Any] = names["forward"]
    return function


def _classifier_of(graph: fx.Graph, model: nn.Module) -> str | None:
    """Return the name of the last linear layer of a head."""
    names = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    layers = [name for name in names if isinstance(model.get_submodule(name), nn.Linear | nn.Conv2d)]
    for name in reversed(names):
        children = model.get_submodule(name).named_modules()
        inner = [f"{name}.{child}" for child, module in children if isinstance(module, nn.Linear)]
        if inner or name in layers:
            return name if name in layers else inner[-1]
    return None
