"""Where a network stops being a map: features before, head behind.

timm's protocol says it: `forward_features`, `forward_head`. Any other network is traced by torch.fx from the outside
in: its modules are leaves until the place looked for lies inside one. The cut is the last map (N, C, h, w) that
everything behind it needs, and needs nothing else of the image. Both parts are functions of the network itself, which
is neither copied nor wrapped.

Limits: hooks on modules that had to be opened do not fire; a cut is found with an image of one size; what a network
returns besides its logits, such as auxiliary logits while training, is dropped.
"""

from __future__ import annotations

import inspect
import operator
import threading
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from interp_core.backbone.layout import Layout, layout_of

PROTOCOL = ("forward_features", "forward_head", "get_classifier")

# features(network, images) -> features and whatever numbers the head needs besides; head(network, both) -> logits
Features = Callable[[nn.Module, Tensor], tuple[Tensor, tuple]]
Head = Callable[[nn.Module, Tensor, tuple], Tensor]


@dataclass(frozen=True)
class Partition:
    """A network in two.

    Attributes:
        features: from the network and images (N, C, H, W) to its last map, laid out as the network does, and numbers
            such as the batch size that its head wants to know.
        head: from the network and these to logits (N, K).
        layout: of the last map.
        classifier: dotted name of the last layer, None where the network itself tells or nobody knows.
    """

    features: Features
    head: Head
    layout: Layout
    classifier: str | None = None


def follows_protocol(model: nn.Module) -> bool:
    """Whether timm's three functions are there."""
    return all(hasattr(model, name) for name in PROTOCOL)


def protocol_partition(model: nn.Module, features: object, images: Tensor, reduction: int) -> Partition | None:
    """The split the network itself names, if its features are a map the logits depend on.

    Args:
        model: keeps timm's protocol.
        features: what its `forward_features` made of the images.
        images: (1, C, H, W).
        reduction: input pixels per position to expect where features are rows of tokens.
    """
    grid = (-(-images.shape[-2] // reduction), -(-images.shape[-1] // reduction))
    layout = layout_of(features, grid, getattr(model, "num_features", None))
    if layout is None or not isinstance(features, Tensor):
        return None
    if layout.order == "NLC" and not _looks_at_tokens(model, features, layout):
        return None
    return Partition(_protocol_features, _protocol_head, layout)


def _protocol_features(model: nn.Module, images: Tensor) -> tuple[Tensor, tuple]:
    return model.forward_features(images), ()  # type: ignore[operator]


def _protocol_head(model: nn.Module, features: Tensor, _numbers: tuple) -> Tensor:
    return model.forward_head(features)  # type: ignore[operator]


def _looks_at_tokens(model: nn.Module, features: Tensor, layout: Layout) -> bool:
    """Whether every place of the grid has a say; where a class token alone is read, none has."""
    with torch.enable_grad():
        leaf = features.detach().clone().requires_grad_()
        (gradient,) = torch.autograd.grad(model.forward_head(leaf).square().sum(), leaf)  # type: ignore[operator]
    return bool(layout.to_map(gradient).abs().sum(1).gt(0).all())


def graph_partition(model: nn.Module, images: Tensor) -> Partition | None:
    """The split torch.fx finds; None where it finds none.

    Args:
        model: in evaluation mode.
        images: (1, C, H, W).
    """
    graph = _open_up(model, images)
    if graph is None:
        return None
    features, head, classifier = _halves(graph, model)
    training = _training_halves(graph, model)
    if training is None:
        training = features, head
    return Partition(_ByMode(training[0], features), _ByMode(training[1], head), graph.layout, classifier)


@dataclass(frozen=True)
class _ByMode:
    """One function while training and one else, since tracing freezes what asks for the mode."""

    training: Callable[..., Any]
    evaluation: Callable[..., Any]

    def __call__(self, model: nn.Module, *arguments: Any) -> Any:
        return (self.training if model.training else self.evaluation)(model, *arguments)


_tracing = threading.Lock()  # torch.fx replaces nn.Module.__call__ while it traces


class _Tracer(fx.Tracer):
    """Sees every module from outside but those opened; other threads call their modules undisturbed."""

    def __init__(self, opened: frozenset[str]) -> None:
        super().__init__()
        self._opened, self._thread = opened, threading.get_ident()

    def is_leaf_module(self, _module: nn.Module, name: str) -> bool:
        return name not in self._opened

    def call_module(self, module: nn.Module, forward: Callable, args: tuple, kwargs: dict) -> Any:
        if threading.get_ident() != self._thread:
            return forward(*args, **kwargs)
        return super().call_module(module, forward, args, kwargs)

    def getattr(self, attr: str, attr_val: Any, parameter_proxy_cache: dict[str, Any]) -> Any:
        if threading.get_ident() != self._thread:
            return attr_val
        return super().getattr(attr, attr_val, parameter_proxy_cache)


class _Watcher(fx.Interpreter):
    """Runs a graph and remembers every value."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        super().__init__(model, garbage_collect_values=False, graph=graph)
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.values[n] = super().run_node(n)
        return self.values[n]


@dataclass
class _Cut:
    graph: fx.Graph
    opened: frozenset[str]
    node: fx.Node
    numbers: tuple[fx.Node, ...]
    layout: Layout


def _open_up(model: nn.Module, images: Tensor) -> _Cut | None:
    """Trace, cut, and open the module behind the cut for as long as that moves the cut forward or may do so."""
    opened: frozenset[str] = frozenset()
    best: _Cut | None = None
    while True:
        try:
            found, behind = _cut(model, images, opened)
        except Exception:  # whatever a network's own code raises when traced; what was found before stands
            return best
        best = found or best
        if behind is None or not list(model.get_submodule(behind).children()):
            return best
        opened = opened | {behind}


def _cut(model: nn.Module, images: Tensor, opened: frozenset[str]) -> tuple[_Cut | None, str | None]:
    """The cut of the graph with these modules opened, and the one module that uses it."""
    graph = _trace(model, opened)
    watcher = _Watcher(model, graph)
    watcher.run(images)
    nodes = list(graph.nodes)
    depends = _depends_on_image(nodes)
    last, cut = next(node for node in nodes if node.op == "placeholder"), None
    for index, node in enumerate(nodes):
        numbers = _numbers_across(nodes, index, depends, watcher.values)
        if numbers is None or node not in depends:
            continue
        layout = _map_layout(watcher.values[node])
        if layout is not None:
            last = node
            if _is_coarser(layout.to_map(watcher.values[node]), images):
                cut = _Cut(graph, opened, node, numbers, layout)
    users = list(last.users)
    behind = users[0].target if len(users) == 1 and users[0].op == "call_module" else None
    return cut, behind  # type: ignore[return-value]


def _trace(model: nn.Module, opened: frozenset[str]) -> fx.Graph:
    parameters = list(inspect.signature(model.forward).parameters.values())
    # What a network takes besides images keeps its default.
    others = {p.name: p.default for p in parameters[1:] if p.default is not p.empty}
    with _tracing:
        graph = _Tracer(opened).trace(model, others)
    _drop_dead(graph)
    return graph


def _drop_dead(graph: fx.Graph) -> None:
    graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output"))


def _depends_on_image(nodes: list[fx.Node]) -> set[fx.Node]:
    """Values computed from the network's first input."""
    found = {next(node for node in nodes if node.op == "placeholder")}
    for node in nodes:
        if any(argument in found for argument in node.all_input_nodes):
            found.add(node)
    return found


def _numbers_across(
    nodes: list[fx.Node], index: int, depends: set[fx.Node], values: dict[fx.Node, Any]
) -> tuple[fx.Node, ...] | None:
    """What else but `nodes[index]` those behind it need of the image, if that is plain numbers only; else None."""
    place = {node: i for i, node in enumerate(nodes)}
    across = {
        argument: None
        for node in nodes[index + 1 :]
        for argument in node.all_input_nodes
        if place[argument] < index and argument in depends
    }
    if all(isinstance(values[node], int | torch.Size) for node in across):
        return tuple(across)
    return None


def _map_layout(value: Any) -> Layout | None:
    """The layout of a map with more than one place."""
    layout = layout_of(value)
    return layout if layout is not None and min(layout.to_map(value).shape[-2:]) > 1 else None


def _is_coarser(maps: Tensor, images: Tensor) -> bool:
    return maps.shape[-2] < images.shape[-2] and maps.shape[-1] < images.shape[-1]


def _training_halves(cut: _Cut, model: nn.Module) -> tuple[Features, Head] | None:
    """The halves as traced while training, where the network then puts out logits too and the cut is still there."""
    flags = {module: module.training for module in model.modules()}
    try:
        model.train()
        graph = _trace(model, cut.opened)
        nodes = {node.name: node for node in graph.nodes}
        if not _put_out_logits_alone(graph) or any(n.name not in nodes for n in (cut.node, *cut.numbers)):
            return None
        numbers = tuple(nodes[n.name] for n in cut.numbers)
        features, head, _ = _halves(_Cut(graph, cut.opened, nodes[cut.node.name], numbers, cut.layout), model)
        return features, head
    except Exception:  # as in `_open_up`: the halves of evaluation mode serve
        return None
    finally:
        for module, flag in flags.items():
            module.training = flag


def _put_out_logits_alone(graph: fx.Graph) -> bool:
    """Drop what a network returns behind its logits, such as auxiliary ones; whether it returns logits first."""
    output = next(iter(reversed(graph.nodes)))
    found = output.args[0]
    if isinstance(found, tuple | list) and found:
        found = found[0]
        output.args = (found,)
        _drop_dead(graph)
    return isinstance(found, fx.Node)


def _halves(cut: _Cut, model: nn.Module) -> tuple[Features, Head, str | None]:
    nodes = list(cut.graph.nodes)
    index = nodes.index(cut.node)
    front, back = fx.Graph(), fx.Graph()
    copies: dict[fx.Node, fx.Node] = {}
    images = next(node for node in nodes if node.op == "placeholder")
    for node in nodes[: index + 1]:
        if node.op == "placeholder" and node is not images:
            continue
        copies[node] = front.node_copy(node, copies.__getitem__)
    front.output((copies[cut.node], tuple(copies[n] for n in cut.numbers)))
    again: dict[fx.Node, fx.Node] = {cut.node: back.placeholder("features")}
    numbers = back.placeholder("numbers")
    for position, node in enumerate(cut.numbers):
        again[node] = back.call_function(operator.getitem, (numbers, position))
    depends = _depends_on_image(nodes)
    for node in nodes:
        if node not in again and (node not in depends or nodes.index(node) > index) and node.op != "placeholder":
            again[node] = back.node_copy(node, again.__getitem__)
    for graph in (front, back):
        _drop_dead(graph)
    return _function(front), _function(back), _classifier_of(back, model)


def _function(graph: fx.Graph) -> Callable[..., Any]:
    """The graph as a function of the network: it looks up modules there, so copies and replicas use their own."""
    code = graph.python_code("self")
    names = dict(code.globals)
    exec(compile(code.src, "<interp_core.backbone.partition>", "exec"), names)
    return names["forward"]


def _classifier_of(graph: fx.Graph, model: nn.Module) -> str | None:
    """The last linear layer of a head, by name."""
    names = [str(node.target) for node in graph.nodes if node.op == "call_module"]
    layers = [name for name in names if isinstance(model.get_submodule(name), nn.Linear | nn.Conv2d)]
    for name in reversed(names):
        inner = [f"{name}.{part}" for part, m in model.get_submodule(name).named_modules() if isinstance(m, nn.Linear)]
        if inner or name in layers:
            return name if name in layers else inner[-1]
    return None
