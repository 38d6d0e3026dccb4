"""The trained networks, as LAP can be attached to them."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from safetensors.torch import load_file
from torch import Tensor, nn

from benchmarks.config.weight_files import load_weights
from interp_core.errors import ContractError

if TYPE_CHECKING:
    from torchvision.models import MobileNetV3

CHANNELS = (3, 32, 64, 128, 256)
PNEUMONIA_CLASSES = 2


def create_pneumonia_network() -> MobileNetV3:
    """Create a MobileNetV3-small that tells pneumonia (1) from normal (0), with random weights."""
    from torchvision.models import mobilenet_v3_small

    network = mobilenet_v3_small()
    network.classifier = nn.Sequential(
        nn.Linear(576, 256), nn.Hardswish(), nn.Dropout(0.2), nn.Linear(256, PNEUMONIA_CLASSES)
    )
    return network


def load_pneumonia(weights: Path) -> nn.Module:
    """Load the network of `create_pneumonia_network`."""
    network = create_pneumonia_network()
    load_weights(network, weights)
    return network.float().eval()


class PositionWeights(nn.Module):
    """Weights of a linear layer on a flattened feature map (N, C, h, w), one for each channel and position.

    The layer is the sum of the weighted features, which is their mean times h w: a network with it ends in average
    pooling, and its contributions are exact.
    """

    weight: Tensor

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.register_buffer("weight", weight)

    def forward(self, features: Tensor) -> Tensor:
        """Weigh features."""
        return features * self.weight


def load_face_network(weights: Path) -> nn.Module:
    """Load a face network of four convolutions and a linear layer with one logit, in the form of `PositionWeights`.

    Raises:
        ContractError: the weights are of another network.
    """
    tensors = {name: tensor.float() for name, tensor in load_file(weights).items()}
    pairs = pairwise(CHANNELS)
    layers: list[nn.Module] = []
    for number, (before, after) in enumerate(pairs):
        conv = nn.Conv2d(before, after, 4, stride=2, padding=1)
        try:
            conv.load_state_dict({part: tensors[f"conv.{2 * number}.{part}"] for part in ("weight", "bias")})
        except (KeyError, RuntimeError) as error:
            raise ContractError(f"{weights} does not hold a face network: {error}") from error
        layers += [conv, nn.ReLU()]
    side = round((tensors["fc.weight"].shape[1] / CHANNELS[-1]) ** 0.5)
    head = nn.Linear(CHANNELS[-1], 1)
    with torch.no_grad():
        head.weight.fill_(side**2)
        head.bias.copy_(tensors["fc.bias"])
    position_weights = PositionWeights(tensors["fc.weight"].reshape(1, CHANNELS[-1], side, side))
    return nn.Sequential(*layers, position_weights, nn.AdaptiveAvgPool2d(1), nn.Flatten(), head).eval()
