from __future__ import annotations

import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from helpers.cases import SIDE, square_case

from baselines.support.guard import preserve
from benchmarks.metrics import Batch, Metric, Score, metrics
from benchmarks.metrics.base import JITTER, break_ties, is_degenerate
from benchmarks.metrics.map_ranks import ranks
from interp_core.errors import ContractError, UnknownNameError

CHEAP = {"faithfulness_correlation": {"runs": 30}, "sensitivity": {"samples": 2}, "mprt": {"seeds": 1}}
# Needs images of more classes than the cases here have.
NAMES = [name for name in metrics if name != "grid_pg"]
COLUMNS = [(name, spec) for name in NAMES for spec in metrics[name].scores]
# A map and its negative are alike to magnitudes, to checks, which hold one map to another, and to ROAD, which fills
# a square of even brightness in again; the share of the twin's map does not read the map. Each has tests of its own.
ALIKE = ("attribution_localisation", "road", "random_logit", "mprt", "pair_twin")


def build(name: str, engine: str = "device") -> Metric:
    return metrics[name](engine=engine, **CHEAP.get(name, {}))


@contextmanager
def generators_unmoved() -> Iterator[None]:
    numpy, torch_state = repr(np.random.get_state()), torch.get_rng_state()  # noqa: NPY002
    yield
    assert repr(np.random.get_state()) == numpy  # noqa: NPY002
    assert torch.equal(torch_state, torch.get_rng_state())


class TestContract:
    def test_names_are_unique_and_only_one_view_of_each_is_ranked(self) -> None:
        names = [spec.name for _, spec in COLUMNS]
        assert len(set(names)) == len(names)
        assert all(sum(spec.ranked for spec in cls.scores) <= 1 for cls in metrics.values())
        assert all(spec.name == name and spec.direction != "none" for name, spec in COLUMNS if spec.ranked)
        assert not any(spec.ranked for name, spec in COLUMNS if metrics[name].family in ("descriptor", "check"))

    def test_the_registry_holds_what_the_run_needs(self) -> None:
        assert set(metrics) >= {
            "relevance_mass_accuracy",
            "relevance_rank_accuracy",
            "pointing_game",
            "auc",
            "pixel_flipping",
            "region_perturbation",
            "faithfulness_correlation",
            "sparseness",
        }
        with pytest.raises(UnknownNameError, match="pointing_game"):
            metrics["pointing_gane"]

    @pytest.mark.slow
    @pytest.mark.parametrize(
        ("name", "spec"), [(n, s) for n, s in COLUMNS if not {n, s.name} & set(ALIKE)], ids=lambda v: str(v)[:40]
    )
    def test_direction_and_range_agree_with_a_right_and_a_wrong_map(self, name: str, spec: Score) -> None:
        good = square_case()
        right = build(name)(good)[spec.name]
        wrong = build(name)(replace(good, maps=-good.maps))[spec.name]
        for values in (right, wrong):
            assert values.dtype == np.float64
            assert (values >= spec.low).all()
            assert (values <= spec.high).all()
        sign = {"higher": 1, "lower": -1, "none": 0}[spec.direction]
        assert np.array_equal(np.sign(np.round(right - wrong, 4)), np.full(len(right), sign))

    @pytest.mark.slow
    @pytest.mark.parametrize("name", NAMES)
    def test_degenerate_maps_are_scored_without_an_error(self, name: str) -> None:
        case = square_case()
        maps = case.maps.copy()
        maps[0], maps[1], maps[2] = 0, 7, np.nan
        for key, values in build(name)(replace(case, maps=maps)).items():
            spec = next(spec for spec in metrics[name].scores if spec.name == key)
            assert np.isfinite(values).all()
            if spec.degenerate is not None:
                assert np.array_equal(values[:3], [spec.degenerate] * 3)
            assert np.isclose(values[3], build(name)(case)[key][3], atol=1e-6)

    @pytest.mark.slow
    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("value", [0.0, 1.0, -2.0, np.nan, np.inf])
    def test_a_batch_of_nothing_but_degenerate_maps_is_scored(self, name: str, value: float) -> None:
        case = square_case(2)
        scores = build(name)(replace(case, maps=np.full_like(case.maps, value)))
        assert all(np.isfinite(values).all() for values in scores.values())

    @pytest.mark.slow
    @pytest.mark.parametrize("name", NAMES)
    def test_same_seed_same_values_and_nothing_of_the_caller_changes(self, name: str) -> None:
        case = square_case()
        assert case.model is not None
        assert case.masks is not None
        arrays = (case.images, case.targets, case.maps, case.masks)
        copies = [array.copy() for array in arrays]
        state = {key: value.clone() for key, value in case.model.state_dict().items()}
        with preserve(case.model), generators_unmoved():
            first, second = build(name)(case), build(name)(case)
        for key in first:
            assert np.array_equal(first[key], second[key], equal_nan=True)
        assert all(np.array_equal(old, new) for old, new in zip(copies, arrays, strict=True))
        assert all(torch.equal(value, state[key]) for key, value in case.model.state_dict().items())
        assert not case.model.training
        assert case.model.weight.grad is None

    @pytest.mark.slow
    @pytest.mark.parametrize("name", NAMES)
    def test_no_warning_escapes_and_warnings_are_given_back(self, name: str) -> None:
        helpers = pytest.importorskip("quantus.helpers.warn")
        compare, filters = helpers.warn_perturbation_caused_no_change, list(warnings.filters)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            build(name)(square_case(2))
        assert helpers.warn_perturbation_caused_no_change is compare
        assert warnings.filters == filters

    @pytest.mark.slow
    @pytest.mark.parametrize("name", NAMES)
    def test_numpy_without_trapz_is_enough(self, name: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.delattr(np, "trapz", raising=False)
        assert build(name)(square_case(2)).keys() == {spec.name for spec in metrics[name].scores}

    def test_what_a_metric_needs_is_asked_for(self) -> None:
        case = square_case(2)
        for name in NAMES:
            cls = metrics[name]
            if cls.needs_explain:
                with pytest.raises(ContractError, match="explainer"):
                    build(name)(replace(case, explain=None))
            if cls.needs_masks:
                with pytest.raises(ContractError, match="masks"):
                    build(name)(replace(case, masks=None))
            if cls.needs_model:
                with pytest.raises(ContractError, match="model"):
                    build(name)(replace(case, model=None))
            else:
                build(name)(replace(case, model=None))

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("shape", [(2, SIDE, SIDE), (2, 1, 8, 8), (1, 1, SIDE, SIDE), (2, 3, SIDE, SIDE)])
    def test_maps_of_a_wrong_shape_are_refused(self, name: str, shape: tuple[int, ...]) -> None:
        with pytest.raises(ContractError, match="maps"):
            build(name)(replace(square_case(2), maps=np.ones(shape, np.float32)))

    def test_values_of_a_wrong_shape_are_refused(self) -> None:
        class Short(Metric):
            name: ClassVar[str] = "short"
            scores: ClassVar[tuple[Score, ...]] = (Score("short", "Short", "none", 0, 1),)

            def score(self, batch: Batch) -> dict[str, np.ndarray]:
                return {"short": np.zeros(1)}

        with pytest.raises(ContractError, match=r"short must be \(2,\)"):
            Short()(square_case(2))


class TestMaps:
    def test_degenerate_are_constant_and_not_finite_maps(self) -> None:
        maps = np.random.default_rng(0).random((5, 1, 4, 4))
        maps[0], maps[1], maps[2, 0, 0, 0], maps[3, 0, 0, 0] = 0, 5, np.nan, -np.inf
        assert is_degenerate(maps).tolist() == [True, True, True, True, False]

    @pytest.mark.parametrize("offset", [0.0, 1.0, 1000.0, -1000.0])
    def test_no_ties_are_left_wherever_the_map_lies(self, offset: float) -> None:
        maps = np.full((2, 1, 64, 64), offset, np.float32)
        maps[:, :, :20, :20] += 1
        ready = break_ties(maps, seed=0)
        assert all(len(np.unique(image)) == 64 * 64 for image in ready)
        assert np.abs(ready - maps).max() <= JITTER * 1.001
        assert ready[:, :, :20, :20].min() > ready[:, :, 20:].max()

    def test_ties_are_ordered_by_the_seed_and_not_by_memory(self) -> None:
        maps = np.zeros((1, 1, 64, 64), np.float32)
        maps[..., 0, 0] = 1
        first, second = (ranks(break_ties(maps, seed)).ravel() for seed in (0, 1))
        assert abs(np.corrcoef(first, np.arange(64 * 64))[0, 1]) < 0.05
        assert abs(np.corrcoef(first, second)[0, 1]) < 0.05
