"""Build the objects that a configuration names."""

from __future__ import annotations

from types import ModuleType
from typing import Any

from baselines import Explainer, explainers
from benchmarks.config.choice import Named
from benchmarks.config.models import ModelConfig
from benchmarks.config.plugins import load_plugin, registered_by
from benchmarks.config.run import RunConfig
from benchmarks.config.weight_files import digest_of
from benchmarks.metrics import Metric, metrics
from benchmarks.plan.stages import TrainingStage, training_stages
from benchmarks.rivals import RivalOptions, rivals
from interp_core.datasets import DatasetConfig, datasets
from interp_core.errors import UnknownNameError
from interp_core.knowledge import Term, terms
from interp_core.registry import Registry
from interp_core.training import DEFAULT_TERMS


class RunComponents:
    """The objects a configuration names, built once: data set, terms, explainers, metrics, and stages of models."""

    def __init__(self, config: RunConfig) -> None:
        modules = [load_plugin(name) for name in config.plugins]
        self.dataset: DatasetConfig = config.dataset.build(datasets)
        self.terms: tuple[Term, ...] | None = (
            None if config.terms is None else tuple(choice.build(terms) for choice in config.terms)
        )
        self.explainers: dict[str, Explainer] = _build(config.explainers, explainers, modules)
        self.metrics: dict[str, Metric] = {
            name: _with_engine(metric, config.metric_engine)
            for name, metric in _build(config.metrics, metrics, modules).items()
        }
        for model in config.models:
            check_backbone(model)
            rival_options(model)
            if model.checkpoint is not None:
                digest_of(model.checkpoint)
        knowledge = DEFAULT_TERMS if self.terms is None else self.terms
        self.training_stages: dict[str, tuple[TrainingStage, ...]] = {
            model.name: training_stages(model, config.recipe, knowledge) for model in config.models
        }


def _build(choices: tuple[Named, ...], registry: Registry[Any], modules: list[ModuleType]) -> dict[str, Any]:
    """What is chosen by name, then what plugins bring."""
    brought = [Named(name=name) for module in modules for name in registered_by(module, registry)]
    named = {choice.name: choice for choice in (*brought, *choices)}
    order = [choice.name for choice in (*choices, *brought)]
    return {name: named[name].build(registry) for name in dict.fromkeys(order)}


def _with_engine(metric: Metric, engine: str | None) -> Metric:
    """The metric by this engine, if there is a choice."""
    if engine is None or not metric.has_reference():
        return metric
    return metric.model_copy(update={"engine": engine})


def check_backbone(model: ModelConfig) -> None:
    """Check that timm knows the backbone.

    Raises:
        UnknownNameError: it does not.
    """
    import timm

    if not timm.is_model(model.backbone):
        raise UnknownNameError("backbone", model.backbone, timm.list_models())


def rival_options(model: ModelConfig) -> RivalOptions | None:
    """Options of a model's rival, checked; None if it is none.

    Raises:
        UnknownNameError: no such rival.
        ConfigError: an option is unknown or out of range.
    """
    return None if model.rival is None else model.rival.checked("rival", rivals[model.rival.name].Options)
