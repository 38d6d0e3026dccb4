"""Choose the fastest engine at hand for passes of a network without gradient.

In this order: OpenVINO on a CPU (`openvino_graph`), the flat graph (`flat_graph`), the network itself. An engine is
compared with the network on noise and on the first images, and is used only if its logits agree. The choice is made
once for the present weights and the size of the images.

Passes with a gradient of the images run by the flat graph, where a caller makes many of them
(`differentiable_network_of`).

The environment variable INTERP_BENCH_RUNTIME forbids the faster ones: "flat" all but the flat graph and the network,
"network" all but the network.

Limit: logits differ in the last digits of float32 between engines.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import Tensor, nn

from interp_core.backbone import openvino_graph
from interp_core.backbone.attempt import dtype_of
from interp_core.backbone.copies import tensor_states
from interp_core.backbone.flat_graph import flat
from interp_core.errors import ContractError, one_line

VARIABLE = "INTERP_BENCH_RUNTIME"
# Largest difference of a logit, relative to the largest logit.
TOLERANCE = 1e-4
PROBES = 3
FIRST_IMAGES = 2

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Runtime:
    """The engine that was chosen for a network.

    Attributes:
        name: "openvino", "flat" or "network".
        module: from images (N, C, H, W) to logits (N, K); None for the network itself, which a cache must not hold.
        refused: why each faster engine is not used, by its name.
    """

    name: str
    module: nn.Module | None
    refused: dict[str, str]


_runtimes: WeakKeyDictionary[nn.Module, tuple[Any, Runtime]] = WeakKeyDictionary()
_differentiable: WeakKeyDictionary[nn.Module, tuple[Any, nn.Module | None]] = WeakKeyDictionary()


def fast_network_of(model: nn.Module, images: Tensor) -> nn.Module:
    """Return the fastest module with the same function as the network, without gradient.

    Args:
        model: network in evaluation mode, which is not changed.
        images: (N, C, H, W) on its device, the first ones that it gets.
    """
    return runtime_of(model, images).module or model


def runtime_of(model: nn.Module, images: Tensor) -> Runtime:
    """Return the engine for a network, chosen once for its present weights and the size of the images.

    Raises:
        ContractError: the environment variable names no engine.
    """
    state = _state(model, images)
    if model not in _runtimes or _runtimes[model][0] != state:
        _runtimes[model] = state, _choose(model, images[:FIRST_IMAGES], _allowed())
    return _runtimes[model][1]


def differentiable_network_of(model: nn.Module, images: Tensor) -> nn.Module:
    """Return the fastest module with the same function, and with a gradient of the images but not of the weights.

    It takes seconds to make, so it is for callers that make many passes.

    Args:
        model: network in evaluation mode, which is not changed.
        images: (N, C, H, W) on its device.
    """
    state = _state(model, images)
    if model not in _differentiable or _differentiable[model][0] != state:
        graph = flat(model, images[:1].detach()) if "flat" in _allowed() else None
        _differentiable[model] = state, None if graph is None else graph.requires_grad_(False)
    return _differentiable[model][1] or model


def _state(model: nn.Module, images: Tensor) -> tuple[Any, ...]:
    """Return what the choice of an engine depends on."""
    return tensor_states(model), tuple(images.shape[1:]), images.device, _allowed()


def _allowed() -> tuple[str, ...]:
    """Return the names of the engines that may be used, the fastest first."""
    names = tuple(_ENGINES)
    value = os.environ.get(VARIABLE, names[0])
    if value not in (*names, "network"):
        raise ContractError(f"{VARIABLE} must be one of {', '.join((*names, 'network'))}, got {value!r}")
    return names[names.index(value) :] if value in names else ()


def _choose(model: nn.Module, images: Tensor, names: tuple[str, ...]) -> Runtime:
    refused: dict[str, str] = {}
    for name in names:
        engine = _ENGINES[name](model, images)
        if not isinstance(engine, str):
            return Runtime(name, engine, refused)
        refused[name] = engine
        _log.info("%s does not run by %s: %s", type(model).__name__, name, engine)
    return Runtime("network", None, refused)


def _by_openvino(model: nn.Module, images: Tensor) -> nn.Module | str:
    """Return the network by OpenVINO, or why not."""
    if not openvino_graph.is_installed():
        return "it is not installed"
    if images.device.type != "cpu" or dtype_of(model) != torch.float32 or images.dtype != torch.float32:
        return "it takes networks in single precision on a CPU"
    noise = _noise(images)
    try:
        graph = openvino_graph.convert(model, noise[:2].clone())
        return graph if _agrees(model, graph, noise) and _agrees(model, graph, images) else "its logits differ"
    except Exception as error:  # converters may raise anything, and another engine can be used
        return one_line(error)


def _by_flat_graph(model: nn.Module, images: Tensor) -> nn.Module | str:
    """Return the network as a flat graph, or why not."""
    return flat(model, images[:1]) or "it cannot be exported, or its logits differ"


def _noise(images: Tensor) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randn(PROBES, *images.shape[1:], generator=generator).to(images)


@torch.no_grad()
def _agrees(model: nn.Module, engine: nn.Module, images: Tensor) -> bool:
    """Return whether logits are equal up to `TOLERANCE`."""
    # Copies, since a network may work in place on its images.
    expected, logits = model(images.clone()), engine(images.clone())
    is_close = (expected - logits).abs().max() <= TOLERANCE * expected.abs().max()
    return logits.shape == expected.shape and bool(is_close)


# The fastest first.
_ENGINES: dict[str, Callable[[nn.Module, Tensor], nn.Module | str]] = {
    "openvino": _by_openvino,
    "flat": _by_flat_graph,
}
