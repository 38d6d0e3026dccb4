"""Give trained networks of torchvision's form names of timm, so that a run takes them as backbones.

A run imports this module as a plugin: `plugins: [benchmarks.studies.trained.timm_names]`. The weights come from the
run's `checkpoint`.
"""

from __future__ import annotations

from typing import Any

from timm.models import register_model
from torch import nn

from benchmarks.studies.trained.networks import create_pneumonia_network

__all__ = ["pneumonia_mobilenetv3_small"]


@register_model
def pneumonia_mobilenetv3_small(pretrained: bool = False, **arguments: Any) -> nn.Module:
    """Create the MobileNetV3-small of radiographs, with random weights.

    Args:
        pretrained: must be False: nobody publishes its weights under this name.
        arguments: of timm; only `num_classes` is used, and must be that of the network.

    Raises:
        ValueError: it is asked for weights, or for another number of classes.
    """
    network = create_pneumonia_network()
    classes = network.classifier[-1].out_features
    if pretrained or arguments.get("num_classes", classes) != classes:
        raise ValueError(f"this network has {classes} classes and no weights of its own: give a checkpoint")
    return network
