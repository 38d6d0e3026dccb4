"""The metric contract: maps in, one number per image and score out. Metrics know no explainer.

What happens to maps before any metric sees them is written down once, here:

* A degenerate map (NaN, infinite or constant) says nothing. It is counted, gets a seeded random order, which is chance
  for metrics that read order, and scores `degenerate_score` where chance would flatter it.
* Equal values are put in a seeded random order by a jitter of 1e-5 of the map's range: memory order must not decide.
* Each metric gets copies, and the global random generators are put back afterwards.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, model_validator
from torch import nn

from baselines.support.guard import seeded
from benchmarks.metrics.passes import Passes
from interp_core.errors import ContractError
from interp_core.registry import ClassRegistry

Direction = Literal["higher", "lower", "none"]
Family = Literal["localisation", "faithfulness", "robustness", "descriptor", "check", "cost"]
Engine = Literal["device", "quantus"]
Explain = Callable[[nn.Module, np.ndarray, np.ndarray], np.ndarray]
JITTER = 1e-5


@dataclass(frozen=True)
class Score:
    """One number a metric gives per image.

    Attributes:
        name: column in the tables, unique over all metrics.
        title: name in figures.
        direction: which way is better; "none" for descriptors.
        low: smallest possible value.
        high: largest possible value.
        ranked: whether it counts in the mean rank (of several views of one measurement only one does).
        degenerate: value given to a degenerate map; None to score the random order it was given.
        passing: of a check, the bound its mean has to be on the better side of; None where nothing is to be passed.
    """

    name: str
    title: str
    direction: Direction
    low: float
    high: float
    ranked: bool = True
    degenerate: float | None = None
    passing: float | None = None


@dataclass(frozen=True)
class Batch:
    """What a metric may look at.

    Attributes:
        model: network in evaluation mode, normalised images to logits; None for metrics that need none.
        images: (N, C, H, W) float32, normalised: 0 is the mean of the data set.
        targets: (N,) int64, the explained classes.
        maps: (N, 1, H, W) float32; float64 once their ties are broken.
        masks: (N, 1, H, W) bool evidence, or None.
        device: where the model lives.
        seed: of everything random in the metric.
        passes: forward passes made for these images already, shared by all metrics and explainers of a shard; None for
            a metric to make its own.
        explain: the explainer that made `maps`, from (network, images (N, C, H, W), targets (N,)) to maps
            (N, 1, H, W); None where maps were given without it.
        multi_label: whether an image may show several classes, each decided by the sign of its own logit.
    """

    model: nn.Module | None
    images: np.ndarray
    targets: np.ndarray
    maps: np.ndarray
    masks: np.ndarray | None
    device: str = "cpu"
    seed: int = 0
    passes: Passes | None = None
    explain: Explain | None = None
    multi_label: bool = False


class Metric(BaseModel):
    """One way to judge maps. Subclasses declare `scores` and write `score`; fields are its parameters.

    A metric that Quantus has too also writes `reference`: the same scores by Quantus' class.
    `benchmarks.run.audit` holds
    the two to each other in every run.

    Fields:
        engine: "device" for `score`, batched in torch on the network's device; "quantus" for `reference`.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    family: ClassVar[Family] = "faithfulness"
    scores: ClassVar[tuple[Score, ...]] = ()
    needs_masks: ClassVar[bool] = False
    needs_model: ClassVar[bool] = False
    needs_explain: ClassVar[bool] = False

    engine: Engine = "device"

    @model_validator(mode="after")
    def _has_engine(self) -> Metric:
        if self.engine == "quantus" and not self.has_reference():
            raise ValueError(f"{self.name or type(self).__name__} has no engine 'quantus': Quantus has no such metric")
        return self

    @classmethod
    def has_reference(cls) -> bool:
        """Whether Quantus has this metric too."""
        return cls.reference is not Metric.reference

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        """Values (N,) for each of `scores`, from maps that are finite and without ties."""
        raise NotImplementedError(f"{type(self).__name__} must define score")

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        """The same values by Quantus."""
        raise NotImplementedError(f"{type(self).__name__} has no reference")

    def __call__(self, batch: Batch) -> dict[str, np.ndarray]:
        """Values (N,) float64 for each of `scores`; NaN where an image has no mask to be judged by.

        Raises:
            ContractError: masks or model missing, or values of the wrong shape.
        """
        self._check(batch)
        bad = is_degenerate(batch.maps)
        ready = replace(batch, maps=break_ties(batch.maps, batch.seed), images=batch.images.copy())
        with seeded(batch.seed):
            values = self.reference(ready) if self.engine == "quantus" else self.score(ready)
        return {spec.name: self._column(spec, values, bad) for spec in self.scores}

    def _check(self, batch: Batch) -> None:
        if self.needs_masks and batch.masks is None:
            raise ContractError(f"metric {self.name} needs evidence masks and this data set gave none")
        if self.needs_model and batch.model is None:
            raise ContractError(f"metric {self.name} needs a model")
        if self.needs_explain and batch.explain is None:
            raise ContractError(f"metric {self.name} needs the explainer that made the maps")
        if batch.maps.shape != (len(batch.images), 1, *batch.images.shape[-2:]):
            raise ContractError(f"metric {self.name}: maps {batch.maps.shape} do not fit images {batch.images.shape}")

    def _column(self, spec: Score, values: dict[str, np.ndarray], bad: np.ndarray) -> np.ndarray:
        column = np.asarray(values[spec.name], dtype=np.float64).copy()
        if column.shape != bad.shape:
            raise ContractError(f"metric {self.name}: {spec.name} must be {bad.shape}, got {column.shape}")
        if spec.degenerate is not None:
            column[bad & ~np.isnan(column)] = spec.degenerate
        return column


def passes_of(batch: Batch) -> Passes:
    """The batch's forward passes, or new ones for it alone."""
    assert batch.model is not None
    if batch.passes is not None:
        return batch.passes
    return Passes(batch.model, batch.images, batch.targets, batch.device, multi_label=batch.multi_label)


def is_degenerate(maps: np.ndarray) -> np.ndarray:
    """Which maps (N, 1, H, W) say nothing: constant, or with NaN or infinite values. (N,) bool."""
    flat = maps.reshape(len(maps), -1)
    finite = np.isfinite(flat).all(1)
    return ~finite | (np.ptp(np.where(finite[:, None], flat, 0), axis=1) == 0)


def break_ties(maps: np.ndarray, seed: int) -> np.ndarray:
    """Maps with equal values put in a seeded random order; degenerate ones become noise in [0, 1).

    The result is float64: float32 cannot hold the jitter beside values far larger than the map's range.
    """
    bad = is_degenerate(maps)
    noise = np.random.default_rng(seed).random(maps.shape)
    clean = np.where(bad[:, None, None, None], 0.0, maps.astype(np.float64))
    span = np.ptp(clean, axis=(1, 2, 3), keepdims=True)
    return clean + noise * np.where(span > 0, JITTER * span, 1.0)


metrics: ClassRegistry[Metric] = ClassRegistry("metric", "interp_bench.metrics")
