"""Put LAP into a convolutional network, and give back the untouched original.

lap = interp_core.attach(model)        # same logits as before
lap(images)                            # (N, K) logits
lap.explain(images, targets).map       # (N, 1, H, W), from one forward pass
model = interp_core.detach(lap)        # the original module
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from interp_core.backbone.inspect import Site, inspect_backbone
from interp_core.backbone.timm_models import create_backbone
from interp_core.errors import BackboneError, ContractError
from interp_core.lap.blocks import AGGREGATES
from interp_core.lap.model import Concepts, LapModel, concept_names, is_gated
from interp_core.lap.pooling import WEIGHTINGS, Weighting

__all__ = ["LapModel", "attach", "create", "create_backbone", "detach"]

# Of the gates below the head that are there by default: at half the input resolution one costs as much as all others
# together and sees little more than edges, and so does one of 56 x 56 cells in a network made for phones.
FINEST, MOST_CELLS = 4, 40


def _lists(concepts: Concepts | None) -> list[str] | dict[str, list[str]] | None:
    """A copy that can be written as JSON."""
    if isinstance(concepts, Mapping):
        return {module: list(names) for module, names in concepts.items()}
    return None if concepts is None else list(concepts)


def _check_concepts(concepts: Concepts | None, aggregate: str, sites: Sequence[Site]) -> None:
    if aggregate not in AGGREGATES:
        raise ContractError(f"aggregate must be one of {', '.join(AGGREGATES)}, got {aggregate!r}")
    given = concepts if isinstance(concepts, Mapping) else {}
    unknown = sorted(set(given) - {site.module for site in sites})
    if unknown:
        known = ", ".join(site.module for site in sites)
        raise ContractError(f"concepts for {', '.join(unknown)}, where no gate is; gates are at {known}")
    letters = any(isinstance(names, str) for names in (concepts, *given.values()))
    for names in concept_names(concepts, sites):
        if letters or not names or len(set(names)) < len(names):
            raise ContractError(f"concepts of a level must be different names, at least one, got {names}")


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
    image_size: int | None = None,
) -> LapModel:
    """Attach LAP to a convolutional network; logits stay as they are until training moves `a` away from 0.

    Args:
        model: a convolutional network, trained or not, on any device: timm's, torchvision's or your own.
        finest: gate levels of at least this many input pixels per position, besides the global pooling; by default 4,
            or where the image size is known the next that gives maps of at most 40 cells a side: 8 for 224 pixels.
        hidden: width of the head's scorer.
        gate_hidden: width of the scorers below the head.
        candidates: most classes that share the head's attention.
        concepts: names of the concepts scored below the head: the same at every level, or by name of the level (the
            backbone's module); one nameless concept by default.
        aggregate: how a level's S comes from its concepts, "max", "mean" or "learned".
        weighting: how positions of a window are weighed by their scores: "rbf", or for comparison "softmax" or "lip";
            see `interp_core.lap.pooling`.
        refine: take the explanation to a finer grid by a small decoder, which `fit` trains: of at most 40 cells a side,
            or of at least so many input pixels per cell. See `interp_core.lap.refine`.
        image_size: side in pixels of the image the network is tried with; by default what timm says of it, else 224.

    Raises:
        BackboneError: not convolutional, its head cannot be understood, or LAP is attached already.
        ContractError: concepts, aggregate or weighting that make no sense.
    """
    if weighting not in WEIGHTINGS:
        raise ContractError(f"weighting must be one of {', '.join(WEIGHTINGS)}, got {weighting!r}")
    if isinstance(model, nn.Module) and is_gated(model):
        raise BackboneError("LAP is attached to this model already: use it, or detach it first")
    info = inspect_backbone(model, image_size)
    if finest is None:
        known = image_size is not None or getattr(model, "pretrained_cfg", None)
        finest = max(FINEST, math.ceil(max(info.size) / MOST_CELLS)) if known else FINEST
    _check_concepts(concepts, aggregate, [site for site in info.sites if site.reduction >= finest])
    options = {
        "finest": finest,
        "hidden": hidden,
        "gate_hidden": gate_hidden,
        "candidates": candidates,
        "concepts": _lists(concepts),
        "aggregate": aggregate,
        "weighting": weighting,
        "refine": refine,
        "image_size": image_size,
    }
    lap = LapModel(model, info, options)
    parameter = next(p for p in model.parameters() if p.is_floating_point())
    lap.training = model.training
    for own in (lap.gates, lap.head, lap.refiner):
        if own is not None:
            own.to(parameter.device, parameter.dtype).train(model.training)
    return lap


def detach(lap: LapModel) -> nn.Module:
    """The original network, as it was before `attach` but for what training changed in its weights.

    Raises:
        BackboneError: it was detached before.
    """
    return lap.release()


def create(name: str, **kwargs: Any) -> LapModel:
    """`attach(timm.create_model(name, **kwargs))`, remembering both so that a saved model can rebuild itself.

    Raises:
        UnknownNameError: timm has no such model.
    """
    lap = attach(create_backbone(name, **kwargs))
    lap.recipe = {"name": name, "kwargs": kwargs}
    return lap
