"""Compare the accuracy of LAP networks with that of their plain twins: same data, recipe and seeds.

Command: `interp-bench study twins results/method/digits:results/method/twins_digits ...`. Reads stored runs alone. A
pair is a run with LAP networks and a run with plain ones. Writes twins.csv and twins.md into results/method.

Known limits: two or three seeds. The interval is of their mean difference and ignores the choice of test images, which
are the same for both.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from benchmarks.store.atomic import write_atomically
from benchmarks.store.markdown import markdown_table
from benchmarks.studies.shortcut.report import half_interval
from interp_core.errors import InterpError

COMMAND = "interp-bench study twins"
OUTPUT = Path("results/method")


class TwinRow(NamedTuple):
    """Accuracies of both networks with one seed, in [0, 1]."""

    data: str
    seed: int
    lap: float
    plain: float
    difference: float


def read_accuracies(folder: Path) -> dict[int, float]:
    """Read the test accuracy by seed of a run's one network.

    Raises:
        InterpError: the run has several networks.
    """
    models: list[dict[str, Any]] = json.loads((folder / "run.json").read_text(encoding="utf-8"))["models"]
    if len({model["name"] for model in models}) != 1:
        raise InterpError(f"{folder} holds more than one network: give a run of LAP alone and a run of its plain twin")
    return {model["seed"]: model["test_accuracy"] for model in models}


def compare_twins(lap: Path, plain: Path) -> list[TwinRow]:
    """Return a row for each seed that both runs have."""
    lap_accuracies, plain_accuracies = read_accuracies(lap), read_accuracies(plain)
    pairs = [(seed, lap_accuracies[seed], plain_accuracies.get(seed)) for seed in sorted(lap_accuracies)]
    return [TwinRow(lap.name, seed, ours, theirs, ours - theirs) for seed, ours, theirs in pairs if theirs is not None]


def to_markdown(table: pd.DataFrame) -> str:
    """Format accuracies in percent, differences with half their 95 % t-interval over seeds."""
    cells = []
    for data, rows in table.groupby("data", sort=False):
        mean, half = 100 * rows["difference"].mean(), 100 * half_interval(rows["difference"].to_numpy())
        cells.append(
            {
                "data": str(data),
                "seeds": " ".join(str(seed) for seed in rows["seed"]),
                "LAP": " ".join(f"{100 * value:.1f}" for value in rows["lap"]),
                "plain": " ".join(f"{100 * value:.1f}" for value in rows["plain"]),
                "LAP - plain": f"{mean:+.1f} ± {half:.1f}",
                "below plain beyond the interval": "yes" if mean + half < 0 else "no",
            }
        )
    introduction = (
        "Accuracy on the test part, percent, of networks trained alike; difference with half its 95 % t-interval over "
        f"seeds. Made by `{COMMAND}` from the runs named."
    )
    return f"# LAP networks and their plain twins\n\n{introduction}\n\n{markdown_table(pd.DataFrame(cells))}\n"


def run(pairs: Sequence[tuple[Path, Path]], output: Path = OUTPUT) -> list[Path]:
    """Compare pairs of runs and write table and page.

    Args:
        pairs: folder of a run of LAP and folder of the run of its plain twin.
        output: folder for the files.
    """
    table = pd.DataFrame([row for lap, plain in pairs for row in compare_twins(lap, plain)])
    return [
        write_atomically(output / "twins.csv", table.to_csv(index=False, float_format="%.4f")),
        write_atomically(output / "twins.md", to_markdown(table)),
    ]
