"""Which images to look at: where one explainer does best, middling and worst against another.

Pictures chosen by hand prove anything; these are chosen by the paired difference of one metric, and their place in the
order is told. The metric is the ranked one, not gated, on whose order of methods the images agree most, since the
difference on one image says most there.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.statistics.gate import FAILED
from benchmarks.statistics.scores import blocks, described, means_of_images, sign, widened

ROLES = ("best", "median", "worst")


@dataclass(frozen=True)
class Example:
    """One image of a pair of explainers.

    Attributes:
        model: whose explanations.
        other: the explainer the own one is compared with.
        metric: by which the image was chosen.
        role: "best", "median" or "worst" for the own explainer.
        image: its id.
        own: score of the own explainer on the image.
        theirs: score of the other.
        place: place in the order of differences, 1 where the own explainer is furthest ahead.
        images: how many there are in that order.
    """

    model: str
    other: str
    metric: str
    role: str
    image: str
    own: float
    theirs: float
    place: int
    images: int

    @property
    def exact(self) -> bool:
        """Whether it is the best, median or worst of all, and not only of the images that were kept."""
        middle = abs(self.place - (self.images + 1) / 2) < 1
        return {"best": self.place == 1, "median": middle, "worst": self.place == self.images}[self.role]


def telling_metric(reliability: pd.DataFrame, gates: pd.DataFrame, model: str) -> str | None:
    """The ranked metric that examples of a model are chosen by; None where no metric is fit for it."""
    failed = set(gates[(gates["model"] == model) & (gates["verdict"] == FAILED)]["metric"])
    rows = reliability[(reliability["model"] == model) & ~reliability["metric"].isin(failed)]
    if rows.empty:
        return None
    agreed = rows.dropna(subset=["image_agreement"])
    place = 0 if agreed.empty else int(agreed["image_agreement"].to_numpy().argmax())
    return str((rows if agreed.empty else agreed)["metric"].iloc[place])


def examples(
    scores: pd.DataFrame,
    metrics: Sequence[Mapping[str, Any]],
    own: str,
    others: Sequence[str],
    chosen_by: Mapping[str, str],
    kept: Mapping[tuple[str, str], Collection[str]] | None = None,
) -> list[Example]:
    """Best, median and worst image of `own` against each of `others`, on each model.

    Args:
        scores: long table.
        metrics: descriptions.
        own: the explainer the run is about.
        others: explainers it is compared with.
        chosen_by: metric of each model.
        kept: ids of the images whose maps are there, for each (model, explainer); None for all that were scored.

    Returns:
        Up to three examples a pair, fewer where fewer images have both maps; places count all scored images.
    """
    found = blocks(widened(scores)) if not scores.empty else {}
    ids = [str(name) for name in widened(scores).columns] if not scores.empty else []
    known, chosen = described(metrics), []
    for model, metric in chosen_by.items():
        for other in others:
            pair = [found.get((model, name, metric)) for name in (own, other)]
            if pair[0] is None or pair[1] is None or own == other:
                continue
            mine, theirs = (means_of_images(block) for block in pair if block is not None)
            at = _placed(sign(known[metric]) * (mine - theirs))
            shown = [
                p
                for p, i in enumerate(at)
                if kept is None or all(ids[i] in kept.get((model, n), ()) for n in (own, other))
            ]
            for role, place in _roles(shown, len(at)).items():
                i = at[place]
                chosen.append(
                    Example(model, other, metric, role, ids[i], float(mine[i]), float(theirs[i]), place + 1, len(at))
                )
    return chosen


def _placed(difference: np.ndarray) -> list[int]:
    """Places of the images from the greatest difference to the least, those without one left out."""
    order = np.argsort(-difference, kind="stable")
    return [int(i) for i in order if not np.isnan(difference[i])]


def _roles(shown: Sequence[int], count: int) -> dict[str, int]:
    """Of the places that can be shown the first, the one nearest to the middle, and the last, each once."""
    if not shown:
        return {}
    middle = min(shown, key=lambda place: abs(place - (count - 1) / 2))
    wanted = dict(zip(ROLES, (shown[0], middle, shown[-1]), strict=True))
    taken: set[int] = set()
    return {role: place for role, place in wanted.items() if not (place in taken or taken.add(place))}  # type: ignore[func-returns-value]
