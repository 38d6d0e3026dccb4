from __future__ import annotations

import gc
import warnings
import weakref
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import ClassVar

import numpy as np
import pytest
import torch
from helpers.cases import SIDE, Square, square_case
from torch import nn

from baselines.support.guard import preserve
from benchmarks.metrics import Batch, Metric, Score, metrics
from benchmarks.metrics.base import JITTER, break_ties, is_degenerate
from benchmarks.metrics.map_ranks import positive_part, ranks, remove_jitter, subtract_minimum
from benchmarks.metrics.quantus_adapter import evaluate, predictions
from interp_core.errors import ContractError, UnknownNameError

CHEAP = {"faithfulness_correlation": {"runs": 30}, "sensitivity": {"samples": 2}, "mprt": {"seeds": 1}}
# Needs images of more classes than the cases here have.
NAMES = [name for name in metrics if name != "grid_pg"]
COLUMNS = [(name, spec) for name in NAMES for spec in metrics[name].scores]
# A map and its negative are alike to magnitudes, to checks, which hold one map to another, and to ROAD, which fills
# a square of even brightness in again; each has tests of its own.
ALIKE = ("attribution_localisation", "road", "random_logit", "mprt")


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
        ("name", "spec"), [(n, s) for n, s in COLUMNS if n not in ALIKE], ids=lambda v: str(v)[:40]
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

    @pytest.mark.parametrize("name", NAMES)
    @pytest.mark.parametrize("value", [0.0, 1.0, -2.0, np.nan, np.inf])
    def test_a_batch_of_nothing_but_degenerate_maps_is_scored(self, name: str, value: float) -> None:
        case = square_case(2)
        scores = build(name)(replace(case, maps=np.full_like(case.maps, value)))
        assert all(np.isfinite(values).all() for values in scores.values())

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

    @pytest.mark.parametrize("name", NAMES)
    def test_no_warning_escapes_and_warnings_are_given_back(self, name: str) -> None:
        helpers = pytest.importorskip("quantus.helpers.warn")
        compare, filters = helpers.warn_perturbation_caused_no_change, list(warnings.filters)
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            build(name)(square_case(2))
        assert helpers.warn_perturbation_caused_no_change is compare
        assert warnings.filters == filters

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

    def test_ranks_by_hand(self) -> None:
        maps = np.array([[[[3.0, -1.0], [0.0, 9.0]]]])
        assert ranks(maps).ravel().tolist() == [3, 1, 2, 4]
        assert ranks(-maps).ravel().tolist() == [2, 4, 3, 1]

    def test_jitter_is_taken_out_of_zeros_and_signs_are_kept(self) -> None:
        maps = np.zeros((1, 1, 8, 8), np.float32)
        maps[..., 0, 0], maps[..., 1, 1] = 4, -2
        ready = break_ties(maps, seed=0)
        assert np.count_nonzero(remove_jitter(ready)) == 2
        assert np.count_nonzero(positive_part(ready)) == 1
        assert subtract_minimum(ready).min() == 0


class TestAdapter:
    def test_hidden_softmax_layers_do_not_confuse_quantus(self) -> None:
        """Quantus takes a softmax that is registered last for the network's output."""

        class Attentive(Square):
            def __init__(self, mask: np.ndarray) -> None:
                super().__init__(mask)
                self.attention = nn.Softmax(-1)

        case = square_case()
        assert isinstance(case.model, Square)
        network = Attentive(case.masks[:1])  # type: ignore[index]
        for name in ("pixel_flipping", "faithfulness_correlation"):
            metric = build(name, "quantus")
            plain, attentive = metric(case), metric(replace(case, model=network.eval()))
            assert all(np.array_equal(plain[key], attentive[key]) for key in plain)

    def test_networks_are_not_kept_alive(self) -> None:
        case = square_case(2)
        reference = weakref.ref(case.model)
        for engine in ("device", "quantus"):
            build("pixel_flipping", engine)(case)
        del case
        gc.collect()
        assert reference() is None

    def test_a_network_in_training_mode_is_refused(self) -> None:
        case = square_case(2)
        assert case.model is not None
        case.model.train()
        with pytest.raises(ContractError, match="evaluation mode"):
            build("pixel_flipping")(case)

    def test_what_quantus_refuses_is_said_in_one_line(self) -> None:
        case = square_case(2)
        with pytest.raises(ContractError, match=r"quantus Sparseness refuses this batch: .*zero") as caught:
            evaluate("Sparseness", case, np.zeros_like(case.maps), with_model=False)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("name", ["pixel_flipping", "region_perturbation", "faithfulness_correlation"])
    @pytest.mark.parametrize("targets", [[0, 9], [0, -1], [0, 1, 1]])
    def test_targets_that_do_not_fit_are_refused(self, name: str, targets: list[int]) -> None:
        with pytest.raises(ContractError):
            build(name)(replace(square_case(2), targets=np.array(targets)))

    def test_predictions_are_the_probabilities_of_the_targets(self) -> None:
        case = replace(square_case(), targets=np.array([0, 1, 1, 0]))
        logit = case.maps.sum((1, 2, 3)) / 20
        probability = 1 / (1 + np.exp(-logit.astype(np.float64)))
        assert np.allclose(predictions(case), np.where(case.targets == 1, probability, 1 - probability), atol=1e-6)


class TestSparseness:
    @pytest.mark.parametrize("unit", [1e-6, 1.0, -1e6])
    def test_single_pixel_and_half_and_any_unit(self, unit: float) -> None:
        maps = np.zeros((2, 1, 8, 8), np.float32)
        maps[0, 0, 3, 3] = 1
        maps[1, 0, :4] = 1
        case = Batch(None, np.ones((2, 1, 8, 8), np.float32), np.zeros(2, np.int64), maps * unit, None)
        assert np.allclose(build("sparseness")(case)["sparseness"], [63 / 64, 0.5], atol=2e-5)
