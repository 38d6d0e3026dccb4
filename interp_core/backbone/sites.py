"""Find the modules behind which a network loses resolution: the sites of LAP's gates.

A network that follows timm's protocol names them (`feature_info`). In any other network they are searched in the order
of its calls.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import pairwise

from torch import nn

from interp_core.backbone.geometry import CellGrid
from interp_core.backbone.grids import MapGrids
from interp_core.backbone.layout import Layout, layout_of
from interp_core.backbone.positions import layout_from_trace
from interp_core.backbone.trace import Side, Trace, is_smaller, side_of

MAP = Layout()


@dataclass(frozen=True)
class Site:
    """A module behind which the network loses resolution.

    Attributes:
        module: dotted name of the module.
        before: whether to gate the module's input (it is an average pooling, which becomes LAP) instead of its output.
        channels: number of channels of the gated features.
        window: stride of the operation that follows; a pair where it differs by axis.
        reduction: input pixels per position of the gated features, for the probe; the geometric mean of both axes.
        layout: layout of the gated features.
        grids: grids of the network's maps.
    """

    module: str
    before: bool
    channels: int
    window: int | tuple[int, int]
    reduction: int
    layout: Layout = MAP
    grids: MapGrids | None = field(default=None, repr=False, compare=False)

    def grid_of(self, size: tuple[int, int]) -> CellGrid:
        """Return the position of the cells on images of a size.

        Args:
            size: rows and columns of the images.

        Raises:
            ContractError: the network cannot take images of that size.
        """
        if self.grids is None:
            return CellGrid.tiling((self.reduction, self.reduction))
        return self.grids.at(self.module, size)


def find_sites(trace: Trace, model: nn.Module, size: Side, last: Side) -> Iterator[Site]:
    """Yield one site for each resolution that ends inside the network.

    Args:
        trace: of the features' pass.
        model: the network.
        size: rows and columns of the image.
        last: rows and columns of the last map.
    """
    ends = _ends_by_name(trace, model) or _ends_by_order(trace, size, last)
    sides = sorted((side for side in ends if is_smaller(last, side) and is_smaller(side, size)), reverse=True)
    for side, after in pairwise([*sides, last]):
        name, before = ends[side], False
        poolings = [module for module, smaller in trace.shrinking_modules(side) if smaller == after]
        if len(poolings) == 1 and trace.is_called_once(poolings[0]) and _is_plain_average(trace.modules[poolings[0]]):
            name, before = poolings[0], True
        features = trace.inputs[name] if before else trace.outputs[name]
        layout = MAP if before else layout_from_trace(features) or layout_of(features)
        assert layout is not None
        channels = layout.to_map(features).shape[1]
        yield Site(name, before, channels, _window(side, after), 1, layout)


def _window(side: Side, after: Side) -> int | tuple[int, int]:
    """Return the strides of the operation between two resolutions, one number where they are equal."""
    rows, columns = (max(1, round(fine / coarse)) for fine, coarse in zip(side, after, strict=True))
    return rows if rows == columns else (rows, columns)


def _ends_by_name(trace: Trace, model: nn.Module) -> dict[Side, str]:
    """Return the last module of each resolution, as the network names them."""
    ends = {}
    for info in list(getattr(model, "feature_info", None) or []):
        name = info["module"]
        if name in trace.outputs and trace.is_called_once(name):
            features = trace.outputs[name]
            layout = layout_from_trace(features) or layout_of(features, channels=info.get("num_chs"))
            if layout is not None and layout.order != "NLC":
                ends[side_of(layout.to_map(features))] = name
    return ends


def _ends_by_order(trace: Trace, size: Side, last: Side) -> dict[Side, str]:
    """Return the module that ends last on each resolution.

    For a network that names none.
    """
    ends: dict[Side, str] = {}
    side = size
    for name, output in trace.outputs.items():
        if not trace.is_called_once(name) or (layout_from_trace(output) or layout_of(output)) != MAP:
            continue
        after = side_of(output)
        if not is_smaller(last, after) or not (after == side or is_smaller(after, side)) or trace.is_in_branch(name):
            continue
        # A convolution without padding removes a little of the border, which is no loss of resolution.
        if _window(side, after) == 1:
            ends.pop(side, None)
        side = after
        ends[side] = name
    return ends


def _is_plain_average(module: nn.Module) -> bool:
    """Return whether `module` averages windows without overlap or padding.

    LAP replaces such a module exactly.
    """
    if type(module) is not nn.AvgPool2d:
        return False
    return module.kernel_size == module.stride and module.padding in (0, (0, 0))
