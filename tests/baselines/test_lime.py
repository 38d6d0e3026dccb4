"""LIME: the budget, the pieces around the library, and a model whose only region is known."""

from __future__ import annotations

import lime.lime_image
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from baselines.lime import Lime, classifier, paint, scale_budget, superpixels, without_progress_bar
from interp_core.errors import ContractError

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("height", "width", "expected"),
    [
        (224, 224, (1000, 100)),
        (448, 448, (2000, 200)),
        (112, 448, (1000, 100)),
        (64, 64, (286, 29)),
        (56, 56, (250, 25)),
        (8, 8, (250, 25)),
    ],
)
def test_budget_shrinks_with_the_side_down_to_a_quarter(height: int, width: int, expected: tuple[int, int]) -> None:
    assert scale_budget(height, width, 1000, 100) == expected


def test_budget_is_what_is_spent(plain: nn.Module) -> None:
    images = torch.randn(1, 3, 64, 64)
    cost = Lime(samples_at_224=70, segments_at_224=40).measure(plain, images, torch.tensor([0]))[1]
    assert cost.forwards == scale_budget(64, 64, 70, 40)[0] == 20


@pytest.mark.parametrize("scale", [1.0, 50.0, 0.0])
def test_superpixels_are_numbered_from_zero_without_gaps(scale: float) -> None:
    image = np.random.default_rng(0).normal(size=(40, 56, 3)).astype(np.float32) * scale
    labels = superpixels(image, 25)
    assert labels.shape == (40, 56)
    assert np.array_equal(np.unique(labels), np.arange(labels.max() + 1))
    assert 8 <= labels.max() + 1 <= 40


def test_superpixels_do_not_depend_on_the_range_of_the_image() -> None:
    image = np.random.default_rng(0).random((32, 32, 3))
    assert np.array_equal(superpixels(image, 25), superpixels(image * 6 - 3, 25))


def test_paint_puts_weights_where_their_labels_are() -> None:
    segments = np.array([[0, 0, 1], [2, 2, 1]])
    painted = paint(segments, [(2, -1.5), (0, 0.5)])
    assert painted.tolist() == [[0.5, 0.5, 0.0], [-1.5, -1.5, 0.0]]


@pytest.mark.parametrize("channels", [1, 3])
def test_classifier_gives_the_probabilities_of_the_model(channels: int) -> None:
    torch.manual_seed(0)
    model = nn.Sequential(nn.Flatten(), nn.Linear(channels * 16, 5))
    images = torch.randn(3, channels, 4, 4)
    stacked = images.expand(3, 3, 4, 4).permute(0, 2, 3, 1).numpy()
    answer = classifier(model, images)(stacked)
    np.testing.assert_allclose(answer, model(images).softmax(1).detach().numpy(), rtol=1e-6)


def test_finds_the_only_region_the_model_looks_at(
    region_net: nn.Module, board: Tensor, box: tuple[slice, slice]
) -> None:
    maps = Lime()(region_net, board, torch.tensor([1]))[0, 0].numpy()
    segments = superpixels(board[0].permute(1, 2, 0).numpy(), scale_budget(32, 32, 1000, 100)[1])
    inside = np.zeros((32, 32))
    inside[box] = 1
    overlap = np.bincount(segments.ravel(), inside.ravel())
    weights = np.bincount(segments.ravel(), maps.ravel()) / np.bincount(segments.ravel())
    assert weights.argmax() == overlap.argmax()
    assert np.corrcoef(overlap, weights)[0, 1] > 0.98
    assert weights[overlap > 0].min() > 5 * np.abs(weights[overlap == 0]).max()


def test_evidence_against_the_target_is_negative(
    region_net: nn.Module, board: Tensor, box: tuple[slice, slice]
) -> None:
    maps = Lime()(region_net, board, torch.tensor([0]))[0, 0]
    assert maps[box].mean() < 0
    assert abs(maps.min()) > 5 * maps.max()


def test_a_model_that_sees_nothing_gets_a_map_of_zeros(board: Tensor) -> None:
    class Blind(nn.Module):
        def forward(self, x: Tensor) -> Tensor:
            return torch.zeros(len(x), 3)

    maps = Lime(samples_at_224=80)(Blind(), board, torch.tensor([1]))
    torch.testing.assert_close(maps, torch.zeros(1, 1, 32, 32), atol=1e-7, rtol=0)


def test_the_progress_bar_is_silent_and_put_back(
    plain: nn.Module, images: Tensor, capfd: pytest.CaptureFixture[str]
) -> None:
    tqdm = lime.lime_image.tqdm
    Lime(samples_at_224=40)(plain, images, torch.tensor([0, 1]))
    assert capfd.readouterr() == ("", "")
    assert lime.lime_image.tqdm is tqdm
    with pytest.raises(KeyError), without_progress_bar():
        raise KeyError
    assert lime.lime_image.tqdm is tqdm


def test_images_lime_cannot_read_are_refused() -> None:
    model = nn.Sequential(nn.Flatten(), nn.Linear(2 * 64, 2))
    with pytest.raises(ContractError, match="lime reads images of 1 or 3 channels, got 2"):
        Lime()(model, torch.randn(1, 2, 8, 8), torch.tensor([0]))
