"""Trace a network, and cut its graph behind the last feature map.

The cut is the last map (N, C, h, w) on which everything behind it depends, and which is all that it needs of the image
besides plain numbers. See `interp_core.backbone.partition` for a worked example.
"""

from __future__ import annotations

import inspect
import operator
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, fx, nn

from interp_core.backbone.conditions import TRACING, ConditionTracer, expect_condition
from interp_core.backbone.layout import Layout, layout_of
from interp_core.backbone.positions import PositionTrace, layout_from_trace
from interp_core.errors import one_line

_IN_PLACE = (operator.iadd, operator.isub, operator.imul, operator.itruediv)


class _ValueRecorder(fx.Interpreter):
    """Interpreter that remembers the value of every node."""

    def __init__(self, model: nn.Module, graph: fx.Graph) -> None:
        super().__init__(model, garbage_collect_values=False, graph=graph)
        self.values: dict[fx.Node, Any] = {}

    def run_node(self, n: fx.Node) -> Any:
        self.values[n] = super().run_node(n)
        return self.values[n]


@dataclass
class GraphCut:
    """The last map in a graph.

    Attributes:
        graph: trace of the network.
        expanded: names of the modules that it enters.
        node: whose value is the last map.
        sizes: nodes before it whose numbers the head needs.
        layout: of the last map.
        last_module: name of the last module whose output has the same size and is all that the logits depend on.
    """

    graph: fx.Graph
    expanded: frozenset[str]
    node: fx.Node
    sizes: tuple[fx.Node, ...]
    layout: Layout
    last_module: str = ""


def find_cut(model: nn.Module, images: Tensor) -> GraphCut | str:
    """Trace and cut the network; return why it cannot be followed where no cut is found.

    The module behind the cut is expanded as long as that may move the cut forward.
    """
    expanded: frozenset[str] = frozenset()
    cut: GraphCut | str = ""
    while True:
        try:
            deeper_cut, module_behind = _cut_graph(model, images, expanded)
        except Exception as error:  # a network's own code may raise anything; the cut found before is still valid
            return cut or one_line(error, limit=200)
        cut = deeper_cut or cut
        if module_behind is None or not list(model.get_submodule(module_behind).children()):
            return cut
        expanded = expanded | {module_behind}


def _cut_graph(model: nn.Module, images: Tensor, expanded: frozenset[str]) -> tuple[GraphCut | None, str | None]:
    """Cut the graph of the network with some modules expanded.

    Returns the cut, and the name of the module behind the last map if nothing else uses that map.
    """
    graph = trace_network(model, expanded, images)
    recorder = _ValueRecorder(model, graph)
    with PositionTrace(images):
        recorder.run(images.clone())
    nodes, values = list(graph.nodes), recorder.values
    dependent = image_dependent_nodes(nodes)
    last, cut = next(node for node in nodes if node.op == "placeholder"), None
    for index, node in enumerate(nodes):
        sizes = _sizes_across(nodes, index, dependent, values)
        if sizes is None or node not in dependent:
            continue
        layout = _map_layout(values[node])
        if layout is not None:
            last = node
            if _is_coarser(layout.to_map(values[node]), images):
                module = _module_before(node, layout.to_map(values[node]), cut, values)
                cut = GraphCut(graph, expanded, node, sizes, layout, module)
    users = list(last.users)
    is_module_behind = len(users) == 1 and users[0].op == "call_module"
    return cut, str(users[0].target) if is_module_behind else None


def _module_before(node: fx.Node, maps: Tensor, cut: GraphCut | None, values: dict[fx.Node, Any]) -> str:
    """Return the name of the last module before a cut whose output has the size of its map.

    Args:
        node: of the cut.
        maps: its map (N, C, h, w).
        cut: the cut before it.
        values: of all nodes.
    """
    if node.op == "call_module":
        return str(node.target)
    is_same_size = cut is not None and cut.layout.to_map(values[cut.node]).shape == maps.shape
    return cut.last_module if cut is not None and is_same_size else ""


def trace_network(model: nn.Module, expanded: frozenset[str], images: Tensor) -> fx.Graph:
    """Trace a network, with some of its modules entered.

    Args:
        model: the network.
        expanded: names of the modules that the trace enters; all others are leaves.
        images: (1, C, H, W), which decide conditions on sizes.
    """
    parameters = list(inspect.signature(model.forward).parameters.values())
    # Arguments of the network other than images keep their defaults.
    defaults = {p.name: p.default for p in parameters[1:] if p.default is not p.empty}
    with TRACING:
        graph = ConditionTracer(expanded, images).trace(model, defaults)
    _follow_changes_in_place(graph)
    drop_dead_code(graph)
    return graph


def drop_dead_code(graph: fx.Graph) -> None:
    """Drop the nodes of a graph that neither its result nor any effect needs."""
    graph.eliminate_dead_code(lambda node: node.op in ("placeholder", "output") or _has_effect(node))


def _has_effect(node: fx.Node) -> bool:
    """Return whether a node does something besides its result: it works in place, or checks a condition."""
    return node.target is expect_condition or _works_in_place(node)


def _works_in_place(node: fx.Node) -> bool:
    name = str(node.target if node.op == "call_method" else getattr(node.target, "__name__", ""))
    is_named_so = name.endswith("_") and not name.startswith("__")
    return is_named_so or node.target in _IN_PLACE or bool(node.kwargs.get("inplace"))


def _follow_changes_in_place(graph: fx.Graph) -> None:
    """Let later nodes use the result of a change in place, and not the tensor that was changed, which is the same."""
    index_of = {node: index for index, node in enumerate(graph.nodes)}
    for node in graph.nodes:
        source = node.args[0] if node.args and _works_in_place(node) else None
        if isinstance(source, fx.Node):
            later = {user for user in source.users if index_of[user] > index_of[node]}
            source.replace_all_uses_with(node, later.__contains__)


def image_dependent_nodes(nodes: list[fx.Node]) -> set[fx.Node]:
    """Return the nodes whose values are computed from the network's first input."""
    dependent = {next(node for node in nodes if node.op == "placeholder")}
    for node in nodes:
        if any(argument in dependent for argument in node.all_input_nodes):
            dependent.add(node)
    return dependent


def _sizes_across(
    nodes: list[fx.Node], index: int, dependent: set[fx.Node], values: dict[fx.Node, Any]
) -> tuple[fx.Node, ...] | None:
    """Return the numbers that nodes behind `nodes[index]` need besides it.

    None if they need something else than plain numbers.
    """
    index_of = {node: i for i, node in enumerate(nodes)}
    across = {
        argument: None
        for node in nodes[index + 1 :]
        for argument in node.all_input_nodes
        if index_of[argument] < index and argument in dependent
    }
    if all(isinstance(values[node], int | torch.Size) for node in across):
        return tuple(across)
    return None


def _map_layout(value: Any) -> Layout | None:
    """Return the layout of a map, or None for other values.

    A map has more than one position along both axes.
    """
    layout = layout_from_trace(value) or layout_of(value)
    if layout is None or layout.order == "NLC":
        return None
    return layout if min(layout.to_map(value).shape[-2:]) > 1 else None


def _is_coarser(maps: Tensor, images: Tensor) -> bool:
    """Return whether a map has fewer cells than the images have pixels."""
    return maps.shape[-2] * maps.shape[-1] < images.shape[-2] * images.shape[-1]
