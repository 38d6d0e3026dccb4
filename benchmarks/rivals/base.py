"""The rival contract: a network with its own loss and, if it explains itself, its own map.

Each rival is a head or a loss on the backbone that LAP is attached to, written from its formula, so that methods are
compared and not networks. `losses` is added up by `interp_core.fit`; `explain` is read by the explainer `intrinsic`.

    @rivals.register("plain")
    class Plain(Rival):
        '''The backbone as it is.'''

        title: ClassVar[str] = "Plain"

Known limits: backbones are those that `interp_core.inspect_backbone` understands. Rivals that apply the classifier's
weights at every position need global average pooling and one linear layer behind the features.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, ClassVar, Generic, TypeVar, get_args, get_origin

import torch
import torch.nn.functional as F
from pydantic import BaseModel, ConfigDict, Field, ValidationError
from torch import Tensor, nn

from benchmarks.rivals.energy_loss import energy_loss
from interp_core.backbone.geometry import resize
from interp_core.backbone.inspect import inspect_backbone
from interp_core.backbone.linear_head import classifier_weights
from interp_core.backbone.trace import evaluating, noise_image
from interp_core.errors import BackboneError, ContractError
from interp_core.registry import ClassRegistry
from interp_core.training import decision_loss

# Mean and standard deviation per channel, in units of images in [0, 1].
Normalisation = tuple[tuple[float, ...], tuple[float, ...]]
Notes = dict[str, Tensor]

_NOT_DIFFERENTIABLE = "is not implemented"
_notes: ContextVar[Notes | None] = ContextVar("notes", default=None)


@contextmanager
def collect_notes() -> Iterator[Notes]:
    """Collect the tensors that forward passes inside the block `note`.

    A map is then made from the forward pass that gave the logits, and no module keeps tensors of old batches.
    """
    notes: Notes = {}
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


def note(**tensors: Tensor) -> None:
    """Note tensors that a map is made of, if a caller collects them."""
    notes = _notes.get()
    if notes is not None:
        notes.update(tensors)


def labels_of(targets: Tensor, classes: int) -> Tensor:
    """Convert targets to floats (N, K), 1 where a class is present.

    Targets are indices (N,), or 0 and 1 (N, K).
    """
    return targets.float() if targets.ndim == 2 else F.one_hot(targets, classes).float()


class RivalOptions(BaseModel):
    """Parameters of a rival.

    Fields:
        image_size: side in pixels of the image that the backbone is inspected with. None: what timm says of the
            backbone, else 224.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    image_size: int | None = Field(None, ge=1)


class MapOptions(RivalOptions):
    """Parameters of a rival with a map on the grid of the last features.

    Fields:
        energy_weight: weight of the energy loss on its map where regions are given, see
            `benchmarks.rivals.energy_loss`; 0 for none.
    """

    energy_weight: float = Field(0.0, ge=0)


OptionsT = TypeVar("OptionsT", bound=RivalOptions)
MapOptionsT = TypeVar("MapOptionsT", bound=MapOptions)


class Rival(nn.Module, Generic[OptionsT]):
    """A network of another method on a backbone, which becomes part of it.

    A subclass names its options as a type argument, `class Rrr(Rival[RrrOptions])`.

    Args:
        backbone: takes normalised images, gives logits (N, K).
        options: an instance of `Options`.
        normalisation: mean and standard deviation per channel that normalise its images; None for timm's. Only rivals
            that read plain pixels use it.

    Class attributes:
        name: name in the registry, set by it.
        title: title in tables.
        source: the paper.
        Options: class of the parameters, set from the type argument.
        explains_itself: whether `explain` gives a map.
        needs_second_derivative: whether `losses` differentiate a gradient; `build` then checks that the backbone allows
            it.

    Raises:
        BackboneError: the rival does not work on this backbone.
    """

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    source: ClassVar[str] = ""
    Options: ClassVar[type[RivalOptions]] = RivalOptions
    explains_itself: ClassVar[bool] = False
    needs_second_derivative: ClassVar[bool] = False

    def __init_subclass__(cls, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for base in cls.__dict__.get("__orig_bases__", ()):
            if issubclass(get_origin(base) or object, Rival):
                (argument,) = get_args(base)
                cls.Options = getattr(argument, "__bound__", argument)  # of a type variable, its bound

    def __init__(self, backbone: nn.Module, options: OptionsT, normalisation: Normalisation | None = None) -> None:  # noqa: ARG002
        super().__init__()
        self.options: OptionsT = options
        self.backbone, self.info = backbone, inspect_backbone(backbone, options.image_size)

    def forward(self, images: Tensor) -> Tensor:
        """Compute the logits (N, K) of normalised images (N, C, H, W)."""
        return self.backbone(images)

    def losses(self, images: Tensor, targets: Tensor, regions: Mapping[str, Tensor]) -> dict[str, Tensor]:  # noqa: ARG002
        """Compute weighted losses by name, to be added up.

        Args:
            images: (N, C, H, W), normalised.
            targets: (N,) class indices, or (N, K) of 0 and 1 where an image may show several classes.
            regions: (N, 1, H, W) in [0, 1] by name. The map belongs inside "object" and outside "irrelevant"; rows of
                NaN for images without a mask.
        """
        return {"cross_entropy": decision_loss(self(images), targets)}

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:  # noqa: ARG002
        """Return the network's own maps (N, 1, H, W) >= 0 for `targets` (N,).

        They are computed in evaluation mode.

        Raises:
            ContractError: this rival has no map.
        """
        raise ContractError(
            f"{self.name} has no map of its own: explain it with an external explainer such as grad_cam"
        )

    def features_and_head(self, images: Tensor) -> tuple[Tensor, Callable[[Tensor], Tensor]]:
        """Compute the last features X (N, C, h, w) of `images`.

        Returns:
            The features, and the function from such features to logits (N, K).
        """
        partition = self.info.partition
        features, numbers = partition.features(self.backbone, images)

        def head(maps: Tensor) -> Tensor:
            return partition.head(self.backbone, partition.layout.from_map(maps, features), numbers)

        return partition.layout.to_map(features, images.shape[-2] / images.shape[-1]), head

    def to_image_grid(self, maps: Tensor, images: Tensor) -> Tensor:
        """Resize maps (N, 1, h, w) to the resolution of `images`.

        Values lie on the centres of their receptive fields.
        """
        height, width = images.shape[-2:]
        return resize(maps, height, width, self.info.grid_of((height, width)).shown())

    def linear_head(self) -> tuple[Tensor, Tensor | None]:
        """Return weights W (K, C) and biases b (K,) of the classifier.

        Its logits are W mean(X) + b.

        Raises:
            BackboneError: the backbone has another kind of head.
        """
        weights = classifier_weights(self.backbone, self.info.partition) if self.info.linear_head else None
        if weights is None:
            raise BackboneError(
                f"{self.name} needs global average pooling and one linear layer behind the last features, "
                f"{type(self.backbone).__name__} has another head: choose a backbone such as resnet18"
            )
        return weights


class MapRival(Rival[MapOptionsT]):
    """A rival with a map on the grid of the last features.

    A subclass writes `forward`, which notes tensors, and `grid_maps`, which makes a map of them.
    """

    explains_itself: ClassVar[bool] = True

    def grid_maps(self, notes: Notes, labels: Tensor) -> Tensor:
        """Return maps (N, 1, h, w) >= 0 for the labelled classes.

        Args:
            notes: tensors that `forward` noted.
            labels: (N, K) of 0 and 1.
        """
        raise NotImplementedError(f"{type(self).__name__} must define grid_maps")

    def class_losses(self, logits: Tensor, notes: Notes, targets: Tensor) -> dict[str, Tensor]:  # noqa: ARG002
        """Compute the weighted losses that need no regions.

        `logits` (N, K) and `notes` come from one forward pass.
        """
        return {"cross_entropy": decision_loss(logits, targets)}

    def losses(self, images: Tensor, targets: Tensor, regions: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Compute weighted losses by name, see `Rival.losses`."""
        with collect_notes() as notes:
            logits = self(images)
        losses = self.class_losses(logits, notes, targets)
        if self.options.energy_weight > 0 and regions:
            maps = self.to_image_grid(self.grid_maps(notes, labels_of(targets, logits.shape[1])), images)
            losses["energy"] = self.options.energy_weight * energy_loss(maps, regions)
        return losses

    def explain(self, images: Tensor, targets: Tensor) -> Tensor:
        """Return maps (N, 1, H, W) >= 0 from one forward pass."""
        with evaluating(self), torch.no_grad(), collect_notes() as notes:
            logits = self(images)
            return self.to_image_grid(self.grid_maps(notes, labels_of(targets, logits.shape[1])), images)


rivals: ClassRegistry[Rival] = ClassRegistry("rival", "interp_bench.rivals")


def build(
    name: str,
    backbone: nn.Module,
    options: Mapping[str, Any] | RivalOptions | None = None,
    normalisation: Normalisation | None = None,
) -> Rival:
    """Build a rival on `backbone`, which becomes part of it.

    Args:
        name: name in the registry.
        backbone: takes normalised images, gives logits (N, K).
        options: fields of the rival's `Options`.
        normalisation: mean and standard deviation per channel that normalise its images, see `Rival`.

    Raises:
        UnknownNameError: there is no such rival.
        ContractError: an option is unknown or out of range.
        BackboneError: the rival does not work on this backbone.
    """
    cls = rivals[name]
    try:
        parsed = options if isinstance(options, RivalOptions) else cls.Options.model_validate(dict(options or {}))
    except ValidationError as error:
        problem = error.errors()[0]
        path = ".".join(str(key) for key in problem["loc"])
        raise ContractError(f"rival {name}: {path}: {problem['msg']}, got {problem['input']!r}") from error
    if not isinstance(parsed, cls.Options):
        raise ContractError(f"rival {name} takes {cls.Options.__name__}, got {type(parsed).__name__}")
    device = next(backbone.parameters()).device
    rival = cls(backbone, parsed, normalisation).to(device)
    if cls.needs_second_derivative:
        check_second_derivative(rival)
    return rival.train(backbone.training)


def check_second_derivative(rival: Rival) -> None:
    """Differentiate the losses of `rival` once, to see whether that works.

    The image is noise, and its left half is the object.

    A loss on a gradient is minimised with the derivative of that gradient. PyTorch has none for some activations, such
    as hard-sigmoid, and would say so only in the backward pass of the training.

    Raises:
        BackboneError: an operation of its backbone has no second derivative.
    """
    device = next(rival.parameters()).device
    images = noise_image(rival.backbone, rival.info.in_channels, rival.info.size).to(device)
    masks = torch.zeros_like(images[:, :1])
    masks[..., : masks.shape[-1] // 2] = 1
    trainable = [parameter for parameter in rival.parameters() if parameter.requires_grad]
    if not trainable:
        return
    try:
        with evaluating(rival), torch.enable_grad():
            losses = rival.losses(images, torch.zeros(1, dtype=torch.int64, device=device), {"object": masks})
            torch.autograd.grad(torch.stack(list(losses.values())).sum(), trainable, allow_unused=True)
    except RuntimeError as error:
        if _NOT_DIFFERENTIABLE not in str(error):
            raise
        reason = str(error).split(_NOT_DIFFERENTIABLE)[0].strip()
        raise BackboneError(
            f"{rival.name} needs second derivatives and {type(rival.backbone).__name__} has an operation without one "
            f"({reason} {_NOT_DIFFERENTIABLE}): choose a backbone without it, such as resnet18, or a rival "
            "with a loss on a forward map"
        ) from error
