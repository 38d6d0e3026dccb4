"""SHAP: the sum, a model whose only region is known, and what must not leak from one image to the next."""

from __future__ import annotations

import sys

import cv2
import numpy as np
import pytest
import shap
import torch
from torch import Tensor, nn

from baselines import shap as module
from baselines.shap import Shap, compile_once

pytestmark = pytest.mark.slow

TARGETS = torch.tensor([1, 3])


def test_finds_the_only_region_the_model_looks_at(
    region_net: nn.Module, board: Tensor, box: tuple[slice, slice]
) -> None:
    maps = Shap(evaluations=200)(region_net, board, torch.tensor([1]))[0, 0]
    inside = torch.zeros(32, 32, dtype=torch.bool)
    inside[box] = True
    assert maps[inside].min() > 0
    torch.testing.assert_close(maps[~inside], torch.zeros(int((~inside).sum())), atol=1e-6, rtol=0)


def test_values_of_a_linear_model_are_weights_times_what_blurring_takes(images: Tensor) -> None:
    torch.manual_seed(0)
    linear = nn.Linear(3 * 4 * 4, 4)
    small = images[:1, :, :4, :4].contiguous()
    blurred = cv2.blur(small[0].permute(1, 2, 0).contiguous().numpy(), (2, 2))
    weights = linear.weight[1].view(3, 4, 4)
    expected = (weights * (small[0] - torch.from_numpy(blurred).permute(2, 0, 1))).sum(0).detach()
    values = Shap(evaluations=5000)(nn.Sequential(nn.Flatten(), linear), small, torch.tensor([1]))[0, 0]
    torch.testing.assert_close(values, expected, rtol=1e-3, atol=1e-5)


def test_sums_to_what_blurring_takes_from_the_logit(plain: nn.Module, images: Tensor) -> None:
    side = round(32 * 128 / 224)
    blurred = torch.stack(
        [torch.from_numpy(cv2.blur(x.permute(1, 2, 0).numpy(), (side, side))).permute(2, 0, 1) for x in images]
    )
    with torch.no_grad():
        change = (plain(images) - plain(blurred))[torch.arange(2), TARGETS]
    maps = Shap(evaluations=50)(plain, images, TARGETS)
    torch.testing.assert_close(maps.sum((1, 2, 3)), change, rtol=1e-3, atol=1e-5)


def test_an_image_is_explained_alike_whatever_came_before(
    plain: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch
) -> None:
    # As if every image came to lie at the address of the one before.
    monkeypatch.setattr(sys.modules[shap.maskers.Image.__module__], "id", lambda _: 0, raising=False)
    together = Shap(evaluations=20)(plain, images, TARGETS)[1:]
    torch.testing.assert_close(together, Shap(evaluations=20)(plain, images[1:], TARGETS[1:]), rtol=1e-3, atol=1e-6)


def test_spends_its_evaluations_whatever_the_batch(plain: nn.Module, images: Tensor) -> None:
    for size in (2, 7, 64):
        assert Shap(evaluations=40, batch_size=size).measure(plain, images, TARGETS)[1].forwards == 80


def test_is_silent(plain: nn.Module, images: Tensor, capfd: pytest.CaptureFixture[str]) -> None:
    Shap(evaluations=20)(plain, images, TARGETS)
    assert capfd.readouterr() == ("", "")


def test_compiles_once_and_outside_the_clock(plain: nn.Module, images: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    real = module.partition_values

    def watched(*args: object, **kwargs: object) -> np.ndarray:
        calls.append(1)
        return real(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(module, "partition_values", watched)
    compile_once.cache_clear()
    first = Shap(evaluations=20).measure(plain, images, TARGETS)[1]
    Shap(evaluations=20).measure(plain, images, TARGETS)
    assert len(calls) == 3
    assert first.forwards == 40
