"""The running forward pass of a LAP model, and the hooks on the backbone that take part in it.

Nothing can be passed to a hook but the tensors of its module. So hooks look up the pass that runs in their thread, and
do nothing where there is none. They hold no block, so that replicas of a model use their own blocks.

The pass is kept in a thread-local variable and not in a `ContextVar`, since torch.compile cannot set the latter.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any, Self

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle

from interp_core.backbone.sites import Site
from interp_core.lap.recording import Recording

_thread = threading.local()


def current_pass() -> ForwardPass | None:
    """Return the pass that runs in this thread."""
    return getattr(_thread, "forward_pass", None)


@dataclass
class ForwardPass:
    """A pass through the backbone.

    As a context manager it becomes the current pass of this thread.

    Attributes:
        sites: where the backbone is gated.
        gates: one block per site.
        tapped: levels that contributions are carried to.
        recording: where results are recorded, if anywhere.
        gate_calls: number of gates applied so far.
    """

    sites: tuple[Site, ...]
    gates: nn.ModuleList
    tapped: tuple[Site, ...]
    recording: Recording | None
    gate_calls: int = 0
    _outer: ForwardPass | None = None

    def __enter__(self) -> Self:
        self._outer = current_pass()
        _thread.forward_pass = self
        return self

    def __exit__(self, *_exception: object) -> None:
        _thread.forward_pass = self._outer

    def gate(self, index: int, features: Tensor) -> Tensor:
        """Apply the gate of a site.

        Features have the layout of its module.
        """
        self.gate_calls += 1
        gate = partial(self.gates[index], recording=self.recording)
        return self.sites[index].layout.apply(gate, features)

    def tap(self, index: int, features: Tensor) -> None:
        """Record the features of a level that contributions are carried to."""
        if self.recording is not None:
            site = self.tapped[index]
            self.recording.taps[site.module] = site.layout.to_map(features)


@dataclass(frozen=True)
class _Hook:
    index: int


class _OutputGate(_Hook):
    """Forward hook that gates what a module puts out."""

    def __call__(self, _module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> Tensor | None:
        forward_pass = current_pass()
        return None if forward_pass is None else forward_pass.gate(self.index, output)


class _InputGate(_Hook):
    """Forward pre-hook that gates what goes into a module."""

    def __call__(self, _module: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...] | None:
        forward_pass = current_pass()
        return None if forward_pass is None else (forward_pass.gate(self.index, inputs[0]), *inputs[1:])


class _OutputTap(_Hook):
    """Forward hook that records what a module puts out."""

    def __call__(self, _module: nn.Module, _inputs: tuple[Any, ...], output: Tensor) -> None:
        forward_pass = current_pass()
        if forward_pass is not None:
            forward_pass.tap(self.index, output)


class _InputTap(_Hook):
    """Forward pre-hook that records what goes into a module."""

    def __call__(self, _module: nn.Module, inputs: tuple[Any, ...]) -> None:
        forward_pass = current_pass()
        if forward_pass is not None:
            forward_pass.tap(self.index, inputs[0])


def register_hooks(backbone: nn.Module, sites: tuple[Site, ...], tapped: tuple[Site, ...]) -> list[RemovableHandle]:
    """Put the hooks of all taps and gates on the backbone.

    Taps come first, so that they see the features before a gate at the same module.

    Args:
        backbone: the network.
        sites: where it is gated.
        tapped: levels that contributions are carried to.
    """
    taps = [_register(backbone, site, _InputTap(i), _OutputTap(i)) for i, site in enumerate(tapped)]
    gates = [_register(backbone, site, _InputGate(i), _OutputGate(i)) for i, site in enumerate(sites)]
    return [*taps, *gates]


def _register(
    backbone: nn.Module, site: Site, input_hook: Callable[..., Any], output_hook: Callable[..., Any]
) -> RemovableHandle:
    module = backbone.get_submodule(site.module)
    if site.before:
        return module.register_forward_pre_hook(input_hook)
    return module.register_forward_hook(output_hook)


def has_hooks(model: nn.Module) -> bool:
    """Return whether the model or a part of it has hooks."""
    return any(
        isinstance(hook, _Hook)
        for module in model.modules()
        for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
    )
