"""Example images of a pair of explainers: where one does best, middling and worst against another.

Pictures chosen by hand prove anything. These are chosen by the paired difference of one metric, and their rank among
all images is given. The metric is the ranked one, not gated, on which the images agree most about the methods, since a
difference on one image means most there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.statistics.gate import FAILED
from benchmarks.statistics.scores import blocks_of, by_name, means_of_images, sign, to_wide

ROLES = ("best", "median", "worst")


@dataclass(frozen=True)
class Example:
    """One image of a pair of explainers.

    Attributes:
        model: name of the explained network.
        explainer: the explainer that the run's own one is compared with.
        metric: the metric that the image was chosen by.
        role: "best", "median" or "worst" for the own explainer.
        image: id of the image.
        own_score: score of the own explainer on the image.
        other_score: score of `explainer` on the image.
        rank: rank of the image by difference, 1 where the own explainer is furthest ahead.
        images: number of ranked images.
    """

    model: str
    explainer: str
    metric: str
    role: str
    image: str
    own_score: float
    other_score: float
    rank: int
    images: int

    @property
    def exact(self) -> bool:
        """Whether the role holds among all images, not only those in the gallery."""
        is_middle = abs(self.rank - (self.images + 1) / 2) < 1
        return {"best": self.rank == 1, "median": is_middle, "worst": self.rank == self.images}[self.role]


def most_reliable_metric(reliability: pd.DataFrame, gates: pd.DataFrame, model: str) -> str | None:
    """Return the metric to choose examples of a model by.

    None if all of its metrics are gated.

    Args:
        reliability: from `reliability`.
        gates: from `gate`.
        model: name of the network.
    """
    failed = set(gates[(gates["model"] == model) & (gates["verdict"] == FAILED)]["metric"])
    rows = reliability[(reliability["model"] == model) & ~reliability["metric"].isin(failed)]
    if rows.empty:
        return None
    rated = rows.dropna(subset=["image_agreement"])
    if rated.empty:
        return str(rows["metric"].iloc[0])
    return str(rated["metric"].iloc[int(rated["image_agreement"].to_numpy().argmax())])


def examples(
    scores: pd.DataFrame,
    metrics: Sequence[Mapping[str, Any]],
    own_explainer: str,
    others: Sequence[str],
    metric_of: Mapping[str, str],
    available: Mapping[tuple[str, str], Collection[str]] | None = None,
) -> list[Example]:
    """Select the best, median and worst image of each pair of explainers.

    `own_explainer` is compared with each of `others`, on each model.

    Args:
        scores: long table.
        metrics: descriptions.
        own_explainer: the explainer that the run is about.
        others: explainers that it is compared with.
        metric_of: metric of each model.
        available: ids of the images whose maps are at hand, for each (model, explainer); None for all.

    Returns:
        Up to three examples a pair, fewer if fewer images have both maps. Ranks count all scored images.
    """
    if scores.empty:
        return []
    wide, descriptions = to_wide(scores), by_name(metrics)
    blocks, ids = blocks_of(wide), [str(name) for name in wide.columns]
    selected = []
    for model, metric in metric_of.items():
        for explainer in others:
            own_block, other_block = (blocks.get((model, name, metric)) for name in (own_explainer, explainer))
            if own_block is None or other_block is None or own_explainer == explainer:
                continue
            own_scores, other_scores = means_of_images(own_block), means_of_images(other_block)
            order = _descending(sign(descriptions[metric]) * (own_scores - other_scores))
            ranks = [
                rank
                for rank, image in enumerate(order)
                if available is None
                or all(ids[image] in available.get((model, name), ()) for name in (own_explainer, explainer))
            ]
            for role, rank in _roles(ranks, len(order)).items():
                image = order[rank]
                selected.append(Example(
                    model=model, explainer=explainer, metric=metric, role=role, image=ids[image],
                    own_score=float(own_scores[image]), other_score=float(other_scores[image]), rank=rank + 1,
                    images=len(order),
                ))  # fmt: skip
    return selected


def _descending(difference: np.ndarray) -> list[int]:
    """Return image indices by falling difference, without NaN."""
    order = np.argsort(-difference, kind="stable")
    return [int(image) for image in order if not np.isnan(difference[image])]


def _roles(ranks: Sequence[int], count: int) -> dict[str, int]:
    """Assign the first, the middle and the last rank to the roles.

    The middle one is nearest to half of `count`. Each rank has one role.
    """
    if not ranks:
        return {}
    middle = min(ranks, key=lambda rank: abs(rank - (count - 1) / 2))
    role_of: dict[int, str] = {}
    for role, rank in zip(ROLES, (ranks[0], middle, ranks[-1]), strict=True):
        role_of.setdefault(rank, role)
    return {role: rank for rank, role in role_of.items()}
