"""Grad-CAM against class activation maps and against its own formula written out."""

from __future__ import annotations

from typing import Any

import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines import explainers
from baselines.grad_cam import GradCam
from interp_core.backbone.geometry import CellGrid, resize
from interp_core.backbone.inspect import feature_layer
from interp_core.errors import ContractError


def test_equals_the_class_activation_map_by_hand(gap_net: Any, images: Tensor) -> None:
    net, targets = gap_net, torch.tensor([2, 0])
    features = net.forward_features(images)
    cam = torch.einsum("nc,nchw->nhw", net.head.weight[targets], features).relu().unsqueeze(1) / 64
    expected = F.interpolate(cam, (32, 32), mode="bilinear", align_corners=False)
    assert expected.max() > 0
    torch.testing.assert_close(GradCam()(net, images, targets), expected.detach())


@pytest.mark.slow
@pytest.mark.parametrize("name", ["test_resnet", "test_efficientnet", "test_convnext", "densenet121"])
def test_equals_its_formula_on_timm_families(name: str, images: Tensor) -> None:
    torch.manual_seed(0)
    model = timm.create_model(name, num_classes=4).eval()
    images = F.interpolate(images, (64, 64))
    features = model.forward_features(images).detach().clone().requires_grad_()  # type: ignore[operator]
    # Behind a clone: some heads change their input in place.
    logits = model.forward_head(features.clone())[torch.arange(2), torch.tensor([1, 3])]  # type: ignore[operator]
    weights = torch.autograd.grad(logits.sum(), features)[0].mean((2, 3), keepdim=True)
    expected = F.interpolate((weights * features).sum(1, keepdim=True).relu(), (64, 64), mode="bilinear")
    actual = GradCam(aligned=False)(model, images, torch.tensor([1, 3]))
    torch.testing.assert_close(actual, expected.detach(), rtol=1e-3, atol=1e-6)


@pytest.mark.slow
def test_is_refused_where_there_is_no_last_feature_map(images: Tensor) -> None:
    with pytest.raises(ContractError, match=r"grad_cam cannot explain this model: .*not convolutional"):
        GradCam()(timm.create_model("test_vit", num_classes=4), images, torch.tensor([0, 0]))


def test_the_search_for_the_layer_is_no_part_of_the_cost(plain: nn.Module, images: Tensor) -> None:
    targets = torch.tensor([0, 0])
    assert GradCam().refusal(plain) is None
    assert [GradCam().measure(plain, images, targets)[1].forwards for _ in range(2)] == [2, 2]


def test_explain_finds_the_layer_by_itself(plain: nn.Module, images: Tensor) -> None:
    targets = torch.tensor([0, 1])
    maps = GradCam(aligned=False).explain(plain, images.clone(), targets)
    assert maps.shape == (2, 1, 4, 4)
    expected = F.interpolate(maps, (32, 32), mode="bilinear", align_corners=False)
    torch.testing.assert_close(explainers["grad_cam"](aligned=False)(plain, images, targets), expected.detach())


def test_aligned_cells_lie_where_maps_are_shown(images: Tensor) -> None:
    net = timm.create_model("test_resnet", num_classes=4, avg_down=False, zero_init_last=False).eval()
    images, targets = F.interpolate(images, (65, 65)), torch.tensor([1, 3])
    cells = GradCam(aligned=False).explain(net, images, targets)
    assert cells.shape[-2:] == (3, 3)
    # Strided 3x3 convolutions put three cells on pixels 0, 32 and 64, a tiling on 15.5, 47.5 and 79.5.
    grid = CellGrid.square(0.75 * 15.5, 32)
    assert feature_layer(net).grid_of((65, 65)) == CellGrid.square(0, 32)
    torch.testing.assert_close(GradCam()(net, images, targets), resize(cells, 65, 65, grid).detach())
