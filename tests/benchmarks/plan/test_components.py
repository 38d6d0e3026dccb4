from __future__ import annotations

from collections.abc import Callable

from benchmarks.config.run import RunConfig
from benchmarks.metrics import metrics
from benchmarks.plan.components import RunComponents
from benchmarks.store.provenance import digest


def test_one_engine_for_all_metrics_that_have_it(tiny: Callable[..., RunConfig]) -> None:
    components = RunComponents(tiny(metric_engine="quantus", metrics=list(metrics)))
    assert {metric.engine for metric in components.metrics.values() if metric.has_reference()} == {"quantus"}
    assert {metric.engine for metric in components.metrics.values() if not metric.has_reference()} <= {"device"}
    mixed = [{"name": "auc", "engine": "quantus"}, "pixel_flipping"]
    assert [m.engine for m in RunComponents(tiny(metrics=mixed)).metrics.values()] == ["quantus", "device"]


def test_digest_sees_every_parameter_and_not_the_order_of_keys(tiny: Callable[..., RunConfig]) -> None:
    one, other = RunComponents(tiny()), RunComponents(tiny(metrics=["auc", {"name": "pixel_flipping", "steps": 5}]))
    assert digest(one.metrics["auc"]) == digest(other.metrics["auc"])
    assert digest(one.metrics["pixel_flipping"]) != digest(other.metrics["pixel_flipping"])
    assert digest({"a": 1, "b": 2}) == digest({"b": 2, "a": 1})
