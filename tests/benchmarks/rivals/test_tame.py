"""TAME: what its losses reach, its losses by hand, and what it learns."""

from __future__ import annotations

from math import log

import pytest
import torch
from helpers.rival_nets import backbone, toy_batch, train_on_toys

from benchmarks.rivals import build
from interp_core.lap.odds import log_odds

pytestmark = pytest.mark.slow


def test_the_losses_of_masks_leave_the_network_alone() -> None:
    rival, batch = build("tame", backbone()).train(), toy_batch()
    losses = rival.losses(*batch)
    mask_losses = losses["masked"] + losses["area"] + losses["variation"]
    gradients = torch.autograd.grad(
        mask_losses, list(rival.backbone.parameters()), retain_graph=True, allow_unused=True
    )
    assert all(each is None for each in gradients)
    assert torch.autograd.grad(mask_losses, rival.fuse.weight)[0].abs().sum() > 0  # type: ignore[union-attr, arg-type]


def test_the_network_is_trained_as_a_plain_one() -> None:
    rival, plain, (images, targets, _) = build("tame", backbone()).train(), backbone().train(), toy_batch()
    rival.losses(images, targets, {})
    plain(images)
    for name, buffer in plain.named_buffers():
        torch.testing.assert_close(rival.backbone.get_buffer(name), buffer)


def test_losses_by_hand() -> None:
    options = {"masked_weight": 2.0, "area_weight": 3.0, "variation_weight": 5.0}
    rival, (images, targets, _) = build("tame", backbone(), options).eval(), toy_batch()
    with torch.no_grad():
        rival.fuse.weight.zero_()  # type: ignore[union-attr, operator]
        rival.fuse.bias.fill_(0.0)  # type: ignore[union-attr, operator]
        losses, classes = rival.losses(images, targets, {}), rival(images).argmax(1)
        odds = log_odds(rival(images / 2), classes)  # all masks are 1/2
    torch.testing.assert_close(losses["masked"], -2 * log(1000) / log(3) * odds.sigmoid().log().mean())
    torch.testing.assert_close(losses["area"], torch.tensor(3 * 0.5**0.3))
    assert float(losses["variation"]) == 0


def test_masks_find_what_the_network_uses() -> None:
    maps, squares = train_on_toys(build("tame", backbone()).train())
    assert maps[squares].mean() > 1.2 * maps[~squares].mean()
