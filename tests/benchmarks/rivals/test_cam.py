"""CAM on a network that can be solved by hand."""

from __future__ import annotations

import pytest
import torch
from helpers.rival_nets import HandNet, backbone, tiled, toy_batch
from torch import Tensor

from benchmarks.rivals import Rival, build
from benchmarks.rivals.base import collect_notes

pytestmark = pytest.mark.slow

# Features X_1 and X_2 on the 2 x 2 grid; W_0 = (1, -2), W_1 = (0.5, 3).
IMAGE = tiled([[1.0, 0.0], [2.0, 4.0]], [[0.0, 1.0], [1.0, 1.0]])
SMALL = {"image_size": 8}


def half(value: float = 1.0) -> Tensor:
    masks = torch.zeros(1, 1, 8, 8)
    masks[..., :4] = value
    return masks


def grid_maps_of(rival: Rival, images: Tensor, labels: Tensor) -> Tensor:
    with collect_notes() as notes:
        rival(images)
    return rival.grid_maps(notes, labels)  # type: ignore[operator]


def test_cam_is_what_each_position_adds() -> None:
    rival = build("cam", HandNet(), SMALL).eval()
    maps = grid_maps_of(rival, IMAGE, torch.tensor([[1.0, 0.0]]))
    torch.testing.assert_close(maps, torch.tensor([[[[1.0, 0.0], [0.0, 2.0]]]]))  # 1, -2, 0, 2 before the positive part
    torch.testing.assert_close(rival(IMAGE)[0, 0], torch.tensor((1 - 2 + 0 + 2) / 4 + 0.25))
    torch.testing.assert_close(rival(IMAGE), HandNet()(IMAGE))


def test_cam_lies_on_the_centres_of_receptive_fields() -> None:
    maps = build("cam", HandNet(), SMALL).explain(IMAGE, torch.tensor([0]))
    torch.testing.assert_close(maps[0, 0, 0, 0], torch.tensor(1.0))  # flat before the first centre, at 1.5
    torch.testing.assert_close(maps[0, 0, 0, 3], torch.tensor(1 - 1.5 / 4))
    torch.testing.assert_close(maps[0, 0, 7, 7], torch.tensor(2.0))


def test_energy_of_cam_by_hand() -> None:
    rival = build("cam_energy", HandNet(), SMALL | {"energy_weight": 2.0})
    maps = rival.explain(IMAGE, torch.tensor([0]))
    inside = maps[..., :4].sum() / maps.sum()
    losses = rival.losses(IMAGE, torch.tensor([0]), {"object": half()})
    torch.testing.assert_close(losses["energy"], 2 * (1 - inside))
    assert set(build("cam", HandNet(), SMALL).losses(IMAGE, torch.tensor([0]), {"object": half()})) == {"cross_entropy"}


def test_the_energy_loss_moves_the_map_into_the_object() -> None:
    rival, (images, targets, regions) = build("cam_energy", backbone(), {"energy_weight": 5.0}), toy_batch()
    optimizer = torch.optim.AdamW(rival.parameters(), lr=1e-3)
    shares = []
    for _ in range(15):
        losses = rival.train().losses(images, targets, {"object": regions["object"]})
        shares.append(1 - losses["energy"].item() / 5)
        optimizer.zero_grad()
        torch.stack(list(losses.values())).sum().backward()
        optimizer.step()
    assert shares[-1] > shares[0] + 0.1
