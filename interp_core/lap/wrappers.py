"""Find a model inside its wrappers."""

from __future__ import annotations

from torch import nn

COMPILED = "_orig_mod"

# Classes that call the module inside and nothing else, and their attribute that holds it. A network of one's own may
# have an attribute of the same name, so classes are known by name and not by their attributes.
WRAPPERS = {
    "DataParallel": "module",
    "DistributedDataParallel": "module",
    "FullyShardedDataParallel": "module",
    "AveragedModel": "module",
    "DeepSpeedEngine": "module",
    "ModelEmaV2": "module",
    "ModelEmaV3": "module",
    "OptimizedModule": COMPILED,
}


def unwrap(model: nn.Module, *, keep_compiled: bool = False) -> nn.Module:
    """Return the model inside wrappers of parallel training and of `torch.compile`, whatever their class.

    Args:
        model: a wrapped or plain model.
        keep_compiled: whether to stop at a compiled model.
    """
    for name in ("module",) if keep_compiled else ("module", COMPILED):
        inner = getattr(model, name, None)
        if isinstance(inner, nn.Module):
            return unwrap(inner, keep_compiled=keep_compiled)
    return model


def take_off_wrappers(model: nn.Module) -> nn.Module:
    """Return the network inside wrappers that compute nothing of their own.

    A network of one's own, which prepares its images for its attribute `module`, is no such wrapper.
    """
    names = {base.__name__ for base in type(model).__mro__}
    for wrapper, attribute in WRAPPERS.items():
        inner = getattr(model, attribute, None) if wrapper in names else None
        if isinstance(inner, nn.Module):
            return take_off_wrappers(inner)
    return model
