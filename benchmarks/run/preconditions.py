"""Say before anything is computed what a run cannot give: nothing to classify, scores without masks, idle plugins."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from types import ModuleType

from benchmarks.config.choice import Choice, DatasetChoice, ExplainerChoice, MetricChoice, RivalChoice, TermChoice
from benchmarks.config.errors import ConfigError
from benchmarks.metrics import Metric
from benchmarks.store.record import Problem
from interp_core.datasets import DatasetConfig, FileDataset, SplitName

CHOICES: tuple[type[Choice], ...] = (ExplainerChoice, MetricChoice, DatasetChoice, TermChoice, RivalChoice)


def check_classes(dataset: DatasetConfig) -> None:
    """Check that there is something to classify.

    Raises:
        ConfigError: all images are of one class.
    """
    if len(dataset.classes) == 1 and not dataset.multi_label:
        raise ConfigError(
            f"the data set has a single class, {dataset.classes[0]!r}: there is nothing to classify; add images of "
            "another class, or look at single images with interp-bench explain"
        )


def has_evidence(dataset: DatasetConfig, split: SplitName) -> bool:
    """Return whether any image of a split may have a mask or box. Only data sets of files can lack them."""
    if not isinstance(dataset, FileDataset):
        return True
    return any(record.boxes or record.masks for record in dataset.checked_index.records.get(split, ()))


def unscored_metrics(metrics: Mapping[str, Metric], dataset: DatasetConfig, split: SplitName) -> list[Problem]:
    """Return a problem for each metric that can give no score.

    Args:
        metrics: by name.
        dataset: of the run.
        split: of the images to explain.

    Raises:
        ConfigError: none of the metrics can.
    """
    without = [name for name, metric in metrics.items() if metric.needs_masks]
    if not without or has_evidence(dataset, split):
        return []
    reason = f"no {split} image has a mask or box"
    if len(without) == len(metrics):
        raise ConfigError(f"no score is possible: {reason}, and {', '.join(without)} need them; choose other metrics")
    return [Problem(where=name, what=f"no score: {reason}") for name in without]


def idle_plugins(plugins: Iterable[ModuleType]) -> list[Problem]:
    """Return a problem for each plugin that registers nothing."""
    kinds = ", ".join(choice.registry.kind for choice in CHOICES)
    what = f"registers nothing: no {kinds} or network of timm"
    return [
        Problem(where=f"plugin {module.__name__}", what=what)
        for module in plugins
        if not _names_network(module) and not any(_registers(module, choice) for choice in CHOICES)
    ]


def _registers(module: ModuleType, choice: type[Choice]) -> bool:
    """Return whether a module, or one inside it, defines an entry of a registry."""
    inside = f"{module.__name__}."
    return any(f"{cls.__module__}.".startswith(inside) for cls in choice.registry.values())


def _names_network(module: ModuleType) -> bool:
    """Return whether a module gives a network a name of timm."""
    import timm

    names = timm.list_models(module=module.__name__.rpartition(".")[2])
    return any(timm.models.model_entrypoint(name).__module__ == module.__name__ for name in names)
