from __future__ import annotations

from helpers import runs as synthetic

from benchmarks.report import RunData
from benchmarks.store.record import RunRecord


def test_names_come_in_the_order_of_the_run_and_controls_last() -> None:
    data = synthetic.run(images=2)
    assert list(data.models) == ["plain", "lap"]
    assert next(iter(data.explainers)) == "lap"
    assert list(data.explainers)[-1] == "mask"
    assert list(data.metrics)[-2:] == ["seconds", "forwards"]


def test_what_the_description_lacks_is_taken_from_the_scores() -> None:
    data = RunData(
        RunRecord.model_validate({"metrics": None, "models": [{"name": "plain", "title": None}]}),
        synthetic.scores(images=2),
    )
    assert data.models["plain"].title == "plain"
    assert data.explainers["lime"].kind == "external"
    assert data.metrics["seconds"].direction == "lower"
    assert data.metrics["auc"].direction == "none"


def test_explainers_are_ordered_by_kind() -> None:
    kinds = {"shap": "amortised", "lime": "optimised", "grad_cam": "of a later version"}
    data = RunData(synthetic.with_kinds(kinds), synthetic.scores(images=2))
    assert list(data.explainers)[:5] == ["lap", "shap", "lime", "grad_cam", "integrated_gradients"]
    external = [info.name for info in data.explainers.values() if info.external]
    assert external == ["grad_cam", "integrated_gradients"]
    assert not any(info.external and info.control for info in data.explainers.values())
