"""Grids of a network's maps at any size of the image.

Strided operations keep the pitch of cells in pixels. Adaptive pooling and resizing inside a network keep their number.
So a grid is found by a pass of one noise image of the size at hand, once per size. Where the operations are such that
the grid is the same at any size, and a second image of another size has confirmed it, no pass is needed.

Limit: an export with free image sizes has the grid of the probe.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, TypeVar
from weakref import ref

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import _disable_current_modes

from interp_core.backbone.geometry import CellGrid
from interp_core.backbone.layout import Layout
from interp_core.backbone.partition import Features
from interp_core.backbone.positions import PositionTrace, grid_of, is_fixed
from interp_core.backbone.trace import Side, evaluating, noise_image
from interp_core.errors import ContractError, one_line

LAST = ""  # key of the last feature map
Function = TypeVar("Function", bound=Callable[..., Any])


def _constant_when_compiled(function: Function) -> Function:
    """Mark a function whose results torch.compile takes as constants.

    It sets what `torch.compiler.assume_constant_result` sets, which imports the whole compiler: a third of the time to
    import this package.
    """
    function._dynamo_marked_constant = True  # type: ignore[attr-defined]
    return function


@dataclass(frozen=True)
class Point:
    """Place in a network whose features are a map.

    Attributes:
        module: dotted name of the module.
        before: whether its input is meant instead of its output.
        layout: of the features.
    """

    module: str
    before: bool
    layout: Layout


class MapGrids:
    """Grids of a network's maps, by image size.

    Args:
        model: the network, which is not kept alive.
        features: its part that ends with the last map.
        layout: layout of the last map.
        channels: number of channels of the images.
        points: places of further maps.
        size: rows and columns of the probe.
        probed: grids at that size by name, with `LAST` for the last map.
        fixed: whether their operations are the same at any size.

    Attributes:
        size: rows and columns of the probe.
        probed: grids at that size.
        fixed: whether the grids are the same at any size.
    """

    def __init__(
        self,
        model: nn.Module,
        features: Features,
        layout: Layout,
        channels: int,
        points: Sequence[Point],
        size: Side,
        probed: dict[str, CellGrid],
        fixed: bool,
    ) -> None:
        self._model: Callable[[], nn.Module | None] = ref(model)
        self._features, self._layout = features, layout
        self._channels, self._points = channels, points
        self.size, self.probed, self.fixed = size, probed, fixed
        self._by_size: dict[Side, dict[str, CellGrid]] = {}

    def __getstate__(self) -> dict[str, Any]:
        return {**self.__dict__, "_model": self._model()}

    def __setstate__(self, state: dict[str, Any]) -> None:
        model = state["_model"]
        self.__dict__.update(state, _model=(lambda: None) if model is None else ref(model))

    def at(self, name: str, size: Side) -> CellGrid:
        """Return the grid of a map.

        Args:
            name: of the module, or `LAST`.
            size: rows and columns of the image.

        Raises:
            ContractError: the network cannot take images of that size.
        """
        if self.fixed or any(isinstance(side, torch.SymInt) for side in size):
            return self.probed[name]
        first, pitch = self._axes_of(name, size[0], size[1])
        return CellGrid(first, pitch)

    @_constant_when_compiled
    def _axes_of(self, name: str, height: int, width: int) -> tuple[tuple[float, float], tuple[float, float]]:
        """Return first and pitch of a grid as numbers, which torch.compile takes as constants."""
        size = int(height), int(width)
        if size == self.size:
            grid = self.probed[name]
        else:
            if size not in self._by_size:
                self._by_size[size] = self._measure(size)[0]
            grid = self._by_size[size][name]
        return grid.first, grid.pitch

    def confirm(self) -> None:
        """Check by an image of another size whether the grids are the same at any size.

        A network that takes one size only keeps the grids of that size.
        """
        rows, columns = (max(2, round(pitch)) for pitch in self.probed[LAST].pitch)
        height, width = self.size
        size = height + rows, width - columns if width >= 3 * columns else width + columns
        try:
            grids, fixed = self._measure(size)
        except ContractError:
            return
        self._by_size[size] = grids
        self.fixed = fixed and grids == self.probed

    def _measure(self, size: Side) -> tuple[dict[str, CellGrid], bool]:
        """Return grids by name for a size, and whether their operations are the same at any size."""
        model = self._model()
        if model is None:
            raise ContractError(f"the network is gone, so that images of {size[0]} x {size[1]} pixels cannot be tried")
        grids: dict[str, CellGrid] = {}
        fixed: list[bool] = []

        def record(name: str, layout: Layout, features: Tensor) -> None:
            grids[name] = grid_of(features, layout, size)
            fixed.append(is_fixed(features))

        try:
            with _disable_current_modes(), torch.inference_mode(False), torch.no_grad(), evaluating(model):
                images = noise_image(model, self._channels, size)
                with _recording(model, self._points, record), PositionTrace(images):
                    features, _ = self._features(model, images)
                record(LAST, self._layout, features)
        except Exception as error:  # a network's own code may raise anything
            raise ContractError(
                f"{type(model).__name__} cannot take images of {size[0]} x {size[1]} pixels: "
                f"{one_line(error, limit=200)}; it was inspected with {self.size[0]} x {self.size[1]}"
            ) from error
        return grids, all(fixed)


@contextmanager
def _recording(
    model: nn.Module, points: Sequence[Point], record: Callable[[str, Layout, Tensor], None]
) -> Iterator[None]:
    """Call `record` with the features at all points, for the pass made inside."""

    def hook(point: Point) -> Callable[..., None]:
        def look(_module: nn.Module, inputs: tuple[Any, ...], output: Any = None) -> None:
            record(point.module, point.layout, inputs[0] if point.before else output)

        return look

    modules = [(model.get_submodule(point.module), point) for point in points]
    handles = [
        module.register_forward_pre_hook(hook(point)) if point.before else module.register_forward_hook(hook(point))
        for module, point in modules
    ]
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()
