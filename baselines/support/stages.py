"""Maps at the end of each resolution of a network: recorded or changed during a pass, and put back on the image.

The modules are those at which LAP puts its gates (`interp_core.backbone.sites.Site`), and the last layer. No layer is
named here.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any

from torch import Tensor, nn

from baselines.support.cam import last_layer
from interp_core.backbone.geometry import CellGrid
from interp_core.backbone.layout import Layout


@dataclass(frozen=True)
class Stage:
    """Map (N, C, h, w) at which a resolution ends.

    Attributes:
        module: module that returns the map, or takes it.
        before: whether the map is the module's input.
        layout: order of the module's channels and positions.
        reduction: pixels per cell.
        grid_of: from rows and columns of the images to the position of the cells.
    """

    module: nn.Module
    before: bool
    layout: Layout
    reduction: int
    grid_of: Callable[[tuple[int, int]], CellGrid]


def stages_of(model: nn.Module) -> list[Stage]:
    """Find the maps of a network at which a resolution ends, finest first, the last map included.

    Raises:
        BackboneError: it has no last map.
    """
    last, backbone = last_layer(model), getattr(model, "backbone", model)
    sites = [
        Stage(backbone.get_submodule(site.module), site.before, site.layout, site.reduction, site.grid_of)
        for site in last.info.sites
    ]
    return [*sites, Stage(last.module, False, Layout(), last.info.reduction, last.grid_of)]


def run_with_stages(
    model: nn.Module, stages: Sequence[Stage], images: Tensor, change: Callable[[Tensor], Tensor]
) -> tuple[list[Tensor], Tensor]:
    """Run one forward pass; return the maps of `stages` after `change`, and the logits of `images`."""
    maps: dict[int, Tensor] = {}
    aspect = images.shape[-2] / images.shape[-1]

    def changed(number: int, features: Tensor) -> Tensor:
        layout = stages[number].layout
        maps[number] = change(layout.to_map(features, aspect))
        return layout.from_map(maps[number], features).clone()  # later modules may change it in place

    def hook(number: int) -> Callable[..., Any]:
        if stages[number].before:
            return lambda _module, inputs: (changed(number, inputs[0]), *inputs[1:])
        return lambda _module, _inputs, output: changed(number, output)

    with ExitStack() as stack:
        for number, stage in enumerate(stages):
            module = stage.module
            register = module.register_forward_pre_hook if stage.before else module.register_forward_hook
            stack.callback(register(hook(number)).remove)
        logits = model(images)
    return [maps[number] for number in range(len(stages))], logits
