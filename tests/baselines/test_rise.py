"""RISE: its masks, its estimate on a network whose answer is known, its budget."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from baselines.base import Explainer
from baselines.lime import Lime
from baselines.rise import Rise, random_masks

TARGETS = torch.tensor([2, 1])


@pytest.mark.parametrize(("height", "width"), [(32, 32), (30, 47)])
def test_masks_are_smooth_and_show_the_share_asked_for(height: int, width: int) -> None:
    torch.manual_seed(0)
    masks = random_masks(400, 7, 0.3, height, width)
    assert masks.shape == (400, 1, height, width)
    assert masks.min() >= 0
    assert masks.max() <= 1 + 1e-6
    assert abs(float(masks.mean()) - 0.3) < 0.02
    assert masks.diff(dim=-1).abs().max() < 0.5
    # Shifts at random: no pixel is always in the middle of a cell.
    assert masks.mean((0, 1)).std() < 0.05


class Share(nn.Module):
    """Probability of class 1 is how much of pixel (10, 20) shows; looks at nothing else."""

    def forward(self, x: Tensor) -> Tensor:
        pixel = x[:, :1, 10, 20].clamp(1e-6, 1 - 1e-6)
        return torch.cat([torch.log(1 - pixel), torch.log(pixel)], 1)


@pytest.mark.slow
def test_is_the_mean_mask_given_what_the_network_sees() -> None:
    images = torch.ones(1, 3, 32, 32)
    maps = Rise(masks=3000)(Share(), images, torch.tensor([1]))[0, 0]
    # E[M(q) M(p)] / share: E[M^2] / share at the pixel itself, the share far from it.
    torch.manual_seed(1)
    masks = random_masks(3000, 7, 0.5, 32, 32)[:, 0]
    expected = torch.einsum("m,mhw->hw", masks[:, 10, 20], masks) / 1500
    torch.testing.assert_close(maps, expected, rtol=0, atol=0.05)
    assert maps[10, 20] > 0.95 * maps.max()
    assert abs(float(maps[28, 4]) - 0.5) < 0.05


@pytest.mark.slow
@pytest.mark.parametrize("size", [1, 7, 64])
def test_the_batch_size_changes_nothing_but_the_batches(plain: nn.Module, images: Tensor, size: int) -> None:
    largest: list[int] = []
    plain.register_forward_pre_hook(lambda _, inputs: largest.append(len(inputs[0])))
    maps, cost = Rise(masks=20, internal_batch_size=size).measure(plain, images, TARGETS)
    assert max(largest) <= size
    assert (cost.forwards, cost.backwards) == (40, 0)
    torch.testing.assert_close(maps, Rise(masks=20)(plain, images, TARGETS), rtol=1e-3, atol=1e-6)


def test_few_masks_are_flagged(plain: nn.Module) -> None:
    assert Rise().masks == 4000
    assert Rise().caveat(plain) is None
    assert Rise(masks=999).caveat(plain) == "999 masks, where the paper has 4000: noisy"


@pytest.mark.parametrize("explainer", [Rise(masks=40, probability="sigmoid"), Lime(probability="sigmoid")])
def test_with_several_classes_an_image_the_others_do_not_count(explainer: Explainer) -> None:
    class Bright(nn.Module):
        """Class 0 where the left half is bright; class 1 by `factor` times the right half."""

        def __init__(self, factor: float) -> None:
            super().__init__()
            self.factor = factor

        def forward(self, images: Tensor) -> Tensor:
            left, right = (half.mean((1, 2, 3)) for half in images.split(16, dim=3))
            return torch.stack([left, self.factor * right], 1)

    images, targets = torch.rand(1, 3, 32, 32), torch.tensor([0])
    maps = [explainer.measure(Bright(factor).eval(), images, targets)[0] for factor in (0.0, 50.0)]
    assert torch.equal(*maps)
    softmax = explainer.model_copy(update={"probability": "softmax"})
    assert not torch.allclose(softmax.measure(Bright(50.0).eval(), images, targets)[0], maps[0])
