"""Base of the modules that stand around a network of a user, and the network's name for messages."""

from __future__ import annotations

from torch import nn


class Shell(nn.Module):
    """Module around a network, with its parameters and mode.

    Args:
        network: the network inside.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.training = getattr(network, "training", False)


def name_of(model: nn.Module) -> str:
    """Return the class name of a network, also inside a shell."""
    return name_of(model.network) if isinstance(model, Shell) else type(model).__name__
