"""Does the map depend on the network and on the class at all? Tests to pass or fail, never ranks.

An explanation that stays the same when the network's weights are random, or when another class is asked for, says
nothing of this decision. How much it should change nobody can say, so nothing is ranked: `passing` is the bound that a
mean has to be under (or over) to pass.

Known limits: modules without `reset_parameters` keep their weights, as in Quantus (the layer scale of ConvNeXt);
top-down randomisation favours uninformative maps (Binder et al. 2023), so all weights are drawn, from the bottom up.
"""

from __future__ import annotations

from copy import deepcopy
from typing import ClassVar

import numpy as np
import torch
from pydantic import Field
from scipy import stats
from torch import nn

from benchmarks.metrics.base import Batch, Family, Metric, Score, metrics
from benchmarks.metrics.quantus_adapter import evaluate
from benchmarks.metrics.removal import pearson
from interp_core.errors import ContractError

BINS = 100


class Check(Metric):
    """What the tests have in common: they explain again."""

    family: ClassVar[Family] = "check"
    needs_model: ClassVar[bool] = True
    needs_explain: ClassVar[bool] = True


@metrics.register("random_logit")
class RandomLogit(Check):
    """Structural similarity of the map with that for another class, drawn at random: 1 for one that sees no class.

    Source: Sixt, Granz and Landgraf 2020; quantus.RandomLogit, with maps compared as pictures and not as rows.
    """

    title: ClassVar[str] = "Random logit"
    scores: ClassVar[tuple[Score, ...]] = (
        Score("random_logit", "Likeness to another class' map", "lower", -1.0, 1.0, ranked=False, passing=0.95),
    )

    def score(self, batch: Batch) -> dict[str, np.ndarray]:
        assert batch.explain is not None
        others = other_classes(batch.targets, self._classes(batch), batch.seed)
        maps = batch.explain(batch.model, batch.images, others)  # type: ignore[arg-type]
        return {"random_logit": similarity(batch.maps, maps.reshape(batch.maps.shape))}

    @staticmethod
    def _classes(batch: Batch) -> int:
        with torch.no_grad():
            assert batch.model is not None
            classes = batch.model(torch.from_numpy(batch.images[:1]).to(batch.device)).shape[1]
        if classes < 2:
            raise ContractError("random_logit needs a network with two classes or more")
        return classes

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        shape = batch.maps.shape

        def alike(a: np.ndarray, b: np.ndarray, **_: object) -> np.ndarray:
            return similarity(a.reshape(shape), b.reshape(shape))

        values = evaluate(
            "RandomLogit",
            batch,
            batch.maps,
            batch_size=len(batch.maps),
            num_classes=self._classes(batch),
            seed=batch.seed % 2**32,
            similarity_func=alike,
        )
        return {"random_logit": values}


@metrics.register("mprt")
class Mprt(Check):
    """The map beside the map of the same network with random weights: rank correlation, and rise of complexity.

        mprt = Spearman(map, random map),  efficient_mprt = (H(random map) - H(map)) / H(map),  mean over `seeds`

    H is the entropy of a histogram of the values. Random maps should be unlike the map, and more complex.
    Source: Adebayo et al. 2018; Hedström et al. 2023; quantus.MPRT and quantus.EfficientMPRT, fully randomised.

    Fields:
        seeds: how many times weights are drawn.
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
        own, before = batch.maps.reshape(len(batch.maps), -1), entropies(batch.maps)
        alike, rise = [], []
        for seed in range(self.seeds):
            maps = batch.explain(randomise(batch.model, seed), batch.images, batch.targets).reshape(own.shape)
            alike.append(pearson(stats.rankdata(own, axis=1), stats.rankdata(maps, axis=1)))
            rise.append((entropies(maps) - before) / before)
        return {"mprt": np.mean(alike, axis=0), "efficient_mprt": np.mean(rise, axis=0)}

    def reference(self, batch: Batch) -> dict[str, np.ndarray]:
        options = {"bare": True, "layer_order": "bottom_up", "skip_layers": True, "batch_size": len(batch.maps)}
        alike, rise = [], []
        for seed in range(self.seeds):
            alike.append(evaluate("MPRT", batch, batch.maps, seed=seed, return_last_correlation=True, **options))  # type: ignore[arg-type]
            rise.append(evaluate("EfficientMPRT", batch, batch.maps, seed=seed, probabilities=True, **options))  # type: ignore[arg-type]
        return {"mprt": np.mean(alike, axis=0), "efficient_mprt": np.mean(rise, axis=0)}


def other_classes(targets: np.ndarray, classes: int, seed: int) -> np.ndarray:
    """A class other than the target for each image, drawn as quantus.RandomLogit draws it."""
    draws = np.random.RandomState(seed % 2**32).randint(0, classes - 1, len(targets))
    return np.where(draws >= targets, draws + 1, draws).astype(np.int64)


def similarity(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Structural similarity (N,) of maps (N, 1, H, W), over the range of both."""
    from skimage.metrics import structural_similarity

    values = []
    for one, other in zip(a[:, 0].astype(np.float64), b[:, 0].astype(np.float64), strict=True):
        low, high = min(one.min(), other.min()), max(one.max(), other.max())
        # From the lowest value up: the product of two negative terms would make a map and its negative alike.
        values.append(structural_similarity(one - low, other - low, data_range=float(high - low)))
    return np.array(values)


def randomise(network: nn.Module, seed: int) -> nn.Module:
    """A copy of the network in evaluation mode with all that can be reset drawn anew, module by module."""
    copy = deepcopy(network)
    with torch.random.fork_rng(devices=range(torch.cuda.device_count())):
        for module in copy.modules():
            if hasattr(module, "reset_parameters"):
                torch.manual_seed(seed + 1)
                module.reset_parameters()  # type: ignore[operator]
    return copy.eval()


def entropies(maps: np.ndarray) -> np.ndarray:
    """Entropy (N,) in nats of a histogram of each map's values, `BINS` equal bins over its range."""
    return np.array([stats.entropy(np.histogram(values, bins=BINS)[0]) for values in maps.reshape(len(maps), -1)])
