"""Does LAP cost accuracy? Each LAP network beside its plain twin: the same data, recipe and seeds.

    python -m benchmarks.studies.tables.twins results/method/digits:results/method/twins_digits ...

Reads stored runs alone; a pair is a run with LAP networks and a run with plain ones. Writes twins.csv and twins.md.
Limits: two or three seeds; the interval is of their mean difference and says nothing of the choice of test images,
which are the same for both.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from benchmarks.store.atomic import write_atomically
from benchmarks.studies.shortcut.report import half_interval

OUTPUT = Path("results/method")


def accuracies(folder: Path) -> dict[int, float]:
    """Test accuracy by seed of a run's one network."""
    models = json.loads((folder / "run.json").read_text())["models"]
    if len({model["name"] for model in models}) != 1:
        raise SystemExit(f"{folder} holds more than one network: give a run of LAP alone and a run of its plain twin")
    return {model["seed"]: model["test_accuracy"] for model in models}


def twins(lap: Path, plain: Path) -> list[dict[str, Any]]:
    """A row for each seed that both runs have."""
    ours, theirs = accuracies(lap), accuracies(plain)
    return [
        {
            "data": lap.name,
            "seed": seed,
            "lap": ours[seed],
            "plain": theirs[seed],
            "difference": ours[seed] - theirs[seed],
        }
        for seed in sorted(ours.keys() & theirs.keys())
    ]


def markdown(table: pd.DataFrame) -> str:
    """For people, percent; differences with half their 95 % t-interval over seeds."""
    lines = [
        "# LAP networks and their plain twins",
        "",
        "Accuracy on the test part, percent, of networks trained alike; difference with half its 95 % t-interval over "
        "seeds. Made by `python -m benchmarks.studies.tables.twins` from the runs named.",
        "",
        "| data | seeds | LAP | plain | LAP - plain | below plain beyond the interval |",
        "|---|---|---|---|---|---|",
    ]
    for data, rows in table.groupby("data", sort=False):
        cells = [" ".join(f"{100 * value:.1f}" for value in rows[name]) for name in ("lap", "plain")]
        mean, half = 100 * rows["difference"].mean(), 100 * half_interval(rows["difference"].to_numpy())
        seeds = " ".join(str(seed) for seed in rows["seed"])
        below = "yes" if mean + half < 0 else "no"
        lines.append(f"| {data} | {seeds} | {cells[0]} | {cells[1]} | {mean:+.1f} ± {half:.1f} | {below} |")
    return "\n".join(lines) + "\n"


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("pairs", nargs="+", help="folder of LAP's run:folder of the twin's")
    parser.add_argument("--output", type=Path, default=OUTPUT)
    given = parser.parse_args(arguments)
    pairs = [tuple(Path(folder) for folder in pair.split(":")) for pair in given.pairs]
    table = pd.DataFrame([row for lap, plain in pairs for row in twins(lap, plain)])
    write_atomically(given.output / "twins.csv", table.to_csv(index=False, float_format="%.4f"))
    write_atomically(given.output / "twins.md", markdown(table))
    print(given.output / "twins.md")


if __name__ == "__main__":
    main()
