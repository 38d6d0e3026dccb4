from __future__ import annotations

import numpy as np
import pytest
import torch
from quantus import noisy_linear_imputation

from benchmarks.metrics import imputation
from benchmarks.metrics.imputation import first_guess, impute
from benchmarks.metrics.multigrid import neighbour_sum


def holes(n: int, side: int, share: float, seed: int = 0) -> torch.Tensor:
    """Missing pixels: scattered ones in the first image, the smoother the later."""
    from scipy.ndimage import gaussian_filter

    rng = np.random.default_rng(seed)
    fields = [gaussian_filter(rng.standard_normal((side, side)), sigma) for sigma in np.linspace(0, side / 8, n)]
    return torch.from_numpy(np.stack([field < np.quantile(field, share) for field in fields])[:, None])


class TestImputation:
    @pytest.mark.parametrize("share", [0.1, 0.5, 0.9])
    @pytest.mark.parametrize("side", [5, 24, 31])
    def test_it_solves_what_quantus_solves(self, share: float, side: int) -> None:
        images = torch.randn(3, 2, side, side, generator=torch.Generator().manual_seed(0))
        missing = holes(3, side, share)
        imputed = impute(images, missing)
        for image, hole, solution in zip(images, missing, imputed, strict=True):
            indices = np.flatnonzero(hole.numpy())
            expected = noisy_linear_imputation(arr=image.numpy().astype(np.float64), indices=indices, noise=0.0)
            assert np.abs(solution.numpy() - expected).max() < 1e-4

    def test_what_is_there_stays_and_the_rest_is_the_mean_of_its_neighbours(self) -> None:
        images, missing = torch.rand(2, 3, 16, 16), holes(2, 16, 0.4)
        imputed = impute(images, missing)
        present = (~missing).expand_as(images)
        assert torch.equal(imputed[present], images[present])
        weight = neighbour_sum(torch.ones(2, 1, 16, 16))
        assert ((weight * imputed - neighbour_sum(imputed)) * missing).abs().max() < 1e-5

    def test_a_constant_image_stays_constant(self) -> None:
        assert torch.allclose(impute(torch.full((1, 1, 16, 16), 3.0), holes(1, 16, 0.9)), torch.tensor(3.0), atol=1e-5)

    def test_a_large_hole_takes_few_steps(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(imputation, "MAX_STEPS", 15)
        images, missing = torch.randn(1, 1, 160, 160, generator=torch.Generator().manual_seed(0)), holes(2, 160, 0.9)
        few = impute(images.expand(2, -1, -1, -1), missing)
        monkeypatch.setattr(imputation, "MAX_STEPS", 200)
        assert torch.equal(few, impute(images.expand(2, -1, -1, -1), missing))

    def test_nothing_missing(self) -> None:
        images = torch.rand(1, 1, 8, 8)
        assert torch.equal(impute(images, torch.zeros(1, 1, 8, 8, dtype=torch.bool)), images)

    @pytest.mark.parametrize("side", [7, 12, 33])
    def test_a_first_guess_has_no_hole(self, side: int) -> None:
        present = torch.zeros(1, 1, side, side)
        present[..., 0, 0] = 1
        assert torch.allclose(first_guess(5 * present, present), torch.tensor(5.0))
