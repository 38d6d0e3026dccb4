"""Table of the repairs of planted causes."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.store.atomic import write_atomically
from benchmarks.store.markdown import markdown_table

REFERENCE = "never saw it"
UNIT = ["cause", "agreement", "seed"]


def write_report(rows: pd.DataFrame, output: Path) -> Path:
    """Write the table of repairs as Markdown."""
    text = f"# Repairs of planted causes\n\n{markdown_table(repair_table(rows).round(3))}\n"
    return write_atomically(output / "repairs.md", text)


def repair_table(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the mean accuracies of each repair, and its distance to the network that never saw the cue."""
    reference = rows[rows["repair"] == REFERENCE].set_index(UNIT)["worst"].rename("reference")
    joined = rows.join(reference, on=UNIT)
    joined["gap"] = 100 * (joined["reference"] - joined["worst"])
    table = joined.groupby("repair", sort=False).agg(
        networks=("worst", "size"), worst=("worst", "mean"), agree=("agree", "mean"), gap=("gap", "mean"),
        largest=("gap", "max"), seconds=("seconds", "mean"),
    )  # fmt: skip
    table = table.sort_values("worst", ascending=False).reset_index()
    return table.rename(columns={
        "worst": "worst group", "agree": "cue agrees", "gap": "points below the reference", "largest": "largest gap",
    })  # fmt: skip
