"""The metric contract: maps in, one number per image and score out. Metrics do not know explainers.

Before a metric sees maps:

* A degenerate map (NaN, infinite or constant) is counted and replaced by noise. Noise is chance for metrics that read
  order; a score with a `degenerate` value gives that value, where chance would flatter the map.
* Equal values are put in a random order drawn from the seed, by a jitter of 1e-5 of the map's range. Otherwise the
  order in memory would decide.
* The metric gets copies, and the global random generators are restored afterwards.

How to write a metric: docs/metrics.md, "Your own metric".
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import ClassVar, Literal

import numpy as np
import torch
from pydantic import BaseModel, ConfigDict, model_validator
from torch import nn

from baselines.support.guard import seed_generators
from baselines.support.prepare import OnCopies, as_classifier, attempt_on, single_precision_twin
from benchmarks.metrics.passes import Passes
from interp_core.backbone.attempt import dtype_of
from interp_core.errors import BackboneError, ContractError
from interp_core.lap.input_checks import class_indices
from interp_core.registry import ClassRegistry

Direction = Literal["higher", "lower", "none"]
Family = Literal["localisation", "faithfulness", "robustness", "descriptor", "check", "cost"]
Engine = Literal["device", "quantus"]
Explain = Callable[[nn.Module, np.ndarray, np.ndarray], np.ndarray]
JITTER = 1e-5


@dataclass(frozen=True)
class Score:
    """One number that a metric gives per image.

    Attributes:
        name: column in the tables, unique over all metrics.
        title: title in figures.
        direction: which values are better; "none" for descriptors.
        low: smallest possible value.
        high: largest possible value.
        ranked: whether it counts in the mean rank. Of several scores of one measurement only one does.
        degenerate: value of a degenerate map; None to score the noise that replaces it.
        passing: for a check, the bound that its mean must be on the better side of; None if there is nothing to pass.
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
    """Images with their maps, and everything a metric may use.

    Attributes:
        model: network in evaluation mode, normalised images to logits; None for metrics that need none.
        images: (N, C, H, W) float32, normalised: 0 is the mean of the data set.
        targets: (N,) int64, the explained classes.
        maps: (N, 1, H, W) float32; float64 once their ties are broken.
        masks: (N, 1, H, W) bool, the evidence; None for data sets without masks.
        device: device of the model.
        seed: seed of everything random in the metric.
        passes: forward passes on these images, shared by all metrics and explainers of a shard; None for a metric to
            make its own.
        explain: the explainer of `maps`, from (network, images (N, C, H, W), targets (N,)) to maps (N, 1, H, W); None
            if maps were given without it.
        multi_label: whether an image may show several classes, each decided by the sign of its own logit.
        twin: network of the same architecture that does not use what `masks` show; None outside the pair test.
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
    twin: nn.Module | None = None


class Metric(BaseModel):
    """One way to judge maps.

    A subclass declares `scores` and writes `score`. Its fields are its parameters. A metric that Quantus has too also
    writes `reference`: the same scores by Quantus' class. `benchmarks.run.audit` compares the two in every run.

    Class attributes:
        name: name in the registry, set by it.
        title: title in tables and figures.
        family: group of the metric; only localisation, faithfulness and robustness are ranked.
        scores: the numbers it gives.
        needs_masks: whether it needs evidence masks.
        needs_model: whether it needs the network.
        needs_explain: whether it calls the explainer again.
        needs_twin: whether it compares two networks; it is then scored on the pairs of a run and nowhere else.

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
    needs_twin: ClassVar[bool] = False

    engine: Engine = "device"

    @model_validator(mode="after")
    def _has_engine(self) -> Metric:
        if self.engine == "quantus" and not self.has_reference():
            raise ValueError(f"{self.name or type(self).__name__} has no engine 'quantus': Quantus has no such metric")
        return self

    @classmethod
    def has_reference(cls) -> bool:
        """Return whether Quantus has this metric too."""
        return cls.reference is not Metric.reference

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        """Compute values (N,) for each of `scores`.

        The maps of the batch are finite and without ties.
        """
        raise NotImplementedError(f"{type(self).__name__} must define score")

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        """Compute the same values by Quantus."""
        raise NotImplementedError(f"{type(self).__name__} has no reference")

    def __call__(self, batch: Batch) -> dict[str, np.ndarray]:
        """Prepare the maps, and compute values (N,) float64 for each of `scores`.

        Returns:
            Values by name of the score; NaN for an image without a mask that the metric needs.

        Raises:
            ContractError: masks or model are missing, or values have the wrong shape.
        """
        self._check(batch)
        batch = with_classifier(batch) if self.needs_model else batch
        degenerate = is_degenerate(batch.maps)
        prepared = replace(batch, maps=break_ties(batch.maps, batch.seed), images=batch.images.copy())
        with seed_generators(batch.seed):
            values = self.reference(prepared) if self.engine == "quantus" else self.score(prepared)
        return {score.name: self._column(score, values, degenerate) for score in self.scores}

    def _check(self, batch: Batch) -> None:
        if self.needs_masks and batch.masks is None:
            raise ContractError(f"metric {self.name} needs evidence masks and this data set gave none")
        if self.needs_model and batch.model is None:
            raise ContractError(f"metric {self.name} needs a model")
        if self.needs_explain and batch.explain is None:
            raise ContractError(f"metric {self.name} needs the explainer that made the maps")
        if self.needs_twin and batch.twin is None:
            raise ContractError(f"metric {self.name} needs a pair of networks: add pairs to the run")
        if batch.maps.shape != (len(batch.images), 1, *batch.images.shape[-2:]):
            raise ContractError(f"metric {self.name}: maps {batch.maps.shape} do not fit images {batch.images.shape}")

    def _column(self, score: Score, values: dict[str, np.ndarray], degenerate: np.ndarray) -> np.ndarray:
        column = np.asarray(values[score.name], dtype=np.float64).copy()
        if column.shape != degenerate.shape:
            raise ContractError(f"metric {self.name}: {score.name} must be {degenerate.shape}, got {column.shape}")
        if score.degenerate is not None:
            column[degenerate & ~np.isnan(column)] = score.degenerate
        return column


def with_classifier(batch: Batch) -> Batch:
    """Return a batch whose network metrics can run, and whose targets are int64.

    Raises:
        ContractError: the network's output is not logits, or targets are not classes of it.
    """
    if batch.model is None or batch.passes is not None:  # passes were made for this network and these targets
        return replace(batch, targets=np.asarray(batch.targets).astype(np.int64))
    try:
        model = as_classifier(batch.model)
        image = torch.from_numpy(batch.images[:1]).to(batch.device, dtype_of(model))
        attempt = attempt_on(model, image)
        targets = class_indices(batch.targets, len(batch.images), attempt.classes, torch.device("cpu"))
    except BackboneError as error:
        raise ContractError(str(error)) from error
    model = single_precision_twin(model, image) or model
    return replace(batch, model=OnCopies(model) if attempt.changes_images else model, targets=targets.numpy())


def passes_of(batch: Batch) -> Passes:
    """Return the shared forward passes of a batch, or new ones."""
    assert batch.model is not None
    if batch.passes is not None:
        return batch.passes
    return Passes(batch.model, batch.images, batch.targets, batch.device, multi_label=batch.multi_label)


def is_degenerate(maps: np.ndarray) -> np.ndarray:
    """Return which maps (N, 1, H, W) are degenerate, (N,) bool.

    A map is degenerate if it is constant, or has NaN or infinite values.
    """
    flat = maps.reshape(len(maps), -1)
    finite = np.isfinite(flat).all(1)
    return ~finite | (np.ptp(np.where(finite[:, None], flat, 0), axis=1) == 0)


def break_ties(maps: np.ndarray, seed: int) -> np.ndarray:
    """Put equal values of maps (N, 1, H, W) in a random order.

    Degenerate maps become noise in [0, 1). The result is float64: float32 cannot hold the jitter beside values far
    larger than the map's range.
    """
    degenerate = is_degenerate(maps)
    noise = np.random.default_rng(seed).random(maps.shape)
    clean = np.where(degenerate[:, None, None, None], 0.0, maps.astype(np.float64))
    span = np.ptp(clean, axis=(1, 2, 3), keepdims=True)
    return clean + noise * np.where(span > 0, JITTER * span, 1.0)


metrics: ClassRegistry[Metric] = ClassRegistry("metric", "interp_bench.metrics")
