"""Find a model inside its wrappers."""

from __future__ import annotations

from torch import nn


def unwrap(model: nn.Module, *, keep_compiled: bool = False) -> nn.Module:
    """Return the model inside wrappers of parallel training and of `torch.compile`.

    Args:
        model: a wrapped or plain model.
        keep_compiled: whether to stop at a compiled model.
    """
    for name in ("module",) if keep_compiled else ("module", "_orig_mod"):
        inner = getattr(model, name, None)
        if isinstance(inner, nn.Module):
            return unwrap(inner, keep_compiled=keep_compiled)
    return model
