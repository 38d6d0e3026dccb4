"""`python -m benchmarks.speed.scale`: how time and peak memory of a run grow with the images explained.

Runs of one small configuration, each in a process of its own and from nothing, differ in how many images they explain.
Seconds are those of choosing, explaining and scoring, so that training counts for none; memory is the process's
highest resident size, training and report's store included.

All runs have the same data set, three times as many test images as the largest explains, since not all are classified
correctly. Known limit: the embedded data set is made whole, 4 kB an image at 32 px; data sets of files are not.
"""

from __future__ import annotations

import argparse
import json
import resource
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.config.load import load_config, preset_path
from benchmarks.run.engine import Engine
from benchmarks.store.atomic import write_atomically
from benchmarks.store.provenance import git_state, system, versions

OUTPUT = Path("results/speed")
IMAGES = (50, 500, 5000)
# Small enough for thousands of images in minutes: what is asked is how cost grows, not what it is.
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


def run_once(images: int, there: int, folder: Path, *more: str) -> dict[str, float]:
    """One run in this process: images explained, seconds, peak memory in MiB.

    Args:
        images: to explain.
        there: in the data set's test split.
        folder: of the run.
        more: further settings.

    Raises:
        RuntimeError: something went wrong in the run, so that its cost says nothing.
    """
    sizes = (f"images={images}", f"dataset.test={there}", f"output={folder}")
    engine = Engine(load_config(preset_path(PRESET), sets=(*SETTINGS, *sizes, *more)))
    outcome = engine.run()
    if outcome.problems:
        raise RuntimeError(f"the run went wrong: {outcome.problems[0]}")
    times: dict[str, float] = engine.meta["times"]
    evaluated = int(engine.meta["dataset"]["evaluated"])
    # In kilobytes; macOS tells bytes.
    unit = 1 if sys.platform == "darwin" else 1024
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 2**20
    left_out = times.get("train", 0) + times.get("audit", 0)
    return {"images": evaluated, "seconds": times["total"] - left_out, "peak_mib": peak}


def measured(images: int, there: int) -> dict[str, float]:
    """One run in a process of its own; see `run_once`."""
    with tempfile.TemporaryDirectory() as folder:
        module = [sys.executable, "-W", "ignore", "-m", "benchmarks.speed.scale"]
        command = [*module, "--one", str(images), str(there), folder]
        found = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return dict(json.loads(found.splitlines()[-1]))


def table(rows: list[dict[str, float]]) -> pd.DataFrame:
    """Rows with milliseconds an image, and memory as a ratio to the smallest run's."""
    found = pd.DataFrame(rows)
    found["ms_per_image"] = found["seconds"] / found["images"] * 1e3
    found["peak_ratio"] = found["peak_mib"] / found["peak_mib"].iloc[0]
    # What an image more costs: without what every run pays once.
    found["ms_per_further_image"] = found["seconds"].diff() / found["images"].diff() * 1e3
    return found


def main() -> None:
    """Measure and write scale.csv and scale.json."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.speed.scale", description=__doc__)
    parser.add_argument("--output", type=Path, default=OUTPUT)
    parser.add_argument("--images", type=int, nargs="+", default=IMAGES, help="explained, one run for each")
    parser.add_argument("--one", nargs=3, metavar=("IMAGES", "THERE", "FOLDER"), help=argparse.SUPPRESS)
    given = parser.parse_args()
    if given.one:
        print(json.dumps(run_once(int(given.one[0]), int(given.one[1]), Path(given.one[2]))))
        return
    found = table([measured(images, 3 * max(given.images)) for images in given.images])
    given.output.mkdir(parents=True, exist_ok=True)
    write_atomically(given.output / "scale.csv", found.to_csv(index=False, float_format="%.5g"))
    made: dict[str, Any] = {"versions": versions(), "git": git_state(Path(__file__))}
    facts = {**system(), **made, "preset": PRESET, "settings": SETTINGS}
    write_atomically(given.output / "scale.json", json.dumps(facts, indent=2) + "\n")
    print(found.to_string(index=False))


if __name__ == "__main__":
    main()
