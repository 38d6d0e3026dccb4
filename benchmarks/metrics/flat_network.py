"""Flat graphs of the networks that are judged, cached for their present weights."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from interp_core.backbone.copies import tensor_states
from interp_core.backbone.flat_graph import flat

# None means "use the network itself". Storing it as a value would keep the weak key alive.
_graphs: WeakKeyDictionary[nn.Module, tuple[Any, nn.Module | None]] = WeakKeyDictionary()


def flat_network_of(model: nn.Module, image: Tensor) -> nn.Module:
    """Return a faster module with the same function as the network.

    It is built once for the present weights. If none can be built, the network itself is returned.

    Args:
        model: network in evaluation mode.
        image: (1, C, H, W) on its device.
    """
    weights = tensor_states(model)
    state = weights, tuple(image.shape[1:]), image.device
    if model not in _graphs or _graphs[model][0] != state:
        _graphs[model] = state, flat(model, image)
    return _graphs[model][1] or model
