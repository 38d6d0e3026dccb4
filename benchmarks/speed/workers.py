"""Measure how much sooner a run ends on several Ray workers than on one, each with one thread.

The networks are trained once. Then copies of that run explain and score many images, on each number of workers in turn,
each in a new process. Seconds are those of the whole call but for imports: starting and stopping Ray is part of them.

Known limit: workers on one machine share its memory bandwidth and whatever else runs on it.
"""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
import torch
from rich.progress import track

from benchmarks.config.load import load_config, preset_path
from benchmarks.run.engine import Engine
from benchmarks.speed.pairs import quartiles
from benchmarks.speed.table import COMMAND
from benchmarks.store.atomic import write_atomically
from benchmarks.store.provenance import write_provenance

WORKERS = (1, 2)
IMAGES = 128
ROUNDS = 3
PRESET = "smoke"
SETTINGS = (
    "dataset.train=2500",
    "recipe.epochs=6",
    "shard=16",
    "gallery=1",
    "keep_maps=none",
    "threads=1",
    "explainers=[lap, lap_steps, grad_cam, integrated_gradients, shap, random]",
)


def run_once(images: int, test_images: int, workers: int, folder: Path, *settings: str) -> float:
    """Run once in this process; return the seconds of the whole run.

    Args:
        images: images to explain.
        test_images: size of the data set's test split.
        workers: Ray workers; 0 for this process alone.
        folder: folder of the runs.
        settings: further settings of the run.

    Raises:
        RuntimeError: the run had problems, so that its time means nothing.
    """
    engine = ["engine=ray", f"ray.workers={workers}"] if workers else []
    sizes = (f"images={images}", f"dataset.test={test_images}", f"output={folder}")
    config = load_config(preset_path(PRESET), assignments=(*SETTINGS, *sizes, *engine, *settings))
    begin = time.perf_counter()
    outcome = Engine(config).run()
    if outcome.problems:
        raise RuntimeError(f"the run went wrong: {outcome.problems[0]}")
    return time.perf_counter() - begin


def run_in_subprocess(images: int, test_images: int, workers: int, folder: Path) -> float:
    """Run once in a new process; see `run_once`."""
    module = [sys.executable, "-W", "ignore", "-m", "benchmarks.speed"]
    command = [*module, "workers-once", str(images), str(test_images), str(workers), str(folder)]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return float(json.loads(output.splitlines()[-1])["seconds"])


def tabulate_workers(seconds: Sequence[dict[int, float]]) -> pd.DataFrame:
    """Reduce rounds of seconds by number of workers to medians and gains over the first number."""
    rows = []
    for workers in seconds[0]:
        first = next(iter(seconds[0]))
        lower, gain, upper = quartiles([each[first] / each[workers] for each in seconds])
        median = pd.Series([each[workers] for each in seconds]).median()
        rows.append({"workers": workers, "seconds": median, "gain": gain, "gain_q1": lower, "gain_q3": upper})
    return pd.DataFrame(rows).assign(rounds=len(seconds))


def write_workers(folder: Path, images: int, workers: Sequence[int], rounds: int) -> list[Path]:
    """Measure and write workers.csv and workers.json.

    Args:
        folder: folder of both files.
        images: images to explain.
        workers: numbers of Ray workers.
        rounds: runs for each of them, in turn.
    """
    test_images = 3 * images
    with tempfile.TemporaryDirectory() as work:
        trained = Path(work, "trained")
        run_in_subprocess(1, test_images, 0, trained)
        seconds: list[dict[int, float]] = []
        for number in track(range(rounds), description="Running"):
            seconds.append({})
            for count in workers:
                copy = shutil.copytree(trained, Path(work, f"{number}-{count}"))
                seconds[-1][count] = run_in_subprocess(images, test_images, count, copy)
                shutil.rmtree(copy)
    table = tabulate_workers(seconds).assign(images=images)
    facts = {"preset": PRESET, "settings": SETTINGS, "cores": torch.get_num_threads()}
    return [
        write_atomically(folder / "workers.csv", table.to_csv(index=False, float_format="%.4g")),
        write_provenance(folder / "workers.json", facts, command=f"{COMMAND} workers"),
    ]
