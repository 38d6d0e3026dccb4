"""Try a network on one probe image, after a look at whether it is convolutional."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from interp_core.backbone.attempt import missing_inputs, not_a_module, required_inputs
from interp_core.backbone.compiled import reason_of_closed_layers
from interp_core.backbone.shells import name_of
from interp_core.backbone.trace import noise_image
from interp_core.errors import BackboneError, InterpError, one_line

DEFAULT_SIDE = 224
POOLINGS = nn.MaxPool2d | nn.AvgPool2d


def check_convolutional(model: nn.Module) -> None:
    if not isinstance(model, nn.Module):
        raise BackboneError(not_a_module(model))
    hint = "choose a convolutional backbone such as resnet18"
    kernels = [
        (_pair(m.kernel_size), _pair(m.stride))
        for m in model.modules()
        if isinstance(m, nn.Conv2d | POOLINGS) and _pair(m.kernel_size) != (1, 1)
    ]
    closed = reason_of_closed_layers(model)
    if closed is not None:
        raise BackboneError(closed)
    if any(parameter.is_meta for parameter in model.parameters()):
        raise BackboneError(
            f"{type(model).__name__} has no weights yet, only their shapes (device 'meta'): load them first"
        )
    if not any(isinstance(m, nn.Conv2d) for m in model.modules()):
        raise BackboneError(f"{type(model).__name__} has no convolution; {hint}")
    if len(kernels) <= 2 and all(kernel == stride for kernel, stride in kernels) and _mixes_tokens(model):
        raise BackboneError(
            f"{type(model).__name__} is not convolutional: it cuts the image into patches once, and attention or MLPs "
            f"do the rest, so there is no local pooling that LAP could replace; {hint}"
        )


def _mixes_tokens(model: nn.Module) -> bool:
    return any(
        # There are several root mean square norms without a common base class.
        isinstance(m, nn.LayerNorm | nn.MultiheadAttention) or type(m).__name__.lower().startswith("rmsnorm")
        for m in model.modules()
    )


def _pair(value: int | tuple[int, ...]) -> tuple[int, ...]:
    return value if isinstance(value, tuple) else (value, value)


def run_probe(model: nn.Module, image_size: int | tuple[int, int] | None) -> tuple[Tensor, object, bool]:
    """Return the probe, the model's output for it, and whether the model changes the images it is called with."""
    config = getattr(model, "pretrained_cfg", None) or {}
    default_channels, *default_size = config.get("input_size", (3, DEFAULT_SIDE, DEFAULT_SIDE))
    height, width = default_size if image_size is None else _pair(image_size)
    first = next(m for m in model.modules() if isinstance(m, nn.Conv2d))
    reasons = []
    # A network may rearrange its images before the first convolution, which then has more channels than they do, or
    # take several images stacked, or repeat the one channel of a grey image.
    for channels in dict.fromkeys((first.in_channels, default_channels, 1, 2 * first.in_channels)):
        images = noise_image(model, channels, (height, width))
        passed = images.clone()
        try:
            outputs = model(passed)
        except InterpError:
            raise
        except Exception as error:  # a network's own code may raise anything
            reasons.append(_reason(model, images, error))
        else:
            return images, outputs, not torch.equal(passed, images)
    raise BackboneError(reasons[0])


def _reason(model: nn.Module, images: Tensor, error: Exception) -> str:
    """Return why a model failed on the probe, and what to do."""
    name, missing = name_of(model), required_inputs(model)
    if missing:
        return missing_inputs(name, missing)
    return (
        f"{name} cannot take images (N, {', '.join(map(str, images.shape[1:]))}): {one_line(error, limit=200)}; "
        "say attach(model, image_size=...)"
    )
