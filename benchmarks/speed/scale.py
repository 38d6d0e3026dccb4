"""Measure how time and peak memory of a run grow with the images explained.

Runs of one small configuration differ only in the number of images they explain. Each starts from nothing in a separate
process. Seconds are those of selecting, explaining and scoring, without training. Memory is the highest resident size
of the process, which includes training and the store.

All runs have the same data set, with three times as many test images as the largest run explains, since not all are
classified correctly.

Known limit: the embedded data set is built in memory, 4 kB an image at 32 px. Data sets of files are not.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import pandas as pd
from rich.progress import track

from benchmarks.config.load import load_config, preset_path
from benchmarks.run.engine import Engine
from benchmarks.speed.table import COMMAND
from benchmarks.store.atomic import write_atomically
from benchmarks.store.provenance import write_provenance

IMAGES = (50, 500, 5000)
# Small enough for thousands of images in minutes: the growth of the cost matters, not the cost.
PRESET = "smoke"
SETTINGS = (
    "dataset.train=2500",
    "recipe.epochs=6",
    "shard=50",
    "gallery=1",
    "keep_maps=none",
    "explainers=[lap, grad_cam, random]",
    "metrics=[relevance_mass_accuracy, pointing_game, {name: pixel_flipping, steps: 8}]",
)


def run_once(images: int, test_images: int, folder: Path, *settings: str) -> dict[str, float]:
    """Run once in this process; return images explained, seconds and peak memory in MiB.

    Args:
        images: images to explain.
        test_images: size of the data set's test split.
        folder: folder of the run.
        settings: further settings of the run.

    Raises:
        RuntimeError: the run had problems, so that its cost means nothing.
    """
    sizes = (f"images={images}", f"dataset.test={test_images}", f"output={folder}")
    engine = Engine(load_config(preset_path(PRESET), assignments=(*SETTINGS, *sizes, *settings)))
    outcome = engine.run()
    if outcome.problems:
        raise RuntimeError(f"the run went wrong: {outcome.problems[0]}")
    times = engine.record.times
    evaluated = engine.record.dataset.evaluated or 0
    # In kilobytes; macOS reports bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    excluded = times.get("train", 0) + times.get("audit", 0)
    return {"images": evaluated, "seconds": times["total"] - excluded, "peak_mib": peak}


def run_in_subprocess(images: int, test_images: int) -> dict[str, float]:
    """Run once in a new process; see `run_once`."""
    with tempfile.TemporaryDirectory() as folder:
        module = [sys.executable, "-W", "ignore", "-m", "benchmarks.speed"]
        command = [*module, "scale-once", str(images), str(test_images), folder]
        output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(json.loads(output.splitlines()[-1]))


def tabulate_growth(rows: Sequence[dict[str, float]]) -> pd.DataFrame:
    """Add milliseconds per image, and memory as a ratio to that of the smallest run."""
    table = pd.DataFrame(list(rows))
    table["ms_per_image"] = table["seconds"] / table["images"] * 1e3
    table["peak_ratio"] = table["peak_mib"] / table["peak_mib"].iloc[0]
    # Cost of one more image, without the cost that every run pays once.
    table["ms_per_further_image"] = table["seconds"].diff() / table["images"].diff() * 1e3
    return table


def write_scale(folder: Path, images: Sequence[int]) -> list[Path]:
    """Measure and write scale.csv and scale.json.

    Args:
        folder: folder of both files.
        images: images to explain, one run for each number.
    """
    rows = [run_in_subprocess(count, 3 * max(images)) for count in track(images, description="Running")]
    facts = {"preset": PRESET, "settings": SETTINGS}
    return [
        write_atomically(folder / "scale.csv", tabulate_growth(rows).to_csv(index=False, float_format="%.5g")),
        write_provenance(folder / "scale.json", facts, command=f"{COMMAND} scale"),
    ]
