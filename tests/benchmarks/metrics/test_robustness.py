from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.cases import exact, square_case

from benchmarks.metrics.robustness import Sensitivity


class TestSensitivity:
    def test_a_linear_map_moves_as_far_as_its_noise(self) -> None:
        """On average by the noise's own size: radius / sqrt(3) a pixel."""
        case = square_case(3)
        values = Sensitivity(samples=40, radius=0.1)(case)
        weight = case.model.weight.detach().numpy()  # type: ignore[union-attr, operator]
        size = np.linalg.norm(case.maps.reshape(3, -1), axis=1)
        assert np.allclose(values["avg_sensitivity"], 0.1 / np.sqrt(3) * np.sqrt(weight.sum()) / size, rtol=0.05)
        assert (values["max_sensitivity"] > values["avg_sensitivity"]).all()

    @pytest.mark.parametrize("radius", [0.01, 1.0])
    def test_a_map_that_never_moves_is_not_sensitive(self, radius: float) -> None:
        case = square_case(2)
        fixed = replace(case, explain=lambda *_: exact(case.model, case.images, case.targets))  # type: ignore[arg-type]
        assert (Sensitivity(samples=3, radius=radius)(fixed)["max_sensitivity"] < 1e-3).all()
