"""Cache flat graphs of the networks that are being judged, each for its present weights."""

from __future__ import annotations

from typing import Any
from weakref import WeakKeyDictionary

from torch import Tensor, nn

from interp_core.backbone.flat_graph import flat

# None where the network itself is used: held as a value it would keep its own entry alive.
_made: WeakKeyDictionary[nn.Module, tuple[Any, nn.Module | None]] = WeakKeyDictionary()


def flat_network_of(model: nn.Module, image: Tensor) -> nn.Module:
    """The network as a quicker module, or itself where none can be made; made once for its present weights.

    Args:
        model: network in evaluation mode.
        image: (1, C, H, W) on its device.
    """
    weights = tuple((id(tensor), tensor._version) for tensor in (*model.parameters(), *model.buffers()))
    state = weights, tuple(image.shape[1:]), image.device
    if model not in _made or _made[model][0] != state:
        _made[model] = state, flat(model, image)
    return _made[model][1] or model
