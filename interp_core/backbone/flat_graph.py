"""Fold a network in evaluation mode into a flat graph that runs faster.

torch.export traces the network, including LAP's gates. A batch norm behind a convolution is an affine map of channels
in evaluation mode, so that it can be folded into the convolution's weights. The graph runs channels-last. It is
compared with the network first, and is not used if its logits differ by more than `TOLERANCE`.

Limit: folding rounds differently, so that logits differ in the last digits of float32.
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

# Relative to the largest logit. Metrics of the two engines may differ by 1e-4.
TOLERANCE = 1e-5
PROBES = 3
_CONVOLUTIONS = (aten.conv2d.default, aten.conv2d.padding)

_log = logging.getLogger(__name__)


def flat(model: nn.Module, image: Tensor) -> nn.Module | None:
    """Return the network as a faster module with its own weights.

    None if it cannot be folded.

    Args:
        model: network in evaluation mode, which is not changed.
        image: (1, C, H, W) on its device.
    """
    generator = torch.Generator().manual_seed(0)
    noise = torch.randn(PROBES, *image.shape[1:], generator=generator).to(image)
    noise = noise.contiguous(memory_format=torch.channels_last)
    try:
        # A copy, since the graph holds the network's own parameters.
        graph = fold_norms(deepcopy(export(model, noise))).to(memory_format=torch.channels_last)
        with torch.no_grad():
            expected, logits = model(noise), graph(noise)
    except Exception as error:  # exporters may raise anything, and the network itself can be used
        _log.info("%s is run as it is: %s", type(model).__name__, error)
        return None
    is_close = (expected - logits).abs().max() <= TOLERANCE * expected.abs().max()
    return graph if bool(is_close) else None


def export(model: nn.Module, images: Tensor) -> fx.GraphModule:
    """Export the network as a graph of plain operations.

    It takes any number of images.
    """
    batch = torch.export.Dim("batch", min=1, max=1 << 20)
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        program = torch.export.export(model, (images,), dynamic_shapes=({0: batch},), strict=False)
        return program.module(check_guards=False)


def fold_norms(graph: fx.GraphModule) -> fx.GraphModule:
    """Fold batch norms into the convolutions before them, in place.

    A convolution whose output has another use stays.
    """
    for node in list(graph.graph.nodes):
        if node.op == "call_function" and node.target is aten.batch_norm.default:
            source = node.args[0]
            is_only_user = len(source.users) == 1
            is_convolution = source.op == "call_function" and source.target in _CONVOLUTIONS
            weights = (*source.args[1:2], *node.args[1:5])
            if is_convolution and is_only_user and all(_is_weight(argument) for argument in weights):
                _fold_norm(graph, source, node)
    graph.graph.eliminate_dead_code()
    graph.delete_all_unused_submodules()
    graph.recompile()
    return graph


def _is_weight(argument: object) -> bool:
    return argument is None or (isinstance(argument, fx.Node) and argument.op == "get_attr")


def _fold_norm(graph: fx.GraphModule, convolution: fx.Node, norm: fx.Node) -> None:
    bias = convolution.args[2] if len(convolution.args) > 2 else None
    weight, shift = (None if node is None else _value(graph, node) for node in (convolution.args[1], bias))
    gamma, beta, mean, variance = (None if node is None else _value(graph, node) for node in norm.args[1:5])
    assert weight is not None
    assert mean is not None
    assert variance is not None
    folded = fuse_conv_bn_weights(weight, shift, mean, variance, float(norm.args[7]), gamma, beta)  # type: ignore[arg-type]
    with graph.graph.inserting_before(convolution):
        names = [f"folded_{convolution.name}_{kind}" for kind in ("weight", "bias")]
        for name, value in zip(names, folded, strict=True):
            graph.register_buffer(name, value.detach())
        nodes = [graph.graph.get_attr(name) for name in names]
    convolution.args = (convolution.args[0], *nodes, *convolution.args[3:])
    norm.replace_all_uses_with(convolution)
    graph.graph.erase_node(norm)


def _value(graph: fx.GraphModule, node: Any) -> Tensor:
    value: Any = graph
    for name in str(node.target).split("."):
        value = getattr(value, name)
    assert isinstance(value, Tensor)
    return value
