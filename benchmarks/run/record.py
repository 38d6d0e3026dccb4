"""Build the record of a run, so that the report needs no registry. See `benchmarks.store.record` for its fields."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

import torch

from baselines import Explainer
from benchmarks.config.models import ModelConfig
from benchmarks.config.run import RunConfig, without_secrets
from benchmarks.metrics import Metric
from benchmarks.metrics.map_transforms import build_transforms
from benchmarks.plan.components import RunComponents
from benchmarks.rivals import rivals
from benchmarks.run.training import TrainedNetwork
from benchmarks.store.cell_files import SCHEMA
from benchmarks.store.provenance import git_state, system, versions
from benchmarks.store.record import (
    DatasetRecord,
    ExplainerRecord,
    MetricRecord,
    ModelRecord,
    RunRecord,
    StageRecord,
    TransformRecord,
)
from interp_core.backbone.inspect import inspect_backbone
from interp_core.backbone.runtime import runtime_of
from interp_core.datasets import DatasetConfig


def new_record(
    config: RunConfig, components: RunComponents, *, device: str, threads: int, overrides: dict[str, Any]
) -> RunRecord:
    """Return the record of a run that has not started.

    Args:
        config: the run.
        components: what it names.
        device: torch's name of the device.
        threads: of torch.
        overrides: what the command line changed in the configuration file.
    """
    transforms = build_transforms(config.smoothing, config.grids, config.sharpening)
    scores = [score for metric in components.metrics.values() for score in _describe_scores(metric)]
    return RunRecord(
        schema=SCHEMA,
        name=config.name,
        started=utc_now(),
        finished=None,
        config=config.to_record(),
        config_hash=config.hash(),
        overrides=without_secrets(overrides),
        versions=versions(),
        **system(),
        device=torch.cuda.get_device_name(device) if device.startswith("cuda") else device,
        threads=threads,
        git=git_state(),
        seeds=list(config.seeds),
        dataset=_describe_dataset(components.dataset),
        explainers=[_describe_explainer(name, explainer) for name, explainer in components.explainers.items()],
        metrics=[*scores, _BACKWARDS],
        ablations=[TransformRecord(**transform.describe()) for transform in transforms],
        audit=[],
    )


def utc_now() -> str:
    """Return the time as the record writes it."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def describe_models(networks: Sequence[TrainedNetwork], shape: Sequence[int]) -> list[ModelRecord]:
    """Describe trained networks, with titles that differ.

    Args:
        networks: in the order of the run.
        shape: (C, H, W) of their images.
    """
    return with_unique_titles([_describe_model(trained, shape) for trained in networks])


def with_unique_titles(models: Sequence[ModelRecord]) -> list[ModelRecord]:
    """Add its name to the title of each model whose title another model has too."""
    count = Counter(title for title, _ in {(model.title, model.name) for model in models})
    return [
        model.model_copy(update={"title": f"{model.title} ({model.name})"}) if count[model.title] > 1 else model
        for model in models
    ]


def _describe_model(trained: TrainedNetwork, shape: Sequence[int]) -> ModelRecord:
    model, facts = trained.cell.model, trained.facts
    backbone = getattr(trained.network, "backbone", trained.network)
    device = next(trained.network.parameters()).device
    images, size = torch.zeros(1, *shape, device=device), (shape[-2], shape[-1])
    runtime, info = runtime_of(trained.network, images), inspect_backbone(backbone, size)
    with torch.no_grad():
        features, _ = info.partition.features(backbone, images)
    maps = info.partition.layout.to_map(features, size[0] / size[1])
    grid = info.grid_of(size)
    stages = [{key: value for key, value in stage.items() if key != "history"} for stage in facts.get("stages", [])]
    return ModelRecord(
        name=model.name,
        title=f"{model.backbone}, {_method_of(model)}",
        backbone=model.backbone,
        lap=model.lap,
        rival=model.rival and model.rival.name,
        seed=trained.cell.seed,
        train_seconds=facts["train_seconds"],
        val_accuracy=facts["val_accuracy"],
        test_accuracy=facts["test_accuracy"],
        parameters=facts["parameters"],
        stages=[StageRecord(**stage) for stage in stages],
        grid=list(maps.shape[-2:]),
        layer=info.feature_module,
        first=_if_equal(grid.first),
        runtime=runtime.name,
        runtimes_refused=runtime.refused,
        pitch=info.reduction if grid.pitch == (info.reduction,) * 2 else _if_equal(grid.pitch),
    )


def _if_equal(axes: tuple[float, float]) -> float | None:
    """Return the number that holds for both axes, None where they differ."""
    return axes[0] if axes[0] == axes[1] else None


def _method_of(model: ModelConfig) -> str:
    return rivals[model.rival.name].title if model.rival else "with LAP" if model.lap else "plain"


def _describe_dataset(dataset: DatasetConfig) -> DatasetRecord:
    settings = dataset.model_dump(mode="json")
    findings = Counter(finding.kind for finding in dataset.findings)
    names = {"findings": findings, "name": dataset.name, "title": dataset.title, "classes": list(dataset.classes)}
    return DatasetRecord(**settings | names)


def _describe_explainer(name: str, explainer: Explainer) -> ExplainerRecord:
    return ExplainerRecord(
        name=name,
        title=explainer.title,
        kind=explainer.kind,
        signed=explainer.signed,
        source=explainer.source,
        params=explainer.model_dump(mode="json"),
        caveats={},
    )


def _describe_scores(metric: Metric) -> list[MetricRecord]:
    settings = ", ".join(f"{key} = {value}" for key, value in metric.model_dump(mode="json").items())
    return [
        MetricRecord(
            name=score.name,
            metric=metric.name,
            title=score.title,
            family=metric.family,
            direction=score.direction,
            low=score.low,
            high=score.high,
            ranked=score.ranked,
            passing=score.passing,
            settings=settings,
        )
        for score in metric.scores
    ]


_BACKWARDS = MetricRecord(
    name="backwards",
    metric="cost",
    title="Backward passes per image",
    family="cost",
    direction="lower",
    low=0,
    high=None,
    ranked=False,
    settings="",
)
