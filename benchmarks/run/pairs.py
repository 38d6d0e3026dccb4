"""Train the planted pairs of a run, prove them by intervention, and select the images they are scored on.

Proof: on held-out images that a network classifies correctly, the cue is swapped for that of another class in the same
position. The user must give the class of the new cue on many of them, its twin on few. A pair that fails is recorded as
refused and not scored.

Known limit: with `engine: ray` pairs are trained and scored in the process that starts the run.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
import torch
from torch import nn

from benchmarks.config.pairs import PairConfig
from benchmarks.plan.cells import ExplainCell, TrainCell, explain_cells, score_cells
from benchmarks.plan.pairs import TWIN, USER, PairedTraining, paired_training
from benchmarks.run.applicability import applicability
from benchmarks.run.cluster import JobContext, process_state
from benchmarks.run.counters import Clock, Counters
from benchmarks.run.helper import Helper
from benchmarks.run.images import RunImages, normalised
from benchmarks.run.selection import SelectedImages
from benchmarks.run.shard import ShardWorker
from benchmarks.run.training import TrainedNetwork, is_stored, load_trained
from benchmarks.store.record import PairRecord, Problem
from benchmarks.store.score_names import PAIR_SEPARATOR
from interp_core.datasets import ImageSet
from interp_core.datasets.synthetic.digits_with_cue import CUE
from interp_core.training import Epoch, predict

ShowEpoch = Callable[[str, Epoch], None]


@dataclass(frozen=True)
class TrainedPair:
    """A proven pair, ready to be scored.

    Attributes:
        user: network that decides by the cue.
        twin: network that does not.
        images: that show the cue of their class and that both classify correctly; their masks are those of the cue.
        worker: trains and scores with the components of the pair.
        explainers: names of the explainers that can explain both networks.
    """

    user: TrainedNetwork
    twin: TrainedNetwork
    images: SelectedImages
    worker: ShardWorker
    explainers: tuple[str, ...]

    def cells(self) -> Iterator[ExplainCell]:
        """Yield the explain cells of the pair."""
        worker = self.worker
        for cell in explain_cells(worker.config, worker.components, [self.user.cell], self.images.ids):
            if cell.explainer in self.explainers:
                yield cell

    def score_keys(self) -> list[str]:
        """Return the keys of the scores, which belong to the tables of the run; costs of explaining do not."""
        return [score.key for cell in self.cells() for score in score_cells(self.worker.components, cell)]

    def score(self, show_step: Callable[[str], None]) -> Counters:
        """Compute the scores that are missing."""
        counters = Counters()
        for shard in self.images.shards(self.user.statistics):
            counters.merge(self.worker.work(self.user, shard, self.explainers, show_step, self.twin.network))
        return counters


def prepare_pair(
    pair: PairConfig,
    start: TrainedNetwork,
    worker: ShardWorker,
    counters: Counters,
    show: ShowEpoch,
    helper: Helper | None = None,
) -> tuple[PairRecord, TrainedPair | None]:
    """Train both networks of a pair, or load them, and prove the pair.

    Args:
        pair: its configuration.
        start: network of the run that both start from.
        worker: of the run.
        counters: take problems and reading times.
        show: called after each epoch with the name of the network.
        helper: trains the twin beside the user, if given.

    Returns:
        The record of the pair, and the pair; None if a training failed or the pair is refused.
    """
    plans = {
        role: paired_training(pair, role, start.cell, start.statistics, worker.components) for role in (USER, TWIN)
    }
    networks = _train_both(pair, plans, start, worker, counters, show, helper)
    user, twin = networks[USER], networks[TWIN]
    record = PairRecord(name=pair.name, cue=pair.cue, model=pair.model, seed=start.cell.seed)
    if user is None or twin is None:
        return record.model_copy(update={"refused": "a training failed"}), None
    agreeing, swapped = plans[USER].dataset.load_swapped("test")
    proof = Proof.of(user, twin, agreeing, swapped)
    indices = np.flatnonzero(proof.is_usable)[: pair.images]
    record = proof.describe(record, pair, len(indices))
    if record.refused:
        counters.problems.append(
            Problem(where=f"pair {pair.name}, seed {record.seed}", what=f"refused: {record.refused}")
        )
        return record, None
    images = SelectedImages(_with_cues(agreeing, pair.name), indices, worker.config.shard)
    explainers = tuple(name for name in worker.components.explainers if _applies_to_both(name, worker, user, twin))
    return record, TrainedPair(user, twin, images, _worker_of(plans[USER], worker), explainers)


@dataclass(frozen=True)
class Proof:
    """Answers of both networks before and after the cue is swapped.

    Attributes:
        correct: (N,) bool by role: right with the cue of the digit.
        follows: (N,) bool by role: gives the class of the swapped cue.
    """

    correct: dict[str, np.ndarray]
    follows: dict[str, np.ndarray]

    @classmethod
    def of(cls, user: TrainedNetwork, twin: TrainedNetwork, agreeing: ImageSet, swapped: ImageSet) -> Proof:
        """Ask both networks."""
        networks = {USER: user, TWIN: twin}
        before, after = (
            {role: _answers(trained, images) == images.targets for role, trained in networks.items()}
            for images in (agreeing, swapped)
        )
        return cls(before, after)

    @property
    def is_usable(self) -> np.ndarray:
        """Images that both networks classify correctly, (N,) bool."""
        return self.correct[USER] & self.correct[TWIN]

    def share(self, role: str) -> float:
        """Return the share of a network's correct answers that follow the swapped cue; NaN without any."""
        correct = self.correct[role]
        return float(self.follows[role][correct].mean()) if correct.any() else float("nan")

    def describe(self, record: PairRecord, pair: PairConfig, images: int) -> PairRecord:
        """Complete the record of a pair, with the reason if it is refused."""
        user, twin = self.share(USER), self.share(TWIN)
        changes = {
            "held_out": len(self.is_usable),
            "user_accuracy": round(float(self.correct[USER].mean()), 4),
            "twin_accuracy": round(float(self.correct[TWIN].mean()), 4),
            "user_follows": round(user, 4),
            "twin_follows": round(twin, 4),
            "least_user": pair.least_user,
            "most_twin": pair.most_twin,
        }
        refusal = self._refusal(pair, user, twin, images)
        return record.model_copy(update=changes | {"images": 0 if refusal else images, "refused": refusal})

    @staticmethod
    def _refusal(pair: PairConfig, user: float, twin: float, images: int) -> str:
        if not user >= pair.least_user:
            return (
                f"the user follows a swapped cue on {user:.0%} of the held-out images, needs {pair.least_user:.0%}: "
                "train longer (budget, train)"
            )
        if not twin <= pair.most_twin:
            return (
                f"the twin follows a swapped cue on {twin:.0%} of the held-out images, and may on {pair.most_twin:.0%}"
            )
        return "" if images else "no held-out image is classified correctly by both networks"


def _train(
    name: str, plan: PairedTraining, start: TrainedNetwork, worker: ShardWorker, counters: Counters, show: ShowEpoch
) -> TrainedNetwork | None:
    images = RunImages(plan.dataset)
    with counters.clock.measure("pairs"):
        return _worker_of(plan, worker).train(
            plan.cell, images, counters, lambda epoch: show(name, epoch), start.network
        )


def _train_both(
    pair: PairConfig,
    plans: dict[str, PairedTraining],
    start: TrainedNetwork,
    worker: ShardWorker,
    counters: Counters,
    show: ShowEpoch,
    helper: Helper | None,
) -> dict[str, TrainedNetwork | None]:
    """Train both networks of a pair, or load them; side by side where both are missing and there is a helper."""
    networks: dict[str, TrainedNetwork | None] = {}

    def train_here(role: str) -> None:
        networks[role] = _train(f"{pair.name}, {role}", plans[role], start, worker, counters, show)

    if helper is None or any(is_stored(plan.cell, worker.store) for plan in plans.values()):
        for role in plans:
            train_here(role)
        return networks
    task = partial(train_role, pair=pair, start=start.cell)
    for other in helper.share([TWIN, USER], task, train_here, counters.clock, "pairs"):
        counters.merge(replace(other, clock=Clock()))  # its times passed beside those of this process
        networks[TWIN] = load_trained(plans[TWIN].cell, plans[TWIN].components, worker.store, worker.device)
    return networks


def train_role(context: JobContext, role: str, pair: PairConfig, start: TrainCell) -> Counters:
    """Train a network of a pair in this process, which is a helper, from a network in the store."""
    state, counters = process_state(context), Counters()
    network = state.load_network(start)
    plan = paired_training(pair, role, start, network.statistics, state.worker.components)
    _train(f"{pair.name}, {role}", plan, network, state.worker, counters, lambda *_: None)
    return counters


def _worker_of(plan: PairedTraining, worker: ShardWorker) -> ShardWorker:
    """Return a worker like that of the run, with the components of a pair."""
    return ShardWorker(
        worker.config,
        plan.components,
        worker.store,
        worker.device,
        worker.provenance,
        retry_failed=worker.retry_failed,
    )


def _applies_to_both(name: str, worker: ShardWorker, user: TrainedNetwork, twin: TrainedNetwork) -> bool:
    explainer = worker.components.explainers[name]
    networks: tuple[nn.Module, nn.Module] = user.network, twin.network
    return not explainer.needs_masks and all(applicability(explainer, network).applies for network in networks)


def _with_cues(images: ImageSet, name: str) -> ImageSet:
    """Return images with the cue as their evidence, and the name of the pair in their ids."""
    return ImageSet(images.images, images.targets, images.regions[CUE], [name + PAIR_SEPARATOR + i for i in images.ids])


def _answers(trained: TrainedNetwork, images: ImageSet) -> np.ndarray:
    """Return the predicted classes (N,)."""
    batches = np.array_split(images.images, max(1, len(images) // 100))
    logits = [predict(trained.network, normalised(batch, trained.statistics)) for batch in batches]
    answers: np.ndarray = torch.cat(logits).argmax(1).numpy()
    return answers
