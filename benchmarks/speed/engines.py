"""Time the device engine's metrics against Quantus' on the same maps, and against bare forward passes.

Both engines score the same images, with the same ten maps each, by the metrics of the default run, in turn: A B A B.
The ratio is the median over the pairs. Quantus gets the network in its plain form, as a user would pass it.

The bare side only runs as many images through the network as the device engine needs, prepared beforehand, in the same
batches and threads. A second bare side runs what Quantus needs through the plain network. The ratio of the two is the
gain from shared passes and a faster network, without the work of either engine besides its passes.

Work that is done once per process (imports, the flat copy of the network) is done before. Scores of both engines are
compared.

Known limit: few images, since Quantus takes minutes for them. Both sides grow linearly with images.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from rich.progress import track
from scipy.ndimage import gaussian_filter
from torch import Tensor, nn

from benchmarks.config.device import resolve_device
from benchmarks.config.load import load_config, preset_path
from benchmarks.metrics import Batch, Metric
from benchmarks.metrics.batched_network import single_threaded_pool
from benchmarks.metrics.passes import Passes
from benchmarks.metrics.quantus_adapter import BATCH_SIZE
from benchmarks.plan.components import RunComponents
from benchmarks.speed.networks import NETS, PRESET, SEED, Net, twins
from benchmarks.speed.pairs import quartiles
from benchmarks.speed.table import COMMAND
from benchmarks.store.atomic import write_atomically
from benchmarks.store.provenance import git_state, write_provenance
from interp_core.errors import UnknownNameError

MAPS = 10
# Images that Quantus scores in a minute or two on two cores, by network.
IMAGES = {"resnet18": 1}
DEFAULT_IMAGES = 16


@dataclass(frozen=True)
class EngineRow:
    """Speed of the device engine on one network.

    Attributes:
        net: network.
        image_size: side in pixels.
        images: images that are scored.
        maps: maps of each image.
        speed_up: seconds of Quantus / seconds of the device engine, with quartiles.
        overhead: seconds of the device engine / seconds of the bare forward passes, with quartiles.
        passes_alone: seconds of the bare passes that Quantus needs / seconds of those that the device engine needs.
        device_seconds: of the device engine, median.
        quantus_seconds: of Quantus, median.
        bare_seconds: of the device engine's bare passes, median.
        bare_quantus_seconds: of Quantus' bare passes, median.
        forwards: images through the network on the device side.
        quantus_forwards: images through the network on Quantus' side.
        largest: largest difference of any score.
        pairs: number of pairs.
        commit: of the code.
    """

    net: str
    image_size: int
    images: int
    maps: int
    speed_up: float
    speed_up_q1: float
    speed_up_q3: float
    overhead: float
    overhead_q1: float
    overhead_q3: float
    passes_alone: float
    device_seconds: float
    quantus_seconds: float
    bare_seconds: float
    bare_quantus_seconds: float
    forwards: int
    quantus_forwards: int
    largest: float
    pairs: int
    commit: str


@dataclass(frozen=True)
class Round:
    """One round of both engines and of their bare passes.

    Attributes:
        quantus: seconds of Quantus.
        device: seconds of the device engine.
        bare: seconds of the forward passes that the device engine needs.
        bare_quantus: seconds of the forward passes that Quantus needs.
        forwards: images through the network on the device side.
        quantus_forwards: images through the network on Quantus' side.
        largest: largest difference of any score.
    """

    quantus: float
    device: float
    bare: float
    bare_quantus: float
    forwards: int
    quantus_forwards: int
    largest: float


class EngineComparison:
    """Both engines on one network, ready to be timed.

    Args:
        net: the network.
        device: where it runs.
        images: images to score.
    """

    def __init__(self, net: Net, device: str, images: int) -> None:
        metrics = RunComponents(load_config(preset_path(PRESET))).metrics
        self.metrics = {name: metric for name, metric in metrics.items() if metric.has_reference()}
        self.batches = make_batches(net, device, images)
        self.device = device
        model = self.batches[0].model
        assert model is not None
        self.model = model
        self._counter = _ForwardCounter(model)

    def warm_up(self) -> None:
        """Score one image once, so that all modules are imported and the flat network is built."""
        first = self.batches[0]
        arrays = {name: getattr(first, name)[:1] for name in ("images", "targets", "maps", "masks")}
        for engine in ("quantus", "device"):
            score(self.metrics, [Batch(**{**first.__dict__, **arrays})], engine, None)

    def time_round(self) -> Round:
        """Time Quantus, the device engine and the bare passes of both, in this order."""
        first = self.batches[0]
        self._counter.images = 0
        quantus, expected = time_call(lambda: score(self.metrics, self.batches, "quantus", None))
        quantus_forwards = self._counter.images
        passes = Passes(self.model, first.images, first.targets, self.device)
        network = passes.network
        device, scores = time_call(lambda: score(self.metrics, self.batches, "device", passes))
        images = torch.from_numpy(first.images).to(self.device)
        # The device engine hands over channels last, Quantus the images as they are.
        rows = images.contiguous(memory_format=torch.channels_last)
        return Round(
            quantus=quantus,
            device=device,
            bare=time_passes(network.module, rows, network.forwards, network.batch_size, network.workers),
            bare_quantus=time_passes(self.model, images, quantus_forwards, min(len(images), BATCH_SIZE)),
            forwards=network.forwards,
            quantus_forwards=quantus_forwards,
            largest=max(float(np.nanmax(np.abs(scores[name] - expected[name]))) for name in scores),
        )


class _ForwardCounter:
    """Counter of the images that go through a network."""

    def __init__(self, model: nn.Module) -> None:
        self.images = 0
        model.register_forward_hook(self._add)

    def _add(self, _module: object, _inputs: object, output: Tensor) -> None:
        self.images += len(output)


def make_batches(net: Net, device: str, images: int) -> list[Batch]:
    """Build one batch per map: the same images with random maps.

    Maps range from pixel noise to broad blobs. Every second one has no negative values.
    """
    pair = twins(net, "contiguous", device, images=images, size=net.image_size)
    rng = np.random.default_rng(SEED)
    pixels, targets = pair.images.cpu().numpy(), pair.targets.cpu().numpy()
    masks = np.zeros((images, 1, *pixels.shape[-2:]), bool)
    masks[..., : net.image_size // 2, : net.image_size // 3] = True
    batches = []
    for number in range(MAPS):
        noise = rng.standard_normal((images, 1, *pixels.shape[-2:])).astype(np.float32)
        maps = gaussian_filter(noise, (0, 0, number, number)) if number else noise
        maps = np.maximum(maps, 0) if number % 2 else maps
        batches.append(Batch(pair.plain, pixels, targets, maps, masks, device, SEED))
    return batches


def score(
    metrics: dict[str, Metric], batches: Sequence[Batch], engine: str, passes: Passes | None
) -> dict[str, np.ndarray]:
    """Compute all scores of all maps with one engine, by number of the map and name of the score."""
    scores: dict[str, np.ndarray] = {}
    for number, batch in enumerate(batches):
        shared = Batch(**{**batch.__dict__, "passes": passes})
        for metric in metrics.values():
            for name, column in metric.model_copy(update={"engine": engine})(shared).items():
                scores[f"{number} {name}"] = column
    return scores


def time_call(work: Callable[[], Any]) -> tuple[float, Any]:
    """Return the seconds of a call and its value."""
    begin = time.perf_counter()
    value = work()
    return time.perf_counter() - begin, value


def time_passes(network: nn.Module, images: Tensor, count: int, size: int, workers: int = 1) -> float:
    """Return the seconds of forward passes and nothing else.

    Args:
        network: in evaluation mode.
        images: (n, C, H, W) on its device, in the memory format in which it gets them.
        count: images to pass, the same over and over.
        size: of a batch.
        workers: batches at once, each on its own thread.
    """
    batch = images[torch.arange(size) % len(images)]
    full_batches, remainder = divmod(count, size)

    def run(number: int) -> None:
        with torch.inference_mode():
            network(batch[:number])

    begin = time.perf_counter()
    sizes = [size] * full_batches + [remainder] * (remainder > 0)
    list(single_threaded_pool(workers).map(run, sizes) if workers > 1 else map(run, sizes))
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return time.perf_counter() - begin


def measure(net: Net, device: str, images: int, pairs: int) -> EngineRow:
    """Time both engines in turn on one network."""
    comparison = EngineComparison(net, device, images)
    comparison.warm_up()
    rounds = [comparison.time_round() for _ in track(range(pairs), description=net.name)]
    return summarise(net, images, rounds)


def summarise(net: Net, images: int, rounds: Sequence[Round]) -> EngineRow:
    """Reduce the rounds of one network to their medians and quartiles."""
    table = pd.DataFrame([asdict(each) for each in rounds])
    medians = table.median()
    speed_up_q1, speed_up, speed_up_q3 = quartiles((table["quantus"] / table["device"]).tolist())
    overhead_q1, overhead, overhead_q3 = quartiles((table["device"] / table["bare"]).tolist())
    return EngineRow(
        net=net.name,
        image_size=net.image_size,
        images=images,
        maps=MAPS,
        speed_up=speed_up,
        speed_up_q1=speed_up_q1,
        speed_up_q3=speed_up_q3,
        overhead=overhead,
        overhead_q1=overhead_q1,
        overhead_q3=overhead_q3,
        passes_alone=float((table["bare_quantus"] / table["bare"]).median()),
        device_seconds=float(medians["device"]),
        quantus_seconds=float(medians["quantus"]),
        bare_seconds=float(medians["bare"]),
        bare_quantus_seconds=float(medians["bare_quantus"]),
        forwards=rounds[-1].forwards,
        quantus_forwards=rounds[-1].quantus_forwards,
        largest=float(table["largest"].max()),
        pairs=len(rounds),
        commit=str((git_state() or {}).get("commit")),
    )


def merge_rows(path: Path, rows: Sequence[EngineRow]) -> pd.DataFrame:
    """Return the rows as a table, after the rows of other networks that the file at `path` has."""
    table = pd.DataFrame([asdict(row) for row in rows])
    if not path.exists():
        return table
    stored = pd.read_csv(path)
    return pd.concat([stored[~stored["net"].isin(table["net"])], table], ignore_index=True)


def write_engines(folder: Path, images: int | None, pairs: int, names: Sequence[str]) -> list[Path]:
    """Measure and write engines.csv and engines.json.

    Args:
        folder: folder of both files.
        images: images to score; None for few enough to take a quarter of an hour.
        pairs: rounds of both engines.
        names: networks; the default run's and the first one without any.

    Raises:
        UnknownNameError: no such network.
    """
    device, known = resolve_device("auto"), {net.name: net for net in NETS}
    for name in names:
        if name not in known:
            raise UnknownNameError("network", name, known)
    nets = [known[name] for name in names] or [NETS[-1], NETS[0]]
    rows = [measure(net, device, images or IMAGES.get(net.name, DEFAULT_IMAGES), pairs) for net in nets]
    table = merge_rows(folder / "engines.csv", rows)
    facts = {"device": device, "threads": torch.get_num_threads()}
    return [
        write_atomically(folder / "engines.csv", table.to_csv(index=False, float_format="%.4g")),
        write_provenance(folder / "engines.json", facts, command=f"{COMMAND} engines", seed=SEED),
    ]
