"""Build the objects that a configuration names."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from types import ModuleType
from typing import Any

from baselines import Explainer
from benchmarks.config.choice import Choice, ExplainerChoice, MetricChoice
from benchmarks.config.plugins import load_plugin, names_from
from benchmarks.config.run import RunConfig
from benchmarks.config.weight_files import file_digest
from benchmarks.metrics import Metric
from benchmarks.plan.stages import TrainingStage, training_stages
from interp_core.datasets import DatasetConfig
from interp_core.knowledge import Term
from interp_core.training import DEFAULT_TERMS


class RunComponents:
    """Objects that a configuration names, built once.

    Args:
        config: the configuration.

    Attributes:
        dataset: data set.
        terms: knowledge terms of the run; None for the defaults.
        plugins: imported modules.
        explainers: explainers by name, those of plugins last.
        metrics: metrics by name, those of plugins last.
        training_stages: stages of the training of each model, by its name.
        is_pair: whether the networks are those of a pair, which only metrics that compare two networks score.

    Raises:
        ConfigError: a checkpoint is missing, or a stage does not fit its network.
        PluginError: a plugin cannot be imported.
    """

    def __init__(self, config: RunConfig) -> None:
        self.plugins = [load_plugin(name) for name in config.plugins]
        self.is_pair = False
        self.dataset: DatasetConfig = config.dataset.build()
        self.terms: tuple[Term, ...] | None = (
            None if config.terms is None else tuple(choice.build() for choice in config.terms)
        )
        self.explainers: dict[str, Explainer] = _create(ExplainerChoice, config.explainers, self.plugins)
        self.metrics: dict[str, Metric] = {
            name: _with_engine(metric, config.metric_engine)
            for name, metric in _create(MetricChoice, config.metrics, self.plugins).items()
        }
        for model in config.models:
            if model.checkpoint is not None:
                file_digest(model.checkpoint)
        terms = DEFAULT_TERMS if self.terms is None else self.terms
        self.training_stages: dict[str, tuple[TrainingStage, ...]] = {
            model.name: training_stages(model, config.recipe, terms) for model in config.models
        }

    def for_pair(self, dataset: DatasetConfig, model: str, stages: Sequence[TrainingStage]) -> RunComponents:
        """Return the same components with the data and the training stages of one network of a pair.

        Args:
            dataset: images with a cue.
            model: name of the network.
            stages: of its training.
        """
        changed = copy.copy(self)
        changed.is_pair, changed.dataset, changed.training_stages = True, dataset, {model: tuple(stages)}
        return changed


def _create(kind: type[Choice], choices: Sequence[Choice], plugins: list[ModuleType]) -> dict[str, Any]:
    """Build the entries that the configuration names, then those that plugins register."""
    objects = {choice.name: choice.build() for choice in choices}
    for plugin in plugins:
        for name in names_from(plugin, kind.registry):
            if name not in objects:
                objects[name] = kind(name=name).build()
    return objects


def _with_engine(metric: Metric, engine: str | None) -> Metric:
    """Return the metric with this engine if it has several."""
    if engine is None or not metric.has_reference():
        return metric
    return metric.model_copy(update={"engine": engine})
