"""XRAI: its segments, its ranking by hand, and PAIR's own code where that is installed."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from baselines.xrai import Xrai, rank_segments, segments


def two_halves(side: int = 48) -> np.ndarray:
    """A dark image whose right third is bright."""
    image = np.zeros((side, side, 3), dtype=np.float32)
    image[:, 2 * side // 3 :] = 1
    return image


def test_segments_take_pixels_in_the_order_of_their_means() -> None:
    values = np.array([1.0, 3.0, 5.0, 0.0, -4.0])
    masks = np.array([[1, 1, 0, 0, 0], [0, 1, 1, 0, 0], [0, 0, 1, 1, 0]], dtype=bool)
    # The second is best with 4. The first then has its first pixel left, the third its last.
    assert rank_segments(values, masks, 1).tolist() == [1, 4, 4, 0, -4]
    # A segment that adds less than two pixels is dropped; the rest has its own mean.
    assert rank_segments(values, masks, 2).tolist() == [-1, 4, 4, -1, -1]


def test_segments_cover_the_image_at_every_scale_and_follow_its_edges() -> None:
    masks = segments(two_halves(), 48)
    assert masks.sum(0).min() >= 6
    bright = [mask for mask in masks if not mask[:, :24].any()]
    assert max(mask[:, 33:].mean() for mask in bright) > 0.8


@pytest.mark.parametrize("shape", [(16, 24, 3), (20, 20, 1)])
def test_an_image_of_one_value_is_one_segment(shape: tuple[int, int, int]) -> None:
    assert np.unique(segments(np.full(shape, 0.3, dtype=np.float32), 48), axis=0).all()


@pytest.mark.slow
def test_the_bright_part_gets_what_the_network_finds_there() -> None:
    class Bright(nn.Module):
        """Logit 1 is the mean of the bright part."""

        def forward(self, images: Tensor) -> Tensor:
            return torch.stack([images.sum((1, 2, 3)) * 0, images[..., 32:].mean((1, 2, 3))], 1)

    image = torch.from_numpy(two_halves()).permute(2, 0, 1)[None]
    maps, cost = Xrai(steps=4).measure(Bright().eval(), image, 1)
    assert maps[0, 0, :, 40:].min() > 10 * maps[0, 0, :, :24].abs().max()
    assert (cost.forwards, cost.backwards) == (8, 8)


@pytest.mark.slow
def test_ranks_segments_as_the_authors_do() -> None:
    library = pytest.importorskip("saliency.core")
    generator = np.random.default_rng(0)
    image, values = generator.random((224, 224, 3)), generator.normal(size=(224, 224, 3))
    image[60:160, 60:160] += 2
    masks = segments(image)
    expected = library.XRAI().GetMask(image, None, base_attribution=values, segments=list(masks))
    ranked = rank_segments(values.max(-1).ravel(), masks.reshape(len(masks), -1), 50)
    np.testing.assert_allclose(ranked, expected.ravel(), rtol=1e-9, atol=1e-9)
