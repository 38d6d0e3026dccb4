"""From a configuration to the cells it asks for. A key is the content of all that a cell's numbers depend on.

A changed setting so changes exactly the keys of the cells it touches: a metric's parameter those of that metric, a
recipe all. Changed code does likewise: the file of an explainer or metric its own cells, `interp_core` all.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from benchmarks.config import ModelConfig, Parts, RunConfig, digest
from benchmarks.version import VERSION, code_digest
from interp_core.training import DEFAULT_TERMS


@dataclass(frozen=True)
class TrainCell:
    """A network to be trained. `key` names its files."""

    model: ModelConfig
    seed: int
    key: str


@dataclass(frozen=True)
class ExplainCell:
    """Maps of one explainer for one shard of images.

    Attributes:
        start: first image of the shard among the chosen ones.
        stop: one past the last.
    """

    train: TrainCell
    explainer: str
    start: int
    stop: int
    key: str

    @property
    def seed(self) -> int:
        """Of the explainer's random draws; another for every shard."""
        return self.train.seed * 100_003 + self.start


@dataclass(frozen=True)
class ScoreCell:
    """One metric on the maps of one explain cell."""

    explain: ExplainCell
    metric: str
    key: str


def train_cells(config: RunConfig, parts: Parts) -> list[TrainCell]:
    """One cell per model and seed."""
    terms = DEFAULT_TERMS if parts.terms is None else parts.terms
    code = code_digest("interp_core"), code_digest("interp_core.datasets")
    return [
        TrainCell(
            model,
            seed,
            _key(f"{model.name}-{seed}", code, parts.dataset, model, config.recipe, terms if model.lap else (), seed),
        )
        for seed in config.seeds
        for model in config.models
    ]


def explain_cells(
    config: RunConfig, parts: Parts, trained: list[TrainCell], images: list[str]
) -> Iterator[ExplainCell]:
    """One cell per network, explainer and shard of the chosen `images` (ids)."""
    for train in trained:
        for name, explainer in parts.explainers.items():
            for start in range(0, len(images), config.shard):
                ids = images[start : start + config.shard]
                label = f"{train.model.name}-{train.seed}-{name}-{start:05d}"
                key = _key(label, train.key, explainer, _code(explainer), ids)
                yield ExplainCell(train, name, start, start + len(ids), key)


def score_cells(parts: Parts, explain: ExplainCell) -> list[ScoreCell]:
    """One cell per metric."""
    return [
        ScoreCell(explain, name, _key(f"{explain.key}-{name}", explain.key, metric, _code(metric)))
        for name, metric in parts.metrics.items()
    ]


def _code(part: object) -> str:
    return code_digest(type(part).__module__)


def _key(label: str, *content: object) -> str:
    """Readable in front, content behind."""
    head = label if len(label) <= 80 else label[:80]
    return f"{head}-{digest(VERSION, *content)[:10]}"
