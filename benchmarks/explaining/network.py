"""Open the network that is fitted or explained, with its LAP, its class names and the preprocessing of its images.

A folder that a fit wrote holds everything but the code of a function: that runs only where the user names it again.

Limit: the preprocessing of a function's network is not known. Mean and standard deviation must be given, images are
resized to 224 pixels where no size is given, and the centre is not cropped.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any, Literal, cast

import torch
from torch import Tensor, nn

from benchmarks.config.device import resolve_device
from benchmarks.config.errors import ConfigError
from benchmarks.config.networks import call_function, create_timm, is_function, lap_files, open_lap, repository_of
from benchmarks.config.weight_files import load_weights
from benchmarks.explaining.class_names import imagenet_names
from interp_core.backbone.timm_models import BackboneSpec
from interp_core.datasets.files.image_set import Preprocessing
from interp_core.datasets.files.pixels import MOST_PIXELS
from interp_core.datasets.files.resize import timm_preprocessing
from interp_core.deploy.ready_made import load_ready_made
from interp_core.lap.attach import attach
from interp_core.lap.model import LapModel
from interp_core.lap.saved_files import read_description

State = Literal["fitted", "ready-made", "as attached"]
DEFAULT_SIZE = 224
RUNTIME_ARGUMENTS = ("pretrained", "cache_dir", "device", "dtype")


@dataclass(frozen=True)
class NetworkSource:
    """What a user says about a network.

    Attributes:
        model: folder of a fit, timm's name, repository or "file.py:function"; see `benchmarks.config.networks`.
        weights: file of weights.
        pretrained: whether timm's own weights are downloaded.
        arguments: of `timm.create_model` or of the function.
        mean: of the images that the network was trained on, in [0, 1] units; None for the network's own.
        std: likewise.
        image_size: side of the images in pixels; None for the network's own.
        device: name, or "auto".
    """

    model: str
    weights: Path | None = None
    pretrained: bool = False
    arguments: Mapping[str, Any] = field(default_factory=dict)
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    image_size: int | None = None
    device: str = "auto"


@dataclass(frozen=True)
class ImageView:
    """How image files become tensors.

    Attributes:
        size: side in pixels.
        crop_pct: share of the shorter side that a central crop keeps.
        interpolation: filter that resamples pixels.
        mean: per channel, in [0, 1] units.
        std: per channel, in [0, 1] units.
    """

    size: int
    crop_pct: float
    interpolation: str
    mean: tuple[float, ...]
    std: tuple[float, ...]

    @property
    def preprocessing(self) -> Preprocessing:
        """How image files become pixels."""
        return Preprocessing(self.size, "crop", self.crop_pct, cast(Any, self.interpolation), True, MOST_PIXELS)

    def normalise(self, pixels: Tensor, channels: int = 3) -> Tensor:
        """Normalise pixels (N, 3, H, W) uint8; to one channel where the network takes one."""
        values = pixels.float() / 255
        values = values.mean(1, keepdim=True) if channels == 1 else values
        mean, std = (
            torch.tensor(numbers[:channels] if channels == 1 else numbers) for numbers in (self.mean, self.std)
        )
        return (values - mean[:, None, None]) / std[:, None, None]


@dataclass(frozen=True)
class OpenNetwork:
    """A network with LAP, ready to explain.

    Attributes:
        lap: in evaluation mode, on its device.
        name: what the user called it.
        view: how its images are read.
        classes: names of the classes; empty where they are not known.
        state: how its map came about.
    """

    lap: LapModel
    name: str
    view: ImageView
    classes: tuple[str, ...] = ()
    state: State = "as attached"


def attach_to_backbone(source: NetworkSource) -> OpenNetwork:
    """Build a backbone with its weights and attach LAP to it, with a map that nothing trained.

    Raises:
        ConfigError: there is no such network, it has no weights, or its normalisation is not known.
        BackboneError: LAP does not support the network.
    """
    device = resolve_device(source.device)
    backbone = build_backbone(source).eval().to(device)
    view = view_of(backbone, source)
    with torch.random.fork_rng(devices=[]):  # the same LAP each time
        torch.manual_seed(0)
        lap = attach(backbone, image_size=view.size).eval()
    lap.backbone_spec = _spec_of(backbone, source)
    _check_channels(lap, source.model)
    brings_weights = source.weights is None and not is_function(source.model)
    return OpenNetwork(lap, source.model, view, imagenet_names(backbone) if brings_weights else ())


def open_network(source: NetworkSource, folder: str | Path | None = None) -> OpenNetwork:
    """Open a fitted network, or a backbone with a ready-made map or the map as attached.

    Args:
        source: the folder of a fit, or a backbone.
        folder: of a fit whose files do not say how the backbone is made; `source` is then this backbone.

    Raises:
        ConfigError: see `attach_to_backbone`; or a fit needs its backbone's code.
        StoreError: the files of a fit are damaged, or do not fit the backbone.
    """
    fitted = folder if folder is not None else source.model
    files = lap_files(fitted)
    if files is None and folder is not None:
        raise ConfigError(f"{folder} holds no fitted network: give the folder that interp-bench fit wrote")
    if files is not None:
        return _open_fit(source, Path(fitted), read_description(files[1]), needs_backbone=folder is not None)
    opened = attach_to_backbone(source)
    if not load_ready_made(opened.lap):
        return opened
    return replace(opened, state="ready-made", classes=opened.classes or imagenet_names(opened.lap.backbone))


def source_from(model: str, fields: Mapping[str, Any]) -> NetworkSource:
    """Return what a user says about a network in Python, where weights may be given as text."""
    weights = fields.get("weights")
    return NetworkSource(model, **{**fields, "weights": None if weights is None else Path(weights)})


def build_backbone(source: NetworkSource) -> nn.Module:
    """Build a backbone with its weights; see `attach_to_backbone`."""
    if not is_function(source.model):
        arguments = {**source.arguments, **({"pretrained": True} if source.pretrained else {})}
        return create_timm(source.model, source.weights, arguments)
    network = call_function(source.model, dict(source.arguments))
    if source.weights is not None:
        load_weights(network, source.weights)
    return network


def view_of(backbone: nn.Module, source: NetworkSource) -> ImageView:
    """Return how images of a backbone are read: as the user says, else as timm does.

    Raises:
        ConfigError: the normalisation is not known, or makes no sense.
    """
    if getattr(backbone, "pretrained_cfg", None):
        return _override(ImageView(**asdict(timm_preprocessing(backbone))), source)
    if source.mean is None and source.std is None:
        raise ConfigError(
            f"{source.model} does not say how its images are normalised: give --mean and --std, such as --mean "
            "0.485,0.456,0.406 --std 0.229,0.224,0.225"
        )
    return _override(ImageView(DEFAULT_SIZE, 1.0, "bicubic", (0.0,) * 3, (1.0,) * 3), source)


def _override(view: ImageView, source: NetworkSource) -> ImageView:
    """Put what the user says in place of what is known.

    Raises:
        ConfigError: only one of mean and std is given, or they make no sense.
    """
    if (source.mean is None) != (source.std is None):
        raise ConfigError("mean and std belong together: give both")
    if source.mean is not None and source.std is not None:
        if min(source.std) <= 0:
            raise ConfigError(f"std must be above 0, got {min(source.std)}")
        view = replace(view, mean=_three(source.mean), std=_three(source.std))
    return view if source.image_size is None else replace(view, size=source.image_size)


def _stored_view(values: dict[str, Any]) -> ImageView:
    return ImageView(**{**values, "mean": tuple(values["mean"]), "std": tuple(values["std"])})


def describe(opened: OpenNetwork) -> dict[str, Any]:
    """Return what a folder of a fit keeps besides weights and options, as plain values."""
    return {"backbone": opened.name, "view": asdict(opened.view)}


def _open_fit(source: NetworkSource, folder: Path, description: dict[str, Any], needs_backbone: bool) -> OpenNetwork:
    """Open the folder of a fit."""
    extra = description.get("extra") or {}
    if source.weights is not None:
        raise ConfigError(f"{folder} holds its own weights: leave --weights out")
    backbone = None
    if description.get("recipe") is None and not needs_backbone:
        code = extra.get("backbone", "FILE.py:function")
        raise ConfigError(f"{folder} was fitted on {code}, which is code: add --backbone {code} to allow that it runs")
    if needs_backbone and is_function(source.model):
        backbone = call_function(source.model, dict(source.arguments))
    lap = open_lap(folder, backbone)
    assert lap is not None
    lap = lap.eval().to(resolve_device(source.device))
    view = _stored_view(extra["view"]) if "view" in extra else view_of(lap.backbone, source)
    view = _override(view, source)
    name = str(extra.get("backbone") or folder.name)
    return OpenNetwork(lap, name, view, tuple(description.get("classes") or ()), "fitted")


def _spec_of(backbone: nn.Module, source: NetworkSource) -> BackboneSpec | None:
    """Return how timm makes the backbone again, without its weights; None for a function's."""
    if is_function(source.model):
        return None
    config: dict[str, Any] = getattr(backbone, "pretrained_cfg", None) or {}
    name = source.model if repository_of(source.model) is None else config.get("architecture")
    if not isinstance(name, str):
        return None
    arguments = {**getattr(backbone, "_model_args", {}), **source.arguments}
    kwargs = {key: value for key, value in arguments.items() if key not in RUNTIME_ARGUMENTS}
    return BackboneSpec(name=name, kwargs={**kwargs, "num_classes": int(backbone.num_classes)})  # type: ignore[arg-type]


def _check_channels(lap: LapModel, name: str) -> None:
    if lap.info.in_channels not in (1, 3):
        raise ConfigError(f"{name} takes images of {lap.info.in_channels} channels: image files have one or three")


def _three(values: tuple[float, ...]) -> tuple[float, ...]:
    if len(values) not in (1, 3):
        raise ConfigError(f"mean and std take one number or three, such as 0.485,0.456,0.406; got {values}")
    return values * 3 if len(values) == 1 else values
