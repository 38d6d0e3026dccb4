from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from helpers.cases import net_case, square_case
from pydantic import ValidationError

from benchmarks.metrics.road import Road


class TestRoad:
    def test_the_exact_map_loses_the_decision_first_and_its_negative_last(self) -> None:
        """Imputed from the rest of a square of equal brightness the evidence stays; so the square must be all of it."""
        case = square_case(4)
        images = case.images * np.where(case.masks, 1.0, -1.0).astype(np.float32)  # type: ignore[arg-type]
        case = replace(case, images=images, maps=np.abs(images * case.masks))
        right, wrong = Road()(case), Road()(replace(case, maps=-case.maps))
        assert (right["road"] > 0.3).all()
        assert np.allclose(wrong["road"], -right["road"], atol=0.25)

    def test_the_noise_is_the_same_for_every_map(self) -> None:
        case = net_case(2)
        metric = Road(noise=0.5)
        assert np.array_equal(metric._noise(case), metric._noise(replace(case, maps=-case.maps)))
        assert not np.array_equal(metric._noise(case), metric._noise(replace(case, seed=9)))

    @pytest.mark.parametrize("percentages", [(), (0.0,), (100.0,), (-3.0,)])
    def test_percentages_that_make_no_sense_are_refused(self, percentages: tuple[float, ...]) -> None:
        with pytest.raises(ValidationError):
            Road(percentages=percentages)
