"""Build a network from what a user types: a LAP model's files, a timm name or repository, or a function.

A network is one of
    a LAP model        path that `interp_core.save` wrote, or a folder of `save_pretrained`
    a timm name        with a file of weights, or with timm's own
    a repository       "hf-hub:owner/name", "local-dir:folder", or a folder with timm's config.json
    a function         "package.module:function" or "file.py:function", which returns a torch module

Files of weights are read without running code, see `config.weight_files`. A function is a user's code: callers decide
whether it may run.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.config.errors import ConfigError
from benchmarks.config.plugins import load_plugin
from benchmarks.config.state_dicts import fit_to
from benchmarks.config.weight_files import load_weights, read_weights
from interp_core.backbone.timm_models import create_backbone
from interp_core.errors import InterpError, UnknownNameError, one_line
from interp_core.lap.hub import DESCRIPTION, WEIGHTS
from interp_core.lap.model import LapModel
from interp_core.lap.saved_files import file_pair

REPOSITORY, FOLDER = "hf-hub:", "local-dir:"
SOURCES = (REPOSITORY, "hf_hub:", FOLDER)


def open_lap(model: str | Path, backbone: nn.Module | None = None) -> LapModel | None:
    """Load a LAP model from its files; None where there are none.

    Args:
        model: path of the files without suffix, of one of them, or of their folder.
        backbone: the network it was attached to, where the files do not say how to make it.

    Raises:
        StoreError: the files are damaged, or do not fit the backbone.
    """
    files = lap_files(model)
    return None if files is None else LapModel.read_files(*files, backbone=backbone)


def lap_files(model: str | Path) -> tuple[Path, Path] | None:
    """Return the files of weights and description of a LAP model; None where there are none."""
    path = Path(model)
    weights, description = file_pair(path.with_suffix("") if path.suffix in (".safetensors", ".json") else path)
    if path.is_dir() or path.name in (WEIGHTS, DESCRIPTION):
        folder = path if path.is_dir() else path.parent
        weights, description = folder / WEIGHTS, folder / DESCRIPTION
        if _read_config(folder).get("architecture"):
            return None
    return (weights, description) if weights.is_file() and description.is_file() else None


def is_function(model: str) -> bool:
    """Return whether a text names a function, not a repository or a path of Windows."""
    return ":" in model and not model.startswith(SOURCES) and not (model[1:3] == ":\\" and model.count(":") == 1)


def create_timm(
    model: str, weights: Path | None, arguments: dict[str, Any], classes: int | None = None, hint: str = ""
) -> nn.Module:
    """Create a timm network with the weights of a file, or with its own.

    Args:
        model: timm's name, a repository, or a folder that holds one.
        weights: file; None for timm's own, which `pretrained` among the arguments asks for.
        arguments: of `timm.create_model`.
        classes: number of outputs of a network with a file of weights; None for that of the file.
        hint: what else the user could type.

    Raises:
        ConfigError: timm has no such network, cannot make or download it, or it has no weights.
    """
    arguments = dict(arguments)
    source = repository_of(model)
    if "checkpoint_path" in arguments:  # timm may unpickle the file
        raise ConfigError("checkpoint_path is not allowed: give --weights FILE")
    if weights is not None:
        arguments = {**_outputs(source or model, weights, classes, arguments), **arguments, "pretrained": False}
    elif source is not None:
        arguments = {"pretrained": True, **arguments}
    elif not arguments.get("pretrained"):
        remedy = "give --weights FILE, --pretrained or --model-set pretrained=true"
        raise ConfigError(f"{model} has no weights: {remedy}{hint and f'; {hint}'}")
    network = _create(source or model, arguments, hint)
    if weights is not None:
        load_weights(network, weights)
    return network


def repository_of(model: str) -> str | None:
    """Return timm's name of a repository or of a folder that holds one; None for any other text.

    Raises:
        ConfigError: a repository of another library.
    """
    if model.startswith(SOURCES):
        return model
    config = _read_config(Path(model))
    if config.get("architecture"):
        return FOLDER + model
    if "architectures" in config or "model_type" in config:
        kind = next(iter(config.get("architectures") or []), config.get("model_type"))
        raise ConfigError(
            f"{model} is a repository of transformers ({kind}), not of timm: give FILE.py:function that returns a "
            "network from images to logits"
        )
    return None


def call_function(model: str, arguments: dict[str, Any]) -> nn.Module:
    """Import a user's code, call a function of it and return its network.

    Args:
        model: "package.module:function" or "file.py:function".
        arguments: of the function.

    Raises:
        ConfigError: there is no such function, it fails, or it returns something else.
        PluginError: the code cannot be imported.
    """
    module_name, _, function_name = model.rpartition(":")
    function = getattr(load_plugin(module_name), function_name, None)
    if not callable(function):
        raise ConfigError(f"{module_name} has no function {function_name!r}")
    try:
        network = function(**arguments)
    except Exception as error:  # a user's function may raise anything
        raise ConfigError(f"{model} failed: {one_line(error, with_type=True)}") from error
    if not isinstance(network, nn.Module):
        raise ConfigError(f"{model} returned {type(network).__name__}, not a torch module")
    return network


def _create(name: str, arguments: dict[str, Any], hint: str) -> nn.Module:
    ending = hint and f"; {hint}"
    try:
        return _create_from_source(name, arguments) if name.startswith(SOURCES) else create_backbone(name, **arguments)
    except UnknownNameError as error:
        raise ConfigError(f"there is no network {name!r}: {error}{ending}") from error
    except InterpError:
        raise
    except Exception as error:  # timm and huggingface_hub may raise anything, such as errors of the connection
        raise ConfigError(f"network {name} cannot be made: {one_line(error, limit=200)}") from error


def _create_from_source(name: str, arguments: dict[str, Any]) -> nn.Module:
    """Create the network of a repository, with its weights read as those of any other file."""
    import timm

    if not name.startswith(FOLDER):
        network: nn.Module = timm.create_model(name, **arguments)
        return network
    network = timm.create_model(name, **{**arguments, "pretrained": False})
    if arguments.get("pretrained"):
        load_weights(network, Path(name.removeprefix(FOLDER)))
    return network


def _outputs(name: str, weights: Path, classes: int | None, arguments: dict[str, Any]) -> dict[str, int]:
    """Return the number of classes, and where it is not three, of channels, that a file of weights is for."""
    if classes is not None or "num_classes" in arguments:
        return {} if classes is None else {"num_classes": classes}
    tensors = read_weights(weights)
    network = _create(name, {**arguments, "pretrained": False}, "")
    shapes = {key: (file, own) for key, file, own in fit_to(tensors, network.state_dict()).misshapen}
    config: dict[str, Any] = getattr(network, "pretrained_cfg", None) or {}
    outputs: dict[str, int] = {}
    for field, entry, axis in (("num_classes", "classifier", 0), ("in_chans", "first_conv", 1)):
        layers = config.get(entry)
        layer = layers[0] if isinstance(layers, (tuple, list)) and layers else layers
        file, own = shapes.get(f"{layer}.weight", ((), ()))
        if len(file) == len(own) > axis and file[axis] != own[axis]:
            outputs[field] = file[axis]
    return outputs


def _read_config(folder: Path) -> dict[str, Any]:
    """Return the content of a folder's config.json; empty where there is none."""
    try:
        content = json.loads((folder / DESCRIPTION).read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError):
        return {}
    return content if isinstance(content, dict) else {}


def state_digest(tensors: dict[str, Tensor]) -> str:
    """Return a short hash of tensors by name."""
    content = hashlib.sha256()
    for name, tensor in sorted(tensors.items()):
        content.update(f"{name}{tuple(tensor.shape)}{tensor.dtype}".encode())
        content.update(tensor.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
    return content.hexdigest()[:16]
