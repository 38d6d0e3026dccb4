from __future__ import annotations

import pytest
import torch
from helpers.rival_nets import backbone, toy_batch

from benchmarks.rivals import build

pytestmark = pytest.mark.slow


@pytest.mark.parametrize("region", ["object", "irrelevant"])
def test_energy_on_grad_cam_is_energy_on_cam_where_the_head_is_linear(region: str) -> None:
    pixels, targets, regions = toy_batch()
    results = []
    for name in ("cam_energy", "energy_grad_cam"):
        rival = build(name, backbone()).double()
        losses = rival.losses(pixels.double(), targets, {region: regions[region].double()})
        torch.stack(list(losses.values())).sum().backward()
        results.append((losses, [parameter.grad for parameter in rival.parameters()]))
    torch.testing.assert_close(results[0][0], results[1][0])
    torch.testing.assert_close(results[0][1], results[1][1])
