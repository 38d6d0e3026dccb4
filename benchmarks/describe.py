"""What a run says of its parts in run.json, so that the report needs no registry."""

from __future__ import annotations

from typing import Any

from benchmarks.config import Parts
from benchmarks.metrics import Metric


def describe(parts: Parts) -> dict[str, Any]:
    """Data set, explainers and metrics of a run as plain data."""
    dataset = parts.dataset
    return {
        "dataset": {
            **dataset.model_dump(mode="json"),
            "name": dataset.name,
            "title": dataset.title,
            "classes": list(dataset.classes),
        },
        "explainers": [
            {
                "name": name,
                "title": explainer.title,
                "kind": explainer.kind,
                "signed": explainer.signed,
                "source": explainer.source,
                "params": explainer.model_dump(mode="json"),
            }
            for name, explainer in parts.explainers.items()
        ],
        "metrics": [entry for metric in parts.metrics.values() for entry in _scores(metric)] + [_BACKWARDS],
    }


def _scores(metric: Metric) -> list[dict[str, Any]]:
    settings = ", ".join(f"{key} = {value}" for key, value in metric.model_dump(mode="json").items())
    return [
        {
            "name": score.name,
            "metric": metric.name,
            "title": score.title,
            "family": metric.family,
            "direction": score.direction,
            "low": score.low,
            "high": score.high,
            "ranked": score.ranked,
            "settings": settings,
        }
        for score in metric.scores
    ]


_BACKWARDS = {
    "name": "backwards",
    "metric": "cost",
    "title": "Backward passes per image",
    "family": "cost",
    "direction": "lower",
    "low": 0,
    "high": None,
    "ranked": False,
    "settings": "",
}
