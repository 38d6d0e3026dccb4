"""Trace the outputs of a network's modules through one forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode, and restore the flag of every module on exit."""
    training_modules = [module for module in model.modules() if module.training]
    if training_modules:
        model.eval()
    try:
        yield
    finally:
        for module in training_modules:
            module.training = True


class Trace:
    """Inputs and outputs of a network's modules in one forward pass.

    Attributes:
        modules: the modules by dotted name.
        outputs: last output of each module that takes and returns a tensor, in the order in which modules end.
        inputs: the inputs that belong to `outputs`.
        calls: number of calls of each module.
        features: last feature map, set by the caller.
        sizes: numbers that the head needs besides, set by the caller.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules = {name: module for name, module in model.named_modules() if name}
        self.clear()

    def clear(self) -> None:
        """Forget everything recorded."""
        self.outputs: dict[str, Tensor] = {}
        self.inputs: dict[str, Tensor] = {}
        self.calls: Counter[str] = Counter()
        self.features: Tensor = torch.empty(0)
        self.sizes: tuple[Any, ...] = ()

    def _hook_of(self, name: str) -> Callable[[nn.Module, tuple[Any, ...], object], None]:
        def hook(_module: nn.Module, inputs: tuple[Any, ...], output: object) -> None:
            self.calls[name] += 1
            if isinstance(output, Tensor) and inputs and isinstance(inputs[0], Tensor):
                self.outputs.pop(name, None)
                self.inputs[name], self.outputs[name] = inputs[0], output

        return hook

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Record the forward pass made inside."""
        handles = [module.register_forward_hook(self._hook_of(name)) for name, module in self.modules.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def source_of(self, tensor: Tensor) -> str:
        """Return the outermost module whose output is this very tensor.

        "" if there is none.
        """
        names = [name for name, output in self.outputs.items() if output is tensor]
        return min(names, key=lambda name: name.count("."), default="")

    def is_called_once(self, name: str) -> bool:
        """Return whether the module was called exactly once.

        Its name then stands for one point of the network.
        """
        return self.calls[name] == 1

    def is_in_branch(self, name: str) -> bool:
        """Return whether the module may be in one of several branches.

        That is where it works at the resolution of the block's input. Plain sequences have no branches.
        """
        side, path = self.outputs[name].shape[-1], name.split(".")
        outer = [".".join(path[:depth]) for depth in range(1, len(path))]
        return any(
            self.inputs[block].ndim == 4
            and self.inputs[block].shape[-1] == side > self.outputs[block].shape[-1]
            and type(self.modules[block]).forward is not nn.Sequential.forward
            for block in outer
            if block in self.outputs
        )

    def shrinkers(self, size: int) -> list[tuple[nn.Module, int]]:
        """Return the leaf modules that shrink a map of side `size`.

        Each comes with the side of its output.
        """
        return [(self.modules[name], after) for name, after in self.shrinking_modules(size)]

    def shrinking_modules(self, size: int) -> list[tuple[str, int]]:
        """Return the names of the modules that `shrinkers` returns.

        Maps are (N, C, h, w).
        """
        return [
            (name, output.shape[-1])
            for name, output in self.outputs.items()
            if self.inputs[name].ndim == output.ndim == 4
            and self.inputs[name].shape[-1] == size > output.shape[-1]
            and not list(self.modules[name].children())
        ]


def noise_image(model: nn.Module, channels: int, side: tuple[int, int]) -> Tensor:
    """Return one image of noise on the model's device.

    A constant image could hide that a head is not linear.
    """
    parameter = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, channels, *side, generator=generator).to(parameter)
