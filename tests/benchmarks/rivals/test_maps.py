"""CAM, CALM and ABN-lite on networks that can be solved by hand, and the energy loss on maps made by hand."""

from __future__ import annotations

import pytest
import torch
from helpers.rival_nets import HandNet, backbone, tiled, toy_batch
from torch import Tensor

from benchmarks.rivals import Rival, build
from benchmarks.rivals.base import collect_notes
from benchmarks.rivals.calm import log_prior
from benchmarks.rivals.energy_loss import energy_inside, energy_loss, forbidden_pixels, select_known
from interp_core.errors import BackboneError

pytestmark = pytest.mark.slow

NAN = float("nan")
# Features X_1 and X_2 on the 2 x 2 grid; W_0 = (1, -2), W_1 = (0.5, 3).
IMAGE = tiled([[1.0, 0.0], [2.0, 4.0]], [[0.0, 1.0], [1.0, 1.0]])
SMALL = {"image_size": 8}


def half(value: float = 1.0) -> Tensor:
    masks = torch.zeros(1, 1, 8, 8)
    masks[..., :4] = value
    return masks


def uneven_map() -> Tensor:
    """Positive energy 4 in the left half, 12 in the right, and negative values that do not count."""
    maps = torch.zeros(1, 1, 8, 8)
    maps[0, 0, 0, :4], maps[0, 0, 1, 4:], maps[0, 0, 5] = 1.0, 3.0, -9.0
    return maps


def grid_maps_of(rival: Rival, images: Tensor, labels: Tensor) -> Tensor:
    with collect_notes() as notes:
        rival(images)
    return rival.grid_maps(notes, labels)  # type: ignore[operator]


def test_energy_of_a_uneven_map() -> None:
    assert energy_inside(uneven_map(), half()).item() == pytest.approx(4 / 16)
    assert energy_inside(-uneven_map().abs(), half()).item() == 0


def test_the_energy_loss_adds_both_regions_and_leaves_out_images_without() -> None:
    maps = torch.cat([uneven_map(), 5 * torch.ones(1, 1, 8, 8)])
    one_unknown = torch.cat([half(), torch.full_like(half(), NAN)])
    assert energy_loss(maps, {"object": one_unknown}).item() == pytest.approx(12 / 16)
    assert energy_loss(maps, {"irrelevant": one_unknown}).item() == pytest.approx(4 / 16)
    assert energy_loss(maps, {"object": one_unknown, "irrelevant": one_unknown}).item() == pytest.approx(1)
    assert energy_loss(maps, {"object": torch.full_like(one_unknown, NAN)}).item() == 0
    assert select_known({"object": one_unknown}, "irrelevant") is None


def test_forbidden_pixels_are_outside_the_object_or_inside_the_irrelevant() -> None:
    nothing = torch.full_like(half(), NAN)
    top = half().transpose(2, 3)
    forbidden = forbidden_pixels(
        {"object": torch.cat([nothing, half(), half()]), "irrelevant": torch.cat([nothing, nothing, top])}
    )
    assert forbidden is not None
    rows, masks = forbidden
    assert rows.tolist() == [1, 2]
    torch.testing.assert_close(masks[:1], 1 - half())
    torch.testing.assert_close(masks[1:], torch.maximum(1 - half(), top))
    assert forbidden_pixels({}) is None
    assert forbidden_pixels({"object": nothing}) is None


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


def test_the_energy_loss_moves_evidence_into_the_object() -> None:
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


def test_heads_that_are_not_linear_are_refused_where_they_must_be() -> None:
    import timm

    with pytest.raises(BackboneError, match="calm needs global average pooling and one linear layer"):
        build("calm", timm.create_model("mobilenetv3_small_050", num_classes=3), {"image_size": 64})


def test_calm_s_probabilities_sum_to_one() -> None:
    rival, images = build("calm", backbone()).eval(), torch.randn(4, 3, 32, 32)
    with torch.no_grad(), collect_notes() as notes:
        probabilities = rival(images).exp()
        joint = notes["joint"].exp()
    torch.testing.assert_close(probabilities.sum(1), torch.ones(4))
    torch.testing.assert_close(joint.sum((1, 2, 3)), torch.ones(4))
    torch.testing.assert_close(joint.sum((2, 3)), probabilities)
    maps = rival.grid_maps({"joint": joint.log()}, torch.eye(3)[[1, 1, 1, 1]])  # type: ignore[operator]
    torch.testing.assert_close(maps.sum((1, 2, 3)), probabilities[:, 1])


def test_calm_by_hand() -> None:
    rival = build("calm", HandNet(), SMALL)
    with torch.no_grad():
        rival.place.weight.copy_(torch.tensor([1.0, 0.0]).view(1, 2, 1, 1))  # type: ignore[union-attr, operator]
        rival.place.bias.zero_()  # type: ignore[union-attr, operator]
    prior = torch.tensor([[1.0, 0.0], [2.0, 4.0]]) / 7
    scores = (
        torch.tensor([[[1.0, -2.0], [0.0, 2.0]], [[0.5, 3.0], [4.0, 5.0]]]) + torch.tensor([0.25, -0.5])[:, None, None]
    )
    expected = (scores.softmax(0) * prior).sum((1, 2))
    torch.testing.assert_close(rival(IMAGE)[0].exp(), expected, rtol=1e-4, atol=1e-6)
    losses = build("calm", HandNet(), SMALL | {"variant": "ml"}).losses
    assert set(losses(IMAGE, torch.tensor([0]), {})) == {"likelihood"}


def test_positions_that_the_relu_shuts_are_uniform() -> None:
    torch.testing.assert_close(log_prior(-torch.rand(1, 1, 2, 3)).exp(), torch.full((1, 1, 2, 3), 1 / 6))


def test_expectation_maximisation_has_the_gradient_of_the_likelihood() -> None:
    images, targets, _ = toy_batch()
    gradients = []
    for variant in ("em", "ml"):
        torch.manual_seed(1)
        rival = build("calm", backbone(), {"variant": variant}).double()
        (loss,) = rival.losses(images.double(), targets, {}).values()
        loss.backward()
        gradients.append([parameter.grad for parameter in rival.parameters()])
    assert all(gradient.abs().sum() > 0 for gradient in gradients[0][-2:])
    for ours, theirs in zip(*gradients, strict=True):
        torch.testing.assert_close(ours, theirs)


def test_calm_s_likelihood_is_the_cross_entropy_of_its_answer() -> None:
    rival, (images, targets, _) = build("calm", backbone(), {"variant": "ml"}).eval(), toy_batch()
    (loss,) = rival.losses(images, targets, {}).values()
    torch.testing.assert_close(loss, torch.nn.functional.cross_entropy(rival(images), targets))


def test_abn_weighs_features_by_one_plus_the_map() -> None:
    rival = build("abn", HandNet(), SMALL).eval()
    with torch.no_grad():
        rival.look[0].weight.zero_()  # type: ignore[index]
        torch.testing.assert_close(rival(IMAGE), HandNet()(1.5 * IMAGE))  # sigmoid(0) everywhere
        rival.look[1].bias.fill_(-50.0)  # type: ignore[index]
        torch.testing.assert_close(rival(IMAGE), HandNet()(IMAGE))


def test_abn_s_map_knows_no_class_and_its_branch_learns_one() -> None:
    rival, (images, targets, _) = build("abn", backbone(), {"branch_weight": 0.5}), toy_batch()
    maps = rival.explain(images, targets)
    torch.testing.assert_close(maps, rival.explain(images, (targets + 1) % 3))
    assert maps.min() > 0
    assert maps.max() < 1
    with collect_notes() as notes:
        rival(images)
    branch = torch.nn.functional.cross_entropy(notes["auxiliary"], targets)
    torch.testing.assert_close(rival.losses(images, targets, {})["branch"], 0.5 * branch)
