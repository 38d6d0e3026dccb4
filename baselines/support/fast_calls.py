"""Run the calls of a network by the fastest engine, unseen by the explainer that makes them.

A call is taken over if it brings a large batch, without gradient, and if nothing inside the network is hooked, replaced
or watched. All other calls run the network itself. What is taken over depends on the call alone, so that maps do not
depend on earlier ones. Hooks of the network itself, which count passes, run in any case.

Where many images will be explained, calls with a gradient of the images are taken over, too.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.overrides import _len_torch_function_stack
from torch.utils._python_dispatch import _len_torch_dispatch_stack

from interp_core.backbone.runtime import differentiable_network_of, fast_network_of

# Smaller batches are single looks at images, which would not pay for the time that choosing an engine takes.
LEAST_IMAGES = 16
LEAST_PIXELS = 32 * 64 * 64


@contextmanager
def fast_calls(network: nn.Module, *, many: bool = False) -> Iterator[None]:
    """Take over calls of a network inside the block; see the module.

    Args:
        network: in evaluation mode.
        many: whether many images will be explained, so that an engine for gradients pays.
    """
    if isinstance(network, torch.jit.ScriptModule):
        yield
        return
    modules = tuple(network.modules())

    def call(*inputs: Any, **options: Any) -> Any:
        images = inputs[0] if len(inputs) == 1 and not options else None
        if not isinstance(images, Tensor) or not _pays(images, many) or _is_watched(network, modules):
            return network._call_impl(*inputs, **options)
        choose = differentiable_network_of if torch.is_grad_enabled() else fast_network_of
        with _without_hooks(network), _replaced(network, "_compiled_call_impl", None):
            engine = choose(network, images)
        if engine is network:
            return network._call_impl(images)
        with _replaced(network, "forward", engine.forward):
            return network._call_impl(images)

    # The attribute that `nn.Module.compile` sets. Copies of the network do not inherit it.
    with _replaced(network, "_compiled_call_impl", call):
        yield


def _pays(images: Tensor, many: bool) -> bool:
    """Return whether an engine for a batch pays."""
    if torch.is_grad_enabled():
        return many and images.ndim == 4
    if images.ndim != 4 or len(images) < LEAST_IMAGES:
        return False
    return len(images) * images.shape[-2] * images.shape[-1] >= LEAST_PIXELS


def _is_watched(network: nn.Module, modules: tuple[nn.Module, ...]) -> bool:
    """Return whether something would notice that the network's own layers do not run, or has changed them."""
    if _len_torch_function_stack() or _len_torch_dispatch_stack():
        return True
    present = tuple(network.modules())
    if len(present) != len(modules) or any(a is not b for a, b in zip(present, modules, strict=True)):
        return True
    inner = [module for module in present if module is not network]
    return network.training or any(
        module._forward_hooks or module._forward_pre_hooks or "forward" in vars(module) for module in inner
    )


@contextmanager
def _without_hooks(network: nn.Module) -> Iterator[None]:
    """Take the hooks of the network itself off, so that they do not see the passes that choose its engine."""
    hooks = [network._forward_hooks, network._forward_pre_hooks]
    before = [dict(each) for each in hooks]
    for each in hooks:
        each.clear()
    try:
        yield
    finally:
        for each, values in zip(hooks, before, strict=True):
            each.update(values)


@contextmanager
def _replaced(network: nn.Module, name: str, value: Any) -> Iterator[None]:
    """Give a network an attribute of its own, and restore the one it had."""
    own = vars(network)
    before = own.get(name, own)  # the dictionary stands for "none"
    own[name] = value
    try:
        yield
    finally:
        del own[name]
        if before is not own:
            own[name] = before
