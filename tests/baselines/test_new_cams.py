"""Ablation-CAM, Finer-CAM and RefineCAM by hand, and against pytorch-grad-cam where that is installed."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from baselines import explainers
from baselines.ablation_cam import AblationCam
from baselines.finer_cam import FinerCam
from baselines.refine_cam import RefineCam
from baselines.support.stages import run_with_stages, stages_of

TARGETS = torch.tensor([2, 0])


def normalised(maps: Tensor) -> Tensor:
    return maps / maps.amax((2, 3), keepdim=True)


@pytest.mark.parametrize("size", [1, 3, 32])
def test_ablation_cam_by_hand(gap_net: Any, images: Tensor, size: int) -> None:
    features = gap_net.forward_features(images).detach()
    drops = gap_net.head.weight[TARGETS].detach() * features.mean((2, 3))
    expected = (drops[..., None, None] * features).sum(1, keepdim=True).relu()
    maps = AblationCam(aligned=False, internal_batch_size=size).explain(gap_net, images, TARGETS)
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-6)


def test_finer_cam_is_the_cam_of_the_lead(gap_net: Any, images: Tensor) -> None:
    logits, weight = gap_net(images).detach(), gap_net.head.weight.detach()
    features = gap_net.forward_features(images).detach()
    rows = []
    for values, target in zip(logits, TARGETS.tolist(), strict=True):
        others = sorted((k for k in range(3) if k != target), key=lambda k: abs(float(values[k] - values[target])))
        rows.append(weight[target] - 0.5 * weight[others[0]])
    expected = (torch.stack(rows)[..., None, None] / 64 * features).sum(1, keepdim=True).relu()
    maps = FinerCam(alpha=0.5, similar=1, aligned=False).explain(gap_net, images, TARGETS)
    # With one class to compare with, its probability is constant, and only the logits have a gradient.
    torch.testing.assert_close(maps, expected, rtol=1e-4, atol=1e-6)


def test_finer_cam_of_one_logit_is_grad_cam(gap_net: Any, images: Tensor) -> None:
    gap_net.head = nn.Linear(5, 1)
    maps = FinerCam()(gap_net, images, 0)
    torch.testing.assert_close(maps, explainers["grad_cam"]()(gap_net, images, 0))
    assert "one logit" in str(FinerCam().caveat(gap_net))


def test_finer_cam_without_comparison_is_grad_cam(gap_net: Any, images: Tensor) -> None:
    maps = FinerCam(alpha=0.0)(gap_net, images, TARGETS)
    torch.testing.assert_close(maps, explainers["grad_cam"]()(gap_net, images, TARGETS))
    assert FinerCam().caveat(gap_net) is None


def test_refine_cam_is_the_product_over_the_layers(gap_net: Any, images: Tensor) -> None:
    last = explainers["grad_cam_pp"](aligned=False).explain(gap_net, images, TARGETS)
    last = normalised(F.interpolate(last, (32, 32), mode="bilinear"))
    torch.testing.assert_close(RefineCam(aligned=False, finest=99)(gap_net, images, TARGETS), last)
    both = RefineCam(aligned=False, finest=1)(gap_net, images, TARGETS)
    assert [stage.reduction for stage in stages_of(gap_net)] == [2, 4]
    first = both / last.clamp(min=1e-6)
    assert float(first[last > 1e-3].max()) <= 1 + 1e-4
    assert not torch.allclose(both, last)


@pytest.mark.slow
def test_maps_can_be_changed_on_their_way(plain: nn.Module, images: Tensor) -> None:
    stages = stages_of(plain)
    maps, logits = run_with_stages(plain, stages, images, lambda features: features)
    torch.testing.assert_close(logits, plain(images))
    assert [each.shape[-1] for each in maps] == sorted((each.shape[-1] for each in maps), reverse=True)
    changed = run_with_stages(plain, stages[:1], images, torch.zeros_like)[1]
    assert not torch.allclose(changed, logits)
    assert not any(stage.module._forward_hooks for stage in stages)


@pytest.fixture
def resnet() -> Any:
    torch.manual_seed(0)
    return timm.create_model("resnet18", num_classes=6).eval()


def library_map(method: Any, images: Tensor, **options: Any) -> Tensor:
    with method as cam:
        return torch.from_numpy(np.asarray(cam(images, **options)))[:, None]


@pytest.mark.slow
@pytest.mark.parametrize("name", ["ablation_cam", "finer_cam", "refine_cam"])
def test_is_the_map_of_pytorch_grad_cam(name: str, resnet: Any) -> None:
    library = pytest.importorskip("pytorch_grad_cam")
    from pytorch_grad_cam.utils.model_targets import ClassifierOutputTarget

    images = torch.randn(1, 3, 64, 64, generator=torch.Generator().manual_seed(2))
    target = resnet(images).argmax(1)
    layers = [resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4]
    if name == "ablation_cam":
        method = library.AblationCAM(resnet, layers[-1:])
        expected = library_map(method, images, targets=[ClassifierOutputTarget(int(target))])
    elif name == "finer_cam":
        expected = library_map(library.FinerCAM(resnet, layers[-1:]), images)
    else:
        method = library.RefineCAM(resnet, layers)
        expected = torch.from_numpy(method(images, [ClassifierOutputTarget(int(target))]))[:, None]
    maps = explainers[name](aligned=False)(resnet, images, target)
    pair = torch.stack([maps.flatten(), expected.flatten()])
    # The library adds 1e-6 to a denominator of Grad-CAM++, which is of that size here.
    assert torch.corrcoef(pair)[0, 1] > (0.9 if name == "refine_cam" else 0.999)
