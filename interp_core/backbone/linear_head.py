"""Read the last layer of a network, and try whether its head is linear in the mean of the last map."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from interp_core.backbone.partition import Partition, Sizes
from interp_core.backbone.trace import Trace


def classifier_weights(model: nn.Module, partition: Partition) -> tuple[Tensor, Tensor | None] | None:
    """Return weights (K, C) and biases (K,) of the last layer.

    None if it is neither a linear layer nor a 1x1 convolution.
    """
    layer = _last_layer(model, partition)
    if isinstance(layer, nn.Linear):
        return layer.weight, layer.bias
    if isinstance(layer, nn.Conv2d) and layer.kernel_size == (1, 1) and layer.groups == 1:
        return layer.weight.flatten(1), layer.bias
    return None


def _last_layer(model: nn.Module, partition: Partition) -> object:
    if partition.classifier is not None:
        layer: object = model
        for name in partition.classifier.split("."):  # older compilers of torch take no `get_submodule`
            layer = getattr(layer, name)
        return layer
    get_classifier = getattr(model, "get_classifier", None)
    return get_classifier() if callable(get_classifier) else None


def is_linear_head(model: nn.Module, partition: Partition, features: Tensor, sizes: Sizes, maps: Tensor) -> bool:
    """Return whether logits = W mean(X) + b.

    It is tried on noise, and training must not be able to change it.
    """
    weights = classifier_weights(model, partition)
    # A single cell does not tell how the head pools.
    if weights is None or weights[0].shape[1] != maps.shape[1] or maps.shape[-2:] == (1, 1):
        return False
    noise = torch.randn(maps.shape, generator=torch.Generator().manual_seed(1)).to(maps)
    expected = nn.functional.linear(noise.mean((2, 3)), *weights)
    trace = Trace(model)
    with trace.watching():
        logits = partition.head(model, partition.layout.from_map(noise, features), sizes)
    if logits.shape != expected.shape or not torch.allclose(logits, expected, rtol=1e-4, atol=1e-5):
        return False
    # A batch norm before the last layer is the identity until it is trained.
    classifier = _last_layer(model, partition)
    modules = (trace.modules[name] for name in trace.calls if trace.modules[name] is not classifier)
    return not any([*module.parameters(recurse=False), *module.buffers(recurse=False)] for module in modules)
