from __future__ import annotations

import gc
import weakref
from dataclasses import replace

import numpy as np
import pytest
from helpers.cases import Square, square_case
from torch import nn

from benchmarks.metrics import Metric, metrics
from benchmarks.metrics.quantus_adapter import evaluate, predictions
from interp_core.errors import ContractError

CHEAP = {"faithfulness_correlation": {"runs": 30}, "sensitivity": {"samples": 2}, "mprt": {"seeds": 1}}


def build(name: str, engine: str = "device") -> Metric:
    return metrics[name](engine=engine, **CHEAP.get(name, {}))


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

    @pytest.mark.slow
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

    @pytest.mark.slow
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
