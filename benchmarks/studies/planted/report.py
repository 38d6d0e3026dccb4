"""Tables of the study of planted causes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd

from benchmarks.statistics.intervals import bootstrap_ci
from benchmarks.store.atomic import write_atomically
from benchmarks.store.markdown import markdown_table

USED = 0.1  # share of answers that follow the cue, from which the network uses it
VISIBLE = ("tag", "watermark", "texture", "object", "border", "colour", "blur")


def write_report(rows: pd.DataFrame, output: Path) -> list[Path]:
    """Write the summary of all rows; return its file."""
    parts = ["# Planted causes", "", "Networks that use the cause they were trained with:", ""]
    parts += [markdown_table(recalls(rows)), "", "By cause and agreement, method `diagnose`, recall at 3:", ""]
    parts += [markdown_table(by_cause(rows)), "", "Confirmed causes, and false alarms on networks without one:", ""]
    parts += [markdown_table(alarms(rows)), ""]
    return [write_atomically(output / "planted.md", "\n".join(parts))]


def uses_cause(rows: pd.DataFrame) -> pd.Series:
    """Return whether the network of each row uses a planted cause; flipped labels count."""
    return (rows["role"] == "planted") & ((rows["use"] >= USED) | (rows["cause"] == "labels"))


def recalls(rows: pd.DataFrame) -> pd.DataFrame:
    """Return recall of visible causes at an agreement of at least .9, for each scope and method."""
    chosen = rows[uses_cause(rows) & (rows["agreement"] >= 0.9) & rows["cause"].isin(VISIBLE)]
    both = chosen.assign(scope="both")
    return pd.DataFrame([
        {
            "scope": scope,
            "method": method,
            "networks": len(group),
            **{f"recall@{rank}": group[f"recall_{rank}"].mean() for rank in (1, 3, 5)},
            "interval @3": interval(group["recall_3"]),
            "region IoU": group["overlap"].mean(),
            "seconds": group["seconds"].mean(),
        }
        for (scope, method), group in pd.concat([chosen, both]).groupby(["scope", "method"], sort=False)
    ])  # fmt: skip


def by_cause(rows: pd.DataFrame, method: str = "diagnose") -> pd.DataFrame:
    """Return recall at 3 by cause and agreement, with the number of networks that use it."""
    chosen = rows[uses_cause(rows) & (rows["method"] == method)]
    table = chosen.groupby(["cause", "agreement"])["recall_3"].agg(["mean", "size"])
    if table.empty:
        return pd.DataFrame()
    table["cell"] = [f"{row['mean']:.2f} ({row['size']:.0f})" for _, row in table.iterrows()]
    return (
        table.reset_index()
        .pivot_table(index="cause", columns="agreement", values="cell", aggfunc="first")
        .reset_index()
    )


def alarms(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the precision of confirmed causes, and false alarms by kind of network."""
    tables = []
    for method, group in rows.groupby("method", sort=False):
        confirmed = group[uses_cause(group)]
        total = confirmed["confirmed"].sum()
        tables.append({
            "method": method,
            "confirmed": int(total),
            "precision": confirmed["confirmed_right"].sum() / total if total else np.nan,
            **{role: false_alarms(group[group["role"] == role]) for role in ("nothing", "uncorrelated", "hidden")},
        })  # fmt: skip
    return pd.DataFrame(tables)


def false_alarms(rows: pd.DataFrame) -> str:
    """Return the share of idle networks with a confirmed cause that lies on no cue, and their number."""
    idle = rows[~(rows["use"] >= USED)]
    return f"{(idle['confirmed'] > idle['confirmed_right']).mean():.2f} ({len(idle)})" if len(idle) else ""


def interval(values: pd.Series) -> str:
    """Return the bootstrap interval of a mean."""
    low, high = bootstrap_ci(values.to_numpy())
    return f"{low:.2f} to {high:.2f}"
