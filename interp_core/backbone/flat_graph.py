"""A network that does not learn made quicker: the same function as a flat graph, norms folded into its convolutions.

torch.export writes down what the network does in evaluation mode, LAP's gates and all. A batch norm behind a
convolution is then an affine map of its channels and goes into the convolution's weights; what is left runs
channels-last. The graph is tried beside the network before it takes its place: if it cannot be made, or its logits are
off by more than `TOLERANCE`, there is none.

Known limit: folding rounds otherwise, logits differ in the last digits of float32.
"""

from __future__ import annotations

import logging
import warnings
from copy import deepcopy
from typing import Any

import torch
from torch import Tensor, fx, nn
from torch.nn.utils.fusion import fuse_conv_bn_weights

aten = torch.ops.aten

# Of the largest logit; metrics of the two engines are held to 1e-4 of each other.
TOLERANCE = 1e-5
PROBES = 3
_CONVOLUTIONS = (aten.conv2d.default, aten.conv2d.padding)

_log = logging.getLogger(__name__)


def flat(model: nn.Module, image: Tensor) -> nn.Module | None:
    """The network as a quicker module, which holds weights of its own; None where none can be made.

    Args:
        model: network in evaluation mode; it stays as it is.
        image: (1, C, H, W) on its device.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(PROBES, *image.shape[1:], generator=generator).to(image)
    noise = noise.contiguous(memory_format=torch.channels_last)
    try:
        # A copy, since the graph holds the network's own parameters.
        made = folded(deepcopy(exported(model, noise))).to(memory_format=torch.channels_last)  # type: ignore[call-overload]
        with torch.no_grad():
            wanted, found = model(noise), made(noise)
    except Exception as error:  # exporters fail in ways of their own, and the network itself will do
        _log.info("%s is run as it is: %s", type(model).__name__, error)
        return None
    close = (wanted - found).abs().max() <= TOLERANCE * wanted.abs().max()
    return made if bool(close) else None


def exported(model: nn.Module, images: Tensor) -> fx.GraphModule:
    """The network in evaluation mode as a graph of plain operations that takes any number of images."""
    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(model, (images,), dynamic_shapes=({0: batch},), strict=False)
        return program.module(check_guards=False)  # type: ignore[return-value]


def folded(graph: fx.GraphModule) -> fx.GraphModule:
    """The graph with every batch norm that follows a convolution alone folded into it; changed in place."""
    for node in list(graph.graph.nodes):
        if node.op == "call_function" and node.target is aten.batch_norm.default:
            source = node.args[0]
            alone = source.op == "call_function" and source.target in _CONVOLUTIONS and len(source.users) == 1
            if alone and all(_is_weight(argument) for argument in (*source.args[1:2], *node.args[1:5])):
                _fold(graph, source, node)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def _is_weight(argument: object) -> bool:
    return argument is None or (isinstance(argument, fx.Node) and argument.op == "get_attr")


def _fold(graph: fx.GraphModule, convolution: fx.Node, norm: fx.Node) -> None:
    bias = convolution.args[2] if len(convolution.args) > 2 else None
    weight, shift = (None if node is None else _value(graph, node) for node in (convolution.args[1], bias))
    gamma, beta, mean, variance = (None if node is None else _value(graph, node) for node in norm.args[1:5])
    assert weight is not None
    assert mean is not None
    assert variance is not None
    new = fuse_conv_bn_weights(weight, shift, mean, variance, float(norm.args[7]), gamma, beta)  # type: ignore[arg-type]
    with graph.graph.inserting_before(convolution):
        names = [f"folded_{convolution.name}_{part}" for part in ("weight", "bias")]
        for name, value in zip(names, new, strict=True):
            graph.register_buffer(name, value.detach())
        nodes = [graph.graph.get_attr(name) for name in names]
    convolution.args = (convolution.args[0], *nodes, *convolution.args[3:])
    norm.replace_all_uses_with(convolution)
    graph.graph.erase_node(norm)


def _value(graph: fx.GraphModule, node: Any) -> Tensor:
    found: Any = graph
    for part in str(node.target).split("."):
        found = getattr(found, part)
    return found
