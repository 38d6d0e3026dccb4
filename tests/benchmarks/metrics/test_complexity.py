from __future__ import annotations

import numpy as np
import pytest

from benchmarks.metrics import Batch, Metric, metrics

CHEAP = {"faithfulness_correlation": {"runs": 30}, "sensitivity": {"samples": 2}, "mprt": {"seeds": 1}}


def build(name: str, engine: str = "device") -> Metric:
    return metrics[name](engine=engine, **CHEAP.get(name, {}))


class TestSparseness:
    @pytest.mark.parametrize("unit", [1e-6, 1.0, -1e6])
    def test_single_pixel_and_half_and_any_unit(self, unit: float) -> None:
        maps = np.zeros((2, 1, 8, 8), np.float32)
        maps[0, 0, 3, 3] = 1
        maps[1, 0, :4] = 1
        case = Batch(None, np.ones((2, 1, 8, 8), np.float32), np.zeros(2, np.int64), maps * unit, None)
        assert np.allclose(build("sparseness")(case)["sparseness"], [63 / 64, 0.5], atol=2e-5)
