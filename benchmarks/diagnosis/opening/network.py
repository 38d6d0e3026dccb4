"""Build the network under diagnosis from what a user types.

A network is one of
    a LAP model        path that `interp_core.save` wrote, or a folder of `save_pretrained`
    a timm name        with a file of weights, or with timm's own (`pretrained=true`); also "hf-hub:owner/name"
    a function         "package.module:function" or "file.py:function", which returns a torch module

A function is a user's code. It is imported only where its module is also given as a plugin. Files of weights are read
without running code, see `config.weight_files`.

Known limit: a function without weights of its own and without a file of weights gives a random network unnoticed.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from torch import nn

from benchmarks.config.device import resolve_device
from benchmarks.config.errors import ConfigError
from benchmarks.config.networks import call_function, create_timm, is_function, lap_files, open_lap, state_digest
from benchmarks.config.weight_files import load_weights
from benchmarks.diagnosis.subject import Statistics, Subject
from benchmarks.explaining.class_names import imagenet_names
from interp_core.datasets.files.resize import timm_preprocessing
from interp_core.lap.model import LapModel
from interp_core.lap.saved_files import read_description

HINT = "give the path of a LAP model, a timm name with --weights, or module:function with --plugin module"


@dataclass(frozen=True)
class NetworkOptions:
    """What a user says about a network.

    Attributes:
        model: path, timm name or function; see the module.
        weights: file of weights for a timm name or a function.
        arguments: of `timm.create_model` or of the function.
        plugins: files or modules whose code may run.
        mean: of the images that the network was trained on, one value or one a channel; None for the backbone's own.
        std: likewise.
        explainer: registered name.
        device: name, or "auto".
    """

    model: str
    weights: Path | None = None
    arguments: dict[str, Any] = field(default_factory=dict)
    plugins: tuple[str, ...] = ()
    mean: tuple[float, ...] | None = None
    std: tuple[float, ...] | None = None
    explainer: str = "lap"
    device: str = "auto"


def open_subject(
    options: NetworkOptions, classes: Sequence[str], *, multi_label: bool = False, image_size: int | None = None
) -> Subject:
    """Build the network, attach LAP to it, and return it as the subject of a diagnosis.

    Args:
        options: what the user typed.
        classes: names of the classes of the data, two for a network with one logit; none for those of the network.
        multi_label: whether an image may show any number of classes.
        image_size: side of the images in pixels.

    Raises:
        ConfigError: there is no such network, its weights do not fit, or its normalisation is not known.
        BackboneError: LAP does not support the network.
        ContractError: the network tells another number of classes apart.
    """
    device = resolve_device(options.device)
    network = open_network(options, len(classes) if len(classes) > 1 else None).eval().to(device)
    statistics = statistics_of(network, options)
    return Subject(
        network,
        classes or name_classes(network, options),
        statistics,
        explainer=options.explainer,
        multi_label=multi_label,
        image_size=image_size,
    )


def name_classes(network: nn.Module, options: NetworkOptions) -> tuple[str, ...]:
    """Return the names that a network has for its classes; none where it has none."""
    files = lap_files(options.model)
    if files is not None:
        return tuple(read_description(files[1]).get("classes") or ())
    brings_weights = options.weights is None and not is_function(options.model)
    return imagenet_names(network) if brings_weights else ()


def open_network(options: NetworkOptions, classes: int | None) -> nn.Module:
    """Build the network of a LAP model, a timm name or a function; see `open_subject`."""
    lap = open_lap(options.model)
    if lap is not None:
        if options.weights is not None or options.arguments:
            raise ConfigError(f"{options.model} is a LAP model with its own weights: leave --weights, --model-set out")
        return lap
    if not is_function(options.model):
        return create_timm(options.model, options.weights, options.arguments, classes, HINT)
    module = options.model.rpartition(":")[0]
    if module not in options.plugins:
        raise ConfigError(f"{options.model} is code: add --plugin {module} to allow that it runs")
    network = call_function(options.model, options.arguments)
    if options.weights is not None:
        load_weights(network, options.weights)
    return network


def describe_network(options: NetworkOptions, subject: Subject) -> dict[str, Any]:
    """Return name, file and digest of a network, and what opens it again; see `network_options`."""
    mean, std = subject.statistics
    return {
        "name": options.model if ":" in options.model else Path(options.model).name,
        "file": None if options.weights is None else str(options.weights),
        "digest": weights_digest(subject.lap),
        "mean": list(mean),
        "std": list(std),
        "options": {
            "model": options.model,
            "arguments": options.arguments,
            "plugins": list(options.plugins),
            "explainer": options.explainer,
        },
    }


def network_options(description: dict[str, Any], device: str = "auto") -> NetworkOptions:
    """Return the options in a description of `describe_network`.

    Its plugins are left out: their code runs only where the user names them again.

    Raises:
        ConfigError: the diagnosis did not come from the command line.
    """
    stored = description.get("options")
    if not isinstance(stored, dict):
        raise ConfigError("the findings do not say how their network is opened: give MODEL")
    return NetworkOptions(
        stored["model"],
        weights=None if description["file"] is None else Path(description["file"]),
        arguments=stored["arguments"],
        mean=tuple(description["mean"]),
        std=tuple(description["std"]),
        explainer=stored["explainer"],
        device=device,
    )


def weights_digest(network: nn.Module) -> str:
    """Return a short hash of all weights of a network."""
    return state_digest(network.state_dict())


def statistics_of(network: nn.Module, options: NetworkOptions) -> Statistics:
    """Return mean and standard deviation that normalise the images of a network.

    Raises:
        ConfigError: only one of them is given, or none, and the network does not say.
    """
    if (options.mean is None) != (options.std is None):
        raise ConfigError("--mean and --std belong together: give both")
    if options.mean is not None and options.std is not None:
        if min(options.std) <= 0:
            raise ConfigError(f"--std must be above 0, got {min(options.std)}")
        return _per_channel("--mean", options.mean), _per_channel("--std", options.std)
    backbone = network.backbone if isinstance(network, LapModel) else network
    if not getattr(backbone, "pretrained_cfg", None):
        raise ConfigError(f"{options.model} does not say how its images are normalised: give --mean and --std")
    preprocessing = timm_preprocessing(backbone)
    return preprocessing.mean, preprocessing.std


def _per_channel(name: str, values: tuple[float, ...]) -> tuple[float, ...]:
    if len(values) not in (1, 3):
        raise ConfigError(f"{name} takes one number or three, such as 0.5 or 0.485,0.456,0.406; got {len(values)}")
    return values * 3 if len(values) == 1 else values
