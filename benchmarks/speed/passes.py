"""Count the forward passes that the metrics of a stored run ask for, those that are run, and what fewer would change.

The networks and maps of a run are scored again, on the first images. Three counts for each metric:

    asked      each metric and each map by itself
    run        with `benchmarks.metrics.passes.Passes`, which metrics and explainers share, in the order of the run
    repeated   of those, perturbed images equal to one that was run before, byte for byte: what is left to share

and the largest and the mean change of its score when its curve has half as many steps.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd
from torch import Tensor, nn

from benchmarks.config.device import resolve_device
from benchmarks.config.load import parse
from benchmarks.config.run import RunConfig
from benchmarks.metrics import Batch, Metric
from benchmarks.metrics.passes import Passes
from benchmarks.plan.cells import TrainCell, shard_cells, train_cells
from benchmarks.plan.components import RunComponents
from benchmarks.run.images import RunImages
from benchmarks.run.shard import Shard
from benchmarks.run.training import load_trained
from benchmarks.speed.table import COMMAND
from benchmarks.store.atomic import write_atomically
from benchmarks.store.locations import open_location
from benchmarks.store.provenance import write_provenance
from benchmarks.store.run_folder import Store, read_record
from interp_core.datasets import ImageSet
from interp_core.errors import StoreError

STEPS = "steps"  # the field of metrics whose curves can have fewer points


@dataclass(frozen=True)
class PassesRow:
    """Passes of one metric, all maps of all networks together.

    Attributes:
        metric: its name.
        asked: images through the network if each metric and map had passes of its own.
        run: images that were run, since nobody had asked for them before.
        repeated: of those, images equal to one that was run before.
        half_largest: largest change of a score with half the steps; NaN for metrics without steps.
        half_mean: mean absolute change.
    """

    metric: str
    asked: int
    run: int
    repeated: int
    half_largest: float
    half_mean: float


class RepeatCounter(nn.Module):
    """A network that counts the images it was given before.

    Args:
        network: in evaluation mode.
    """

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network
        self.repeated = 0
        self._seen: set[bytes] = set()
        self.eval()

    def forward(self, images: Tensor) -> Tensor:
        """Return the network's logits (N, K)."""
        for image in images.detach().cpu().numpy():
            key = hashlib.blake2b(np.ascontiguousarray(image).tobytes(), digest_size=16).digest()
            self.repeated += key in self._seen
            self._seen.add(key)
        logits: Tensor = self.network(images)
        return logits


def read_batches(folder: Path, images: int) -> tuple[dict[str, Metric], list[list[Batch]]]:
    """Read the first images of a run with all their maps.

    Args:
        folder: of the run, with its networks and maps.
        images: images to read, at most those of the run's first shard.

    Returns:
        Metrics that need a network and no further one, by name, and for each network one batch for each explainer.

    Raises:
        StoreError: the run is not there, or kept no networks or no maps.
    """
    record = read_record(open_location(folder))
    config = parse(RunConfig, record.config, f"the configuration of {folder}")
    components, store = RunComponents(config), Store(folder)
    metrics = {name: each for name, each in components.metrics.items() if each.needs_model and not each.needs_twin}
    split = RunImages(components.dataset).split_to_explain(config.split)
    numbers = {image_id: number for number, image_id in enumerate(split.ids)}
    selected = list(record.dataset.areas)[: config.shard]
    first = split.take(np.array([numbers[image_id] for image_id in selected]))
    cells = [cell for cell in train_cells(config, components) if cell.model.explained]
    batches = [_batches_of(cell, config, components, store, first, images) for cell in cells]
    if not any(batches):
        raise StoreError(
            f"{folder} has no networks with maps of this version of the code: run it anew, with keep_maps: float32, "
            "and do not pack it"
        )
    return metrics, [of_network for of_network in batches if of_network]


def _batches_of(
    cell: TrainCell, config: RunConfig, components: RunComponents, store: Store, first: ImageSet, images: int
) -> list[Batch]:
    """Return one batch for each explainer of a network; none where the store lacks the network.

    Args:
        cell: of the network.
        config: of the run.
        components: of the run.
        store: of the run.
        first: all images of the first shard.
        images: how many of them to return.
    """
    device = resolve_device("auto")
    trained = load_trained(cell, components, store, device)
    if trained is None:
        return []
    maps = [store.read_maps(each.key) for each in shard_cells(config, components, cell, first.ids, 0)]
    batch = Batch(
        model=trained.network,
        images=Shard(0, first, trained.statistics).images.numpy()[:images],
        targets=first.targets[:images],
        maps=np.empty(0, np.float32),
        masks=first.masks[:images],
        device=device,
        seed=cell.seed,
        multi_label=components.dataset.multi_label,
    )
    return [replace(batch, maps=each[:images]) for each in maps if each is not None]


def count_passes(metrics: Mapping[str, Metric], batches: Sequence[Sequence[Batch]]) -> list[PassesRow]:
    """Score all maps, and count the passes.

    Args:
        metrics: by name.
        batches: for each network, one batch for each explainer, of the same images.
    """
    asked, run, repeated = (dict.fromkeys(metrics, 0) for _ in range(3))
    changes: dict[str, list[np.ndarray]] = {name: [] for name in metrics}
    for of_network in batches:
        network = of_network[0].model
        assert network is not None  # these metrics need one
        counter = RepeatCounter(network)
        shared = _passes(replace(of_network[0], model=counter))
        for batch in of_network:
            for name, metric in metrics.items():
                forwards, again = shared.forwards, counter.repeated
                metric(replace(batch, passes=shared))
                run[name] += shared.forwards - forwards
                repeated[name] += counter.repeated - again
                alone = _passes(batch)
                scores = metric(replace(batch, passes=alone))
                asked[name] += alone.forwards
                changes[name] += _changes_at_half(metric, replace(batch, passes=alone), scores)
    return [
        PassesRow(name, asked[name], run[name], repeated[name], *_largest_and_mean(changes[name])) for name in metrics
    ]


def _passes(batch: Batch) -> Passes:
    assert batch.model is not None
    return Passes(batch.model, batch.images, batch.targets, batch.device, multi_label=batch.multi_label)


def _changes_at_half(metric: Metric, batch: Batch, scores: Mapping[str, np.ndarray]) -> list[np.ndarray]:
    """Return the absolute changes of the ranked scores with half the steps; none for metrics without steps."""
    steps = getattr(metric, STEPS, None)
    if steps is None:
        return []
    coarse = metric.model_copy(update={STEPS: max(2, steps // 2)})(batch)
    return [np.abs(coarse[each.name] - scores[each.name]) for each in metric.scores if each.ranked]


def _largest_and_mean(changes: Sequence[np.ndarray]) -> tuple[float, float]:
    if not changes:
        return float("nan"), float("nan")
    joined = np.concatenate(changes)
    return float(np.nanmax(joined)), float(np.nanmean(joined))


def write_passes(folder: Path, run: Path, images: int) -> list[Path]:
    """Count and write passes.csv and passes.json.

    Args:
        folder: folder of both files.
        run: folder of a stored run.
        images: images to score.
    """
    metrics, batches = read_batches(run, images)
    table = pd.DataFrame([asdict(row) for row in count_passes(metrics, batches)])
    numbers = {"networks": len(batches), "maps": sum(map(len, batches)), "images": len(batches[0][0].images)}
    facts = {"run": read_record(open_location(run)).config.get("name"), **numbers}
    return [
        write_atomically(folder / "passes.csv", table.to_csv(index=False, float_format="%.3g")),
        write_provenance(folder / "passes.json", facts, command=f"{COMMAND} passes RUN"),
    ]
