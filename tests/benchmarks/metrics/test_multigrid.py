from __future__ import annotations

import pytest
import torch

from benchmarks.metrics.multigrid import build_levels, interpolate, restrict, run_cycle


def draw(*shape: int, seed: int = 0) -> torch.Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


class TestMultigrid:
    @pytest.mark.parametrize("size", [(8, 8), (9, 6), (7, 13)])
    def test_restriction_is_the_transpose_of_interpolation(self, size: tuple[int, int]) -> None:
        fine, coarse = draw(1, 2, *size), draw(1, 2, *(-(-side // 2) for side in size), seed=1)
        assert torch.allclose((restrict(fine) * coarse).sum(), (fine * interpolate(coarse, fine.shape[-2:])).sum())

    def test_interpolation_is_bilinear(self) -> None:
        coarse = draw(1, 1, 5, 4)
        expected = torch.nn.functional.interpolate(coarse, scale_factor=2, mode="bilinear", align_corners=False)
        assert torch.allclose(interpolate(coarse, torch.Size((10, 8))), expected)

    @pytest.mark.parametrize("side", [16, 21])
    def test_a_cycle_is_symmetric_and_positive(self, side: int) -> None:
        hole = (draw(1, 1, side, side) < 1.0).double()
        levels = build_levels(hole)
        a, b = draw(1, 1, side, side, seed=1) * hole, draw(1, 1, side, side, seed=2) * hole
        assert len(levels) > 1
        assert torch.allclose((run_cycle(a, levels) * b).sum(), (a * run_cycle(b, levels)).sum())
        assert (a * run_cycle(a, levels)).sum() > 0
