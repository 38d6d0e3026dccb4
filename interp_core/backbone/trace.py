"""One forward pass watched from outside: which module put out what, and in which order."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Evaluation mode inside; afterwards every module has the flag it had."""
    flags = [(module, True) for module in model.modules() if module.training]
    if flags:
        model.eval()
    try:
        yield
    finally:
        for module, flag in flags:
            module.training = flag


class Trace:
    """Shapes and outputs that passed through the modules of one forward pass.

    Attributes:
        modules: by dotted name.
        outputs: what each module put out last, in the order in which modules ended; tensors only.
        inputs: what went in, where that was a tensor.
        calls: how often each module was called.
        found: the features that came out at the end, and the numbers their head needs.
    """

    def __init__(self, model: nn.Module) -> None:
        self.modules = {name: module for name, module in model.named_modules() if name}
        self.clear()

    def clear(self) -> None:
        """Forget what was seen."""
        self.outputs: dict[str, Tensor] = {}
        self.inputs: dict[str, Tensor] = {}
        self.calls: Counter[str] = Counter()
        self.found: tuple[Tensor, tuple] = torch.empty(0), ()

    def _watch(self, name: str) -> Callable[[nn.Module, tuple, object], None]:
        def hook(_module: nn.Module, inputs: tuple, output: object) -> None:
            self.calls[name] += 1
            if isinstance(output, Tensor) and inputs and isinstance(inputs[0], Tensor):
                self.outputs.pop(name, None)
                self.inputs[name], self.outputs[name] = inputs[0], output

        return hook

    @contextmanager
    def watching(self) -> Iterator[None]:
        """Watch the forward pass made inside."""
        handles = [module.register_forward_hook(self._watch(name)) for name, module in self.modules.items()]
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    def source_of(self, tensor: Tensor) -> str:
        """Outermost module that put out this very tensor; "" if none did."""
        names = [name for name, output in self.outputs.items() if output is tensor]
        return min(names, key=lambda name: name.count("."), default="")

    def once(self, name: str) -> bool:
        """Whether the module was called exactly once; one that serves in several places is no place."""
        return self.calls[name] == 1

    def is_inside_step(self, name: str) -> bool:
        """Whether the module works on the input side of a block that shrinks maps, where it may be one way of several.

        Blocks that are plain sequences have one way.
        """
        side, parts = self.outputs[name].shape[-1], name.split(".")
        outer = [".".join(parts[:depth]) for depth in range(1, len(parts))]
        return any(
            self.inputs[block].ndim == 4
            and self.inputs[block].shape[-1] == side > self.outputs[block].shape[-1]
            and type(self.modules[block]).forward is not nn.Sequential.forward
            for block in outer
            if block in self.outputs
        )

    def shrinkers(self, size: int) -> list[tuple[nn.Module, int]]:
        """Leaf modules that take a map of side `size` to a smaller one, with its side."""
        return [(self.modules[name], after) for name, after in self.shrinking(size)]

    def shrinking(self, size: int) -> list[tuple[str, int]]:
        """Names of the leaf modules that take a map (N, C, h, w) of side `size` to a smaller one, with its side."""
        return [
            (name, output.shape[-1])
            for name, output in self.outputs.items()
            if self.inputs[name].ndim == output.ndim == 4
            and self.inputs[name].shape[-1] == size > output.shape[-1]
            and not list(self.modules[name].children())
        ]


def noise_image(model: nn.Module, channels: int, side: tuple[int, int]) -> Tensor:
    """One image of noise, on the model's device; noise, since equal images could hide a head that is not linear."""
    parameter = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, channels, *side, generator=generator).to(parameter)
