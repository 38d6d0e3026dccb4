"""The rival contract: a network with a loss of its own and, where it explains itself, a map of its own.

Each rival is a head or a loss on the backbone that LAP is attached to, written from its formula, so that method and
not network is compared. `losses` is what `interp_core.fit` adds up where a model brings its own; `explain` is read by
the explainer `intrinsic`.

    @rivals.register("plain")
    class Plain(Rival):
        '''The backbone as it is.'''

        title: ClassVar[str] = "Plain"

Known limits: backbones are those `interp_core.inspect_backbone` understands; rivals that use the classifier's weights
at every position need global average pooling and one linear layer behind the features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from benchmarks.rivals.regions import wrong_share
from interp_core.backbone.geometry import resize
from interp_core.backbone.inspect import classifier_weights, inspect_backbone
from interp_core.backbone.trace import evaluating
from interp_core.errors import BackboneError, ContractError
from interp_core.registry import ClassRegistry
from interp_core.training import decision_loss

Statistics = tuple[tuple[float, ...], tuple[float, ...]]
Parts = dict[str, Tensor]

_noted: ContextVar[Parts | None] = ContextVar("noted", default=None)


@contextmanager
def noting() -> Iterator[Parts]:
    """What forward passes inside put down by `note`, so that maps cost no pass of their own and nothing is kept."""
    parts: Parts = {}
    token = _noted.set(parts)
    try:
        yield parts
    finally:
        _noted.reset(token)


def note(**parts: Tensor) -> None:
    """Put down what a map is made of, where somebody asked for it."""
    found = _noted.get()
    if found is not None:
        found.update(parts)


def labels_of(targets: Tensor, classes: int) -> Tensor:
    """Targets as floats (N, K), 1 where a class is present, of indices (N,) or of 0 and 1 (N, K)."""
    return targets.float() if targets.ndim == 2 else F.one_hot(targets, classes).float()


class RivalOptions(BaseModel):
    """Parameters of a rival.

    Fields:
        image_size: side of the probe in pixels; None for what timm says of the backbone, else 224.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int | None = Field(None, ge=1)


class MapOptions(RivalOptions):
    """Parameters of a rival with a map on the grid of the last features.

    Fields:
        energy_weight: of the energy loss on its map where regions are known, see `benchmarks.rivals.regions`; 0 for
            none.
    """

    energy_weight: float = Field(0.0, ge=0)


class Rival(nn.Module):
    """A network of another method on a backbone, which it owns.

    Args:
        backbone: takes normalised images, gives logits (N, K).
        options: an instance of `Options`.
        statistics: mean and standard deviation per channel that normalise its images, in [0, 1] units; None for those
            of timm. Only rivals that look at plain pixels ask.

    Class attributes:
        name: in the registry.
        title: in tables.
        source: the paper.
        Options: its parameters.
        explains_itself: whether `explain` gives a map.

    Raises:
        BackboneError: the backbone is not one the rival can stand on.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    source: ClassVar[str] = ""
    Options: ClassVar[type[RivalOptions]] = RivalOptions
    explains_itself: ClassVar[bool] = False

    def __init__(self, backbone: nn.Module, options: RivalOptions, statistics: Statistics | None = None) -> None:  # noqa: ARG002
        super().__init__()
        self.options = options
        self.backbone, self.info = backbone, inspect_backbone(backbone, options.image_size)

    def forward(self, images: Tensor) -> Tensor:
        """Logits (N, K) of normalised images (N, C, H, W)."""
        return self.backbone(images)

    def losses(self, images: Tensor, targets: Tensor, regions: Mapping[str, Tensor]) -> dict[str, Tensor]:  # noqa: ARG002
        """Weighted losses by name, to be added up.

        Args:
            images: (N, C, H, W), normalised.
            targets: (N,) class indices, or (N, K) of 0 and 1 where an image may show several classes.
            regions: (N, 1, H, W) in [0, 1]; "object": evidence belongs inside, "irrelevant": it does not. Rows of NaN:
                nothing is known of these images.
        """
        return {"cross_entropy": decision_loss(self(images), targets)}

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002
        """The map (N, 1, H, W) >= 0 that the network itself gives for `targets` (N,), made in evaluation mode.

        Raises:
            ContractError: this rival gives none.
        """
        raise ContractError(f"{self.name} gives no map of itself: explain it with an external explainer, as grad_cam")

    def parted(self, images: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Last features X (N, C, h, w) of `images`, and the function from such features to logits (N, K)."""
        split = self.info.split
        features, numbers = split.features(self.backbone, images)

        def head(maps: Tensor) -> Tensor:
            return split.head(self.backbone, split.layout.from_map(maps, features), numbers)

        return split.layout.to_map(features, images.shape[-2] / images.shape[-1]), head

    def placed(self, cells: Tensor, images: Tensor) -> Tensor:
        """Maps (N, 1, h, w) at the resolution of `images`, cells on the centres of their receptive fields."""
        return resize(cells, images.shape[-2], images.shape[-1], self.info.first, self.info.reduction)

    def linear_head(self) -> tuple[Tensor, Tensor | None]:
        """Weights W (K, C) and biases (K,) of the classifier, for logits W mean(X) + b.

        Raises:
            BackboneError: the head is another one.
        """
        found = classifier_weights(self.backbone, self.info.split) if self.info.linear_head else None
        if found is None:
            raise BackboneError(
                f"{self.name} needs global average pooling and one linear layer behind the last features, "
                f"{type(self.backbone).__name__} has another head: choose a backbone such as resnet18"
            )
        return found


class MapRival(Rival):
    """A rival with a map on the grid of the last features. Subclasses write `forward`, which notes, and `cells`."""

    Options: ClassVar[type[RivalOptions]] = MapOptions
    options: MapOptions
    explains_itself: ClassVar[bool] = True

    def cells(self, parts: Parts, labels: Tensor) -> Tensor:
        """Maps (N, 1, h, w) >= 0 of what `forward` noted, for the classes where `labels` (N, K) are 1."""
        raise NotImplementedError(f"{type(self).__name__} must define cells")

    def decision(self, logits: Tensor, parts: Parts, targets: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Weighted losses without regions, of logits (N, K) and what `forward` noted."""
        return {"cross_entropy": decision_loss(logits, targets)}

    def losses(self, images: Tensor, targets: Tensor, regions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Weighted losses by name, see `Rival.losses`."""
        with noting() as parts:
            logits = self(images)
        found = self.decision(logits, parts, targets)
        if self.options.energy_weight > 0 and regions:
            maps = self.placed(self.cells(parts, labels_of(targets, logits.shape[1])), images)
            found["energy"] = self.options.energy_weight * wrong_share(maps, regions)
        return found

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        """Maps (N, 1, H, W) >= 0 of `targets` (N,), from one forward pass."""
        with evaluating(self), torch.no_grad(), noting() as parts:
            logits = self(images)
            return self.placed(self.cells(parts, labels_of(targets, logits.shape[1])), images)


rivals: ClassRegistry[Rival] = ClassRegistry("rival", "interp_bench.rivals")


def build(
    name: str,
    backbone: nn.Module,
    options: Mapping[str, Any] | RivalOptions | None = None,
    statistics: Statistics | None = None,
) -> Rival:
    """A rival on `backbone`, which becomes part of it.

    Args:
        name: in the registry.
        backbone: takes normalised images, gives logits (N, K).
        options: fields of the rival's `Options`.
        statistics: mean and standard deviation per channel that normalise its images, see `Rival`.

    Raises:
        UnknownNameError: no such rival.
        ContractError: an option is unknown or out of range.
        BackboneError: the rival cannot stand on this backbone.
    """
    cls = rivals[name]
    try:
        chosen = options if isinstance(options, RivalOptions) else cls.Options.model_validate(dict(options or {}))
    except ValidationError as error:
        problem = error.errors()[0]
        where = ".".join(str(part) for part in problem["loc"])
        raise ContractError(f"rival {name}: {where}: {problem['msg']}, got {problem['input']!r}") from error
    if not isinstance(chosen, cls.Options):
        raise ContractError(f"rival {name} takes {cls.Options.__name__}, got {type(chosen).__name__}")
    device = next(backbone.parameters()).device
    return cls(backbone, chosen, statistics).to(device).train(backbone.training)
