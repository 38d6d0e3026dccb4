"""What a run says of its parts in run.json, so that the report needs no registry."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

import torch

from benchmarks.config.models import ModelConfig
from benchmarks.metrics import Metric
from benchmarks.metrics.map_transforms import MapTransform
from benchmarks.plan.components import RunComponents
from benchmarks.rivals import rivals
from benchmarks.run.training import Trained
from interp_core.backbone.inspect import feature_layer


def describe(parts: RunComponents, transforms: Sequence[MapTransform]) -> dict[str, Any]:
    """Data set, explainers, metrics and ablations of a run as plain data."""
    dataset = parts.dataset
    return {
        "dataset": {
            **dataset.model_dump(mode="json"),
            "findings": Counter(finding.kind for finding in dataset.findings),
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
                "caveats": {},
            }
            for name, explainer in parts.explainers.items()
        ],
        "metrics": [entry for metric in parts.metrics.values() for entry in _scores(metric)] + [_BACKWARDS],
        "ablations": [transform.describe() for transform in transforms],
    }


def describe_model(item: Trained, shape: Sequence[int]) -> dict[str, Any]:
    """A trained network as plain data.

    Args:
        item: the network.
        shape: (C, H, W) of its images.
    """
    model, facts = item.cell.model, item.facts
    backbone = getattr(item.network, "backbone", item.network)
    device = next(item.network.parameters()).device
    with torch.no_grad():
        features = backbone.forward_features(torch.zeros(1, *shape, device=device))  # type: ignore[operator]
    layer = feature_layer(backbone)
    return {
        "name": model.name,
        "title": f"{model.backbone}, {_method(model)}",
        "backbone": model.backbone,
        "lap": model.lap,
        "rival": model.rival and model.rival.name,
        "seed": item.cell.seed,
        **{key: facts[key] for key in ("train_seconds", "val_accuracy", "test_accuracy", "parameters")},
        "stages": [{key: said for key, said in stage.items() if key != "history"} for stage in facts.get("stages", [])],
        "grid": list(features.shape[-2:]),
        "layer": layer.name,
        "first": layer.first,
        "pitch": layer.pitch,
    }


def with_unique_titles(models: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Networks as plain data, with their names in titles that several of them share."""
    named = {(model["title"], model["name"]) for model in models}
    count = Counter(title for title, _ in named)
    return [
        {**model, "title": f"{model['title']} ({model['name']})"} if count[model["title"]] > 1 else model
        for model in models
    ]


def _method(model: ModelConfig) -> str:
    return rivals[model.rival.name].title if model.rival else "with LAP" if model.lap else "plain"


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
            "passing": score.passing,
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
