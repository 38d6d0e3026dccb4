"""Exchange of cues between images, so that they no longer go with the label.

Each image shows a kind of cue: that of its own group, of another group, or none. Let P(kind | group) be the shares in
the data. A part s of the images is changed in each draw, with kinds from Q(kind | group), so that

    (1 - s) P(kind | group) + s Q(kind | group) = T(kind),   T >= (1 - s) max_group P(kind | group),

which is the same for all groups: the cue says nothing about the label. With M = max_group P and S = sum M this needs
s >= 1 - 1 / S: half of the images for a cue that always goes with one of two classes, 90 % for ten. Where the cue is
rare, the rest of T is spread over images without a cue and with one, so that it is often met on all classes.

Counterfactual augmentation at the input, as A-ClArC (Anders et al., Information Fusion 2022) adds an artefact to all
classes. Here images that have it lose it or get another image's too.

Known limits: a change is in-painted, smooth where the image was textured. An image without a cue is in-painted at the
place of another image's, so that in-painting itself says nothing about the label.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from benchmarks.diagnosis.repairs.support.cues import Cues, Donors, paste, remove

LEAST, MOST = 0.5, 0.9  # share of the images that is changed
NONE = 0.3  # share of the spare changes that leave an image without a cue


@dataclass(frozen=True)
class ExchangePlan:
    """How often images of each group get each kind of cue.

    Attributes:
        share: of the images that are changed.
        table: (G, G + 1) probabilities of a changed image: the cue of each group, and none.
    """

    share: float
    table: np.ndarray


def plan_exchange(groups: np.ndarray, present: np.ndarray, *, share: float | None = None) -> ExchangePlan:
    """Choose the plan under which the kind of cue is independent of the group.

    Args:
        groups: (N,) int64, >= 0.
        present: (N,) bool, whether an image shows a cue.
        share: of the images that is changed; None for the least that suffices, within `LEAST` and `MOST`.
    """
    count = int(groups.max()) + 1
    counts = np.zeros((count, count + 1))
    np.add.at(counts, (groups, np.where(present, groups, count)), 1)
    shares = counts / counts.sum(1, keepdims=True).clip(min=1)
    top = shares.max(0)
    share = float(np.clip(1 - 1 / top.sum(), LEAST, MOST)) if share is None else share
    spare = max(0.0, 1 - (1 - share) * top.sum())
    target = (1 - share) * top + spare * _spread(counts)
    table = (target / target.sum() - (1 - share) * shares).clip(min=0)
    return ExchangePlan(share, table / table.sum(1, keepdims=True))


def _spread(counts: np.ndarray) -> np.ndarray:
    """Return how changed images are spread over kinds (G + 1,) where the plan leaves it open."""
    kinds = counts.sum(0)
    with_cue = kinds[:-1] / kinds[:-1].sum() if kinds[:-1].sum() else kinds[:-1]
    none = NONE if kinds[-1] else 0.0
    return np.append((1 - none) * with_cue, none)


class CueExchange:
    """Edit of images that exchanges their cues; see the module.

    Args:
        cues: of the N images.
        groups: (N,) int64.
        donors: whose cues are pasted.
        plan: how often.
    """

    def __init__(self, cues: Cues, groups: np.ndarray, donors: Donors, plan: ExchangePlan) -> None:
        self.cues, self.groups, self.donors, self.plan = cues, groups, donors, plan
        kinds = plan.table.shape[1] - 1
        self._by_kind = [donors.of_group(group) for group in range(kinds)]
        has_donors = np.array([len(positions) > 0 for positions in self._by_kind] + [True])
        table = np.where(has_donors, plan.table, 0)
        table[table.sum(1) == 0, -1] = 1
        self._table = torch.from_numpy(table)

    def __call__(self, pixels: Tensor, rows: Tensor, generator: torch.Generator) -> Tensor:
        """Exchange the cues of some images (n, 3, H, W) in [0, 1] with indices (n,)."""
        chosen = (torch.rand(len(rows), generator=generator) < self.plan.share).nonzero()[:, 0]
        if not len(chosen):
            return pixels
        changed = self._exchange(pixels[chosen], rows[chosen].numpy(), generator)
        return pixels.index_copy(0, chosen, changed)

    def _exchange(self, pixels: Tensor, rows: np.ndarray, generator: torch.Generator) -> Tensor:
        kinds = torch.multinomial(self._table[self.groups[rows]], 1, generator=generator)[:, 0].tolist()
        places = torch.randint(len(self.donors), (len(rows),), generator=generator)
        own = self.cues.masks_of(rows)
        has_cue = torch.from_numpy(self.cues.present[rows])[:, None, None, None]
        background = remove(pixels, torch.where(has_cue, own, self.donors.masks[places]))
        donors = torch.tensor([self._draw_donor(kind, generator) for kind in kinds])
        masks = self.donors.masks[donors] & (torch.tensor(kinds) < len(self._by_kind))[:, None, None, None]
        return paste(background, self.donors.pixels[donors], masks)

    def _draw_donor(self, kind: int, generator: torch.Generator) -> int:
        """Return the position of a donor of a kind; any for no cue."""
        if kind == len(self._by_kind):
            return 0
        positions = self._by_kind[kind]
        return int(positions[int(torch.randint(len(positions), (), generator=generator))])
