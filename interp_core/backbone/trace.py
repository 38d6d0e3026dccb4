"""Trace the outputs of a network's modules through one forward pass."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from interp_core.backbone.compiled import set_evaluation_mode
from interp_core.backbone.positions import PositionTrace

Side = tuple[int, int]  # rows and columns


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """Set evaluation mode, and restore the flag of every module on exit."""
    training_modules = [module for module in model.modules() if getattr(module, "training", False)]
    if training_modules:
        set_evaluation_mode(model)
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
    def watching(self, images: Tensor | None = None) -> Iterator[None]:
        """Record the forward pass made inside.

        Args:
            images: if given, the positions of their pixels are followed; see `interp_core.backbone.positions`.
        """
        handles = [module.register_forward_hook(self._hook_of(name)) for name, module in self.modules.items()]
        try:
            with nullcontext() if images is None else PositionTrace(images):
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
        side, path = side_of(self.outputs[name]), name.split(".")
        outer = [".".join(path[:depth]) for depth in range(1, len(path))]
        return any(
            self.inputs[block].ndim == 4
            and side_of(self.inputs[block]) == side
            and is_smaller(side_of(self.outputs[block]), side)
            and type(self.modules[block]).forward is not nn.Sequential.forward
            for block in outer
            if block in self.outputs
        )

    def shrinking_modules(self, side: Side) -> list[tuple[str, Side]]:
        """Return the names of the leaf modules that shrink a map of some rows and columns.

        Each comes with rows and columns of its output. Maps are (N, C, h, w).
        """
        return [
            (name, side_of(output))
            for name, output in self.outputs.items()
            if self.inputs[name].ndim == output.ndim == 4
            and side_of(self.inputs[name]) == side
            and is_smaller(side_of(output), side)
            and not list(self.modules[name].children())
        ]


def side_of(maps: Tensor) -> Side:
    """Return rows and columns of a map (N, C, h, w)."""
    return maps.shape[-2], maps.shape[-1]


def is_smaller(side: Side, other: Side) -> bool:
    """Return whether a map is smaller than another along one axis at least, and larger along none."""
    return side != other and side[0] <= other[0] and side[1] <= other[1]


def noise_image(model: nn.Module, channels: int, side: tuple[int, int]) -> Tensor:
    """Return one image of noise on the model's device.

    A constant image could hide that a head is not linear.
    """
    parameter = next((p for p in model.parameters() if p.is_floating_point()), torch.zeros(()))
    generator = torch.Generator().manual_seed(0)
    return torch.randn(1, channels, *side, generator=generator).to(parameter)
