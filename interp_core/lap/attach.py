"""Attach LAP to a convolutional network, and give the original network back.

lap = interp_core.attach(model)        # same logits as before
lap(images)                            # (N, K) logits
lap.explain(images, targets).map       # (N, 1, H, W), from one forward pass
model = interp_core.detach(lap)        # the original module
"""

from __future__ import annotations

from typing import Any

from torch import nn

from interp_core.backbone.outputs import Output, select_output
from interp_core.backbone.timm_models import BackboneSpec, create_backbone
from interp_core.lap.model import LapModel
from interp_core.lap.options import Concepts, LapOptions
from interp_core.lap.pooling import Weighting
from interp_core.lap.wrappers import take_off_wrappers

__all__ = ["LapModel", "attach", "create", "detach"]


def attach(
    model: nn.Module,
    *,
    finest: int | None = None,
    hidden: int = 32,
    gate_hidden: int = 16,
    candidates: int = 10,
    concepts: Concepts | None = None,
    aggregate: str = "max",
    weighting: Weighting = "rbf",
    refine: bool | int = False,
    cell: int | None = None,
    image_size: int | tuple[int, int] | None = None,
    output: Output | None = None,
) -> LapModel:
    """Attach LAP to a convolutional network.

    Logits stay as they are until training moves the sharpness `a` of a block away from 0.

    Args:
        model: a convolutional network, trained or not, on any device: timm's, torchvision's or your own. Wrappers of
            parallel training and of `torch.compile` are taken off; put them around the LAP model instead.
        finest: gate levels with at least this many input pixels per position, besides the global pooling. By default
            4, or where the image size is known the next value that gives maps of at most 40 cells a side: 8 for 224
            pixels.
        hidden: width of the head's scorer.
        gate_hidden: width of the scorers below the head.
        candidates: largest number of classes that share the head's attention.
        concepts: names of the concepts scored below the head: the same at every level, or by name of the level (the
            backbone's module). By default one nameless concept.
        aggregate: how the aggregated score of a level comes from its concepts, "max", "mean" or "learned".
        weighting: how positions of a window are weighed by their scores: "rbf", or for comparison "softmax" or "lip";
            see `interp_core.lap.pooling`.
        refine: add decoders of a second map, beside the decision, which `fit` trains. True for at most 40 cells a
            side, a number for at least that many input pixels per cell. See `interp_core.lap.refine`.
        cell: least number of input pixels per cell of the finest grid that contributions are carried to. By default
            for at most 40 cells a side. See `interp_core.lap.redistribution`.
        image_size: side in pixels of the image that the network is tried with, or its rows and columns. By default
            timm's input size, else 224.
        output: where the network returns more than logits (N, K), the part that they are: a key, an index, the name of
            an attribute, or a function of what it returns; see `interp_core.backbone.outputs`.

    Raises:
        BackboneError: the network is not convolutional, its head is not understood, or LAP is attached already.
        ContractError: concepts, aggregate or weighting that make no sense.
    """
    options = LapOptions(
        finest=finest,
        hidden=hidden,
        gate_hidden=gate_hidden,
        candidates=candidates,
        concepts=concepts,
        aggregate=aggregate,
        weighting=weighting,
        refine=refine,
        cell=cell,
        image_size=image_size,
    )
    if output is None or not isinstance(model, nn.Module):
        return LapModel.from_backbone(model, options)
    lap = LapModel.from_backbone(select_output(take_off_wrappers(model), output), options)
    lap.selects_output = True
    return lap


def detach(lap: LapModel) -> nn.Module:
    """Return the original network.

    Only training may have changed it, in its weights.

    Raises:
        BackboneError: it was detached before.
    """
    return lap.release()


def create(name: str, **kwargs: Any) -> LapModel:
    """Create a timm model and attach LAP.

    A saved model can then build itself again.

    Args:
        name: timm's name of the backbone.
        kwargs: arguments of `timm.create_model`.

    Raises:
        UnknownNameError: timm has no such model.
    """
    lap = attach(create_backbone(name, **kwargs))
    lap.backbone_spec = BackboneSpec(name=name, kwargs=kwargs)
    return lap
