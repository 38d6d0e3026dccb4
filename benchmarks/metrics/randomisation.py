"""Checks: does the map depend on the network and on the class at all? They are passed or failed, never ranked.

A map that stays the same with random weights, or for another class, does not explain this decision. Nobody can say how
much it should change, so these scores are not ranked. `passing` is the bound that a mean must be under (or over).

Top-down randomisation favours uninformative maps (Binder et al. 2023), so all weights are drawn, from the bottom up.

Known limit: modules without `reset_parameters` keep their weights, as in Quantus (the layer scale of ConvNeXt).
"""

from __future__ import annotations

from typing import Any, ClassVar

import numpy as np
import torch
from pydantic import Field
from scipy import stats
from torch import nn

from benchmarks.metrics.base import Batch, Family, Metric, Score, metrics
from benchmarks.metrics.quantus_adapter import count_classes, evaluate
from benchmarks.metrics.removal import pearson
from interp_core.backbone.compiled import reason_of_closed_layers
from interp_core.backbone.copies import copy_with_plain_weights
from interp_core.errors import ContractError

BINS = 100


class Check(Metric):
    """Base class of metrics that explain again, with another network or class."""

    family: ClassVar[Family] = "check"
    needs_model: ClassVar[bool] = True
    needs_explain: ClassVar[bool] = True


@metrics.register("random_logit")
class RandomLogit(Check):
    """Similarity of the map with the map of another class.

    The class is drawn at random. The structural similarity is 1 for a map that ignores the class.

    Source: Sixt, Granz and Landgraf 2020; quantus.RandomLogit, with maps compared as pictures and not as vectors.
    """

    title: ClassVar[str] = "Random logit"
    scores: ClassVar[tuple[Score, ...]] = (
        Score("random_logit", "Likeness to another class' map", "lower", -1.0, 1.0, ranked=False, passing=0.95),
    )

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        assert batch.explain is not None
        targets = other_classes(batch.targets, self._classes(batch), batch.seed)
        maps = batch.explain(batch.model, batch.images, targets)  # type: ignore[arg-type]
        return {"random_logit": similarity(batch.maps, maps.reshape(batch.maps.shape))}

    @staticmethod
    def _classes(batch: Batch) -> int:
        classes = count_classes(batch)
        if classes < 2:
            raise ContractError("random_logit needs another class to compare with, and the network has one logit")
        return classes

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        shape = batch.maps.shape

        def compare(a: np.ndarray, b: np.ndarray, **_: object) -> np.ndarray:
            return similarity(a.reshape(shape), b.reshape(shape))

        values = evaluate(
            "RandomLogit",
            batch,
            batch.maps,
            batch_size=len(batch.maps),
            num_classes=self._classes(batch),
            seed=batch.seed % 2**32,
            similarity_func=compare,
        )
        return {"random_logit": values}


@metrics.register("mprt")
class Mprt(Check):
    """Change of the map when the weights are random.

    The scores are the rank correlation of both maps, and the rise of complexity.

        mprt = Spearman(map, random map),  efficient_mprt = (H(random map) - H(map)) / H(map),  mean over `seeds`

    H is the entropy of a histogram of the values. Random maps should differ from the map, and be more complex.
    Source: Adebayo et al. 2018; Hedström et al. 2023; quantus.MPRT and quantus.EfficientMPRT, fully randomised.

    Fields:
        seeds: number of times that weights are drawn.
    """

    title: ClassVar[str] = "Randomised weights"
    scores: ClassVar[tuple[Score, ...]] = (
        Score("mprt", "Likeness to a random network's map", "lower", -1.0, 1.0, ranked=False, passing=0.5),
        Score(
            "efficient_mprt",
            "Rise of complexity by randomisation",
            "higher",
            -1.0,
            float("inf"),
            ranked=False,
            passing=0.0,
        ),
    )

    seeds: int = Field(default=3, ge=1)

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        assert batch.explain is not None
        assert batch.model is not None
        original, entropy = batch.maps.reshape(len(batch.maps), -1), entropies(batch.maps)
        correlations, rises = [], []
        for seed in range(self.seeds):
            maps = batch.explain(randomise(batch.model, seed), batch.images, batch.targets).reshape(original.shape)
            correlations.append(pearson(stats.rankdata(original, axis=1), stats.rankdata(maps, axis=1)))
            rises.append((entropies(maps) - entropy) / entropy)
        return {"mprt": np.mean(correlations, axis=0), "efficient_mprt": np.mean(rises, axis=0)}

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        correlations, rises = [], []
        for seed in range(self.seeds):
            options: dict[str, Any] = {
                "pass_network": True, "layer_order": "bottom_up", "skip_layers": True, "seed": seed,
                "batch_size": len(batch.maps),
            }  # fmt: skip
            correlations.append(evaluate("MPRT", batch, batch.maps, return_last_correlation=True, **options))
            rises.append(evaluate("EfficientMPRT", batch, batch.maps, probabilities=True, **options))
        return {"mprt": np.mean(correlations, axis=0), "efficient_mprt": np.mean(rises, axis=0)}


def other_classes(targets: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """Draw a class other than the target for each image, as quantus.RandomLogit does."""
    draws = np.random.RandomState(seed % 2**32).randint(0, classes - 1, len(targets))
    return np.where(draws >= targets, draws + 1, draws).astype(np.int64)


def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Compute the structural similarity (N,) of maps (N, 1, H, W).

    The range of values is that of both maps.
    """
    from skimage.metrics import structural_similarity

    values = []
    for first, second in zip(a[:, 0].astype(np.float64), b[:, 0].astype(np.float64), strict=True):
        low, high = min(first.min(), second.min()), max(first.max(), second.max())
        # Shifted to start at 0: the product of two negative terms would make a map and its negative similar.
        values.append(structural_similarity(first - low, second - low, data_range=float(high - low)))
    return np.array(values)


def randomise(network: nn.Module, seed: int) -> nn.Module:
    """Copy a network and draw its weights at random.

    The copy is in evaluation mode. Each module that can be reset gets new weights.

    Raises:
        ContractError: its layers cannot be reached, as in a scripted or exported network.
    """
    closed = reason_of_closed_layers(network)
    if closed is not None:
        raise ContractError(closed)
    copy = copy_with_plain_weights(network)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        for module in copy.modules():
            if hasattr(module, "reset_parameters"):
                torch.manual_seed(seed + 1)
                module.reset_parameters()  # type: ignore[operator]
    return copy.eval()


def entropies(maps: np.ndarray) -> np.ndarray:
    """Compute the entropy (N,) of each map's histogram, in nats.

    The histogram has `BINS` equal bins over the map's range.
    """
    return np.array([stats.entropy(np.histogram(values, bins=BINS)[0]) for values in maps.reshape(len(maps), -1)])
