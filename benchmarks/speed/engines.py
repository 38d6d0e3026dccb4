"""`python -m benchmarks.speed.engines`: the device engine's metrics against Quantus' on the same maps, and against bare
forward passes.

Both engines score the same images and the same ten maps of each with the metrics of the default run, in turn, A B A B;
the ratio is the median over the pairs. Quantus gets the network in its plain form, as a user would hand it over. The
bare side runs as many images through the network as the device engine needs, prepared beforehand, in the same batches
and threads, and nothing else. A second bare side runs what Quantus needs through the plain network: the ratio of the
two is what sharing passes and a quicker network give, however little either engine would cost beside its passes. What
is done once in a process (imports, making the frozen network) is done before. Scores of both engines are compared.

Known limit: few images, since Quantus takes minutes for them; both sides grow linearly with images.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
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
from benchmarks.metrics.passes import Passes, pool
from benchmarks.metrics.quantus_adapter import BATCH_SIZE
from benchmarks.plan.components import RunComponents
from benchmarks.speed.networks import NETS, PRESET, SEED, Net, twins
from benchmarks.speed.pairs import quartiles
from benchmarks.store.atomic import write_atomically
from benchmarks.store.provenance import git_state, system, versions

OUTPUT = Path("results/speed")
MAPS = 10
# Of the networks here, images that Quantus scores in a minute or two on two cores.
IMAGES = {"resnet18": 1}
DEFAULT_IMAGES = 16
PAIRS = 3


@dataclass(frozen=True)
class Line:
    """One network: how many times as fast the device engine is, and how far from its own forward passes.

    Attributes:
        net: network.
        image_size: side in pixels.
        images: scored, with `maps` maps each.
        speed_up: seconds of Quantus / seconds of the device engine; with quartiles.
        overhead: seconds of the device engine / seconds of the bare forward passes; with quartiles.
        passes_alone: seconds of the bare passes that Quantus needs / seconds of those that the device engine needs.
        forwards: images through the network on the device side.
        quantus_forwards: images through the network on Quantus' side.
        largest: largest difference of any score.
        pairs: measured.
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


def joined(before: Path, lines: list[Line]) -> pd.DataFrame:
    """The lines as a table, after those of other networks that the file has already."""
    new = pd.DataFrame([asdict(line) for line in lines])
    if not before.exists():
        return new
    old = pd.read_csv(before)
    return pd.concat([old[~old["net"].isin(new["net"])], new], ignore_index=True)


def batches(net: Net, device: str, images: int) -> list[Batch]:
    """One batch per map: the same images with random maps, from pixel noise to broad blobs, signed and not."""
    pair = twins(net, "contiguous", device, images=images, size=net.image_size)
    rng = np.random.default_rng(SEED)
    pixels, targets = pair.images.cpu().numpy(), pair.targets.cpu().numpy()
    masks = np.zeros((images, 1, *pixels.shape[-2:]), bool)
    masks[..., : net.image_size // 2, : net.image_size // 3] = True
    found = []
    for number in range(MAPS):
        noise = rng.standard_normal((images, 1, *pixels.shape[-2:])).astype(np.float32)
        maps = gaussian_filter(noise, (0, 0, number, number)) if number else noise
        maps = np.maximum(maps, 0) if number % 2 else maps
        found.append(Batch(pair.plain, pixels, targets, maps, masks, device, SEED))
    return found


def scored(metrics: dict[str, Metric], given: list[Batch], engine: str, passes: Passes | None) -> dict[str, np.ndarray]:
    """All scores of all maps by one engine."""
    values: dict[str, np.ndarray] = {}
    for number, batch in enumerate(given):
        part = Batch(**{**batch.__dict__, "passes": passes})
        for metric in metrics.values():
            for name, column in metric.model_copy(update={"engine": engine})(part).items():
                values[f"{number} {name}"] = column
    return values


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    """Seconds of a call and what it gave."""
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def bare(network: nn.Module, images: Tensor, count: int, size: int, workers: int = 1) -> float:
    """Seconds of forward passes and nothing else.

    Args:
        network: in evaluation mode.
        images: (n, C, H, W) on its device, in the memory format they are given to it.
        count: images to pass, the same over and over.
        size: of a batch.
        workers: batches at once, on as many threads.
    """
    batch = images[torch.arange(size) % len(images)]
    rounds, rest = divmod(count, size)

    def run(number: int) -> None:
        with torch.inference_mode():
            network(batch[:number])

    begin = time.perf_counter()
    numbers = [size] * rounds + [rest] * (rest > 0)
    list(pool(workers).map(run, numbers) if workers > 1 else map(run, numbers))
    if images.is_cuda:
        torch.cuda.synchronize(images.device)
    return time.perf_counter() - begin


def measure(net: Net, device: str, images: int, pairs: int) -> Line:
    """Both engines in turn on one network."""
    metrics = RunComponents(load_config(preset_path(PRESET))).metrics
    both = {name: metric for name, metric in metrics.items() if metric.has_reference()}
    given = batches(net, device, images)
    first = given[0]
    assert first.model is not None
    counted = _Counter(first.model)
    # Once, on one image, so that everything is imported and the frozen network is made.
    small = [Batch(**{**first.__dict__, **{k: getattr(first, k)[:1] for k in ("images", "targets", "maps", "masks")}})]
    for engine in ("quantus", "device"):
        scored(both, small, engine, None)
    times: dict[str, list[float]] = {"quantus": [], "device": [], "bare": [], "bare_quantus": []}
    largest, shared, quantus_forwards = 0.0, None, 0
    for _ in track(range(pairs), description=net.name):
        counted.images = 0
        seconds, theirs = timed(lambda: scored(both, given, "quantus", None))
        times["quantus"].append(seconds)
        quantus_forwards = counted.images
        shared = Passes(first.model, first.images, first.targets, device)
        seconds, ours = timed(lambda passes=shared: scored(both, given, "device", passes))  # type: ignore[misc]
        times["device"].append(seconds)
        rows = shared._images.permute(0, 3, 1, 2)
        times["bare"].append(bare(shared.network, rows, shared.forwards, shared.batch_size, shared.workers))
        plain, size = torch.from_numpy(first.images).to(device), min(images, BATCH_SIZE)
        times["bare_quantus"].append(bare(first.model, plain, quantus_forwards, size))
        largest = max(largest, *(float(np.nanmax(np.abs(ours[name] - theirs[name]))) for name in ours))
    assert shared is not None
    faster = quartiles([a / b for a, b in zip(times["quantus"], times["device"], strict=True)])
    above = quartiles([a / b for a, b in zip(times["device"], times["bare"], strict=True)])
    medians = {name: float(np.median(values)) for name, values in times.items()}
    return Line(
        net=net.name,
        image_size=net.image_size,
        images=images,
        maps=MAPS,
        speed_up=faster[1],
        speed_up_q1=faster[0],
        speed_up_q3=faster[2],
        overhead=above[1],
        overhead_q1=above[0],
        overhead_q3=above[2],
        passes_alone=quartiles([a / b for a, b in zip(times["bare_quantus"], times["bare"], strict=True)])[1],
        **{f"{name}_seconds": median for name, median in medians.items()},
        forwards=shared.forwards,
        quantus_forwards=quantus_forwards,
        largest=largest,
        pairs=pairs,
        commit=str((git_state(Path(__file__)) or {}).get("commit")),
    )


class _Counter:
    """Counts the images that go through a network."""

    def __init__(self, model: nn.Module) -> None:
        self.images = 0
        model.register_forward_hook(self._add)

    def _add(self, _module: object, _inputs: object, output: Tensor) -> None:
        self.images += len(output)


def main() -> None:
    """Measure and write engines.csv and engines.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.engines", description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--images", type=int, help="scored; by default few enough for a quarter of an hour")
    parser.add_argument("--pairs", type=int, default=PAIRS)
    parser.add_argument("--nets", help="names with commas between them")
    given = parser.parse_args()
    device = resolve_device("auto")
    wanted = [net for net in NETS if net.name in (given.nets or "").split(",")] if given.nets else [NETS[-1], NETS[0]]
    lines = [measure(net, device, given.images or IMAGES.get(net.name, DEFAULT_IMAGES), given.pairs) for net in wanted]
    given.output.mkdir(parents=True, exist_ok=True)
    table = joined(given.output / "engines.csv", lines)
    write_atomically(given.output / "engines.csv", table.to_csv(index=False, float_format="%.4g"))
    facts = {"device": device, "threads": torch.get_num_threads(), **system(), "versions": versions()}
    content = pd.Series({**facts, "git": git_state(Path(__file__)), "seed": SEED})
    write_atomically(given.output / "engines.json", content.to_json(indent=2) + "\n")
    print(table.T.to_string())


if __name__ == "__main__":
    main()
