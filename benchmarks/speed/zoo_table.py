"""Format the measurements of the zoo suite as zoo.md.

The head holds, for each kind of cost, the median and the worst of the networks' ratios beside their limits.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import pandas as pd

from benchmarks.speed.table import conditions
from benchmarks.speed.zoo_rows import ZooResults, ZooRow, ZooSummaryRow, summarise_zoo
from benchmarks.store.markdown import markdown_table

FIGURE = "zoo.png"
KIND_TITLES = {
    "forward": "time of a forward pass, against the plain network's",
    "explain": "time of an explanation, against a plain forward pass",
    "training step": "time of a training step, against the plain network's",
    "forward memory": "peak memory of a forward pass, weights and images included",
    "training memory": "peak memory of a training step, weights, gradients, AdamW's state and images included",
}
_SUMMARY_HEAD = ("variant", "what", "networks", "median", "asked of it", "worst", "asked of it", "network", "verdict")
_NUMBERS = {"px", "ratio", "quartiles", "plain, ms", "plain, MiB", "pairs", "networks", "median", "worst"}


def to_markdown(results: ZooResults) -> str:
    """Format the summary, every network kind by kind, and the conditions of the measurement."""
    verdict = not results.facts["quick"] and not results.facts["zoo"]["part"]
    summary = [_summary_cells(row, verdict=verdict) for row in summarise_zoo(results)]
    sections = ["# What LAP costs in the networks people use", _introduction(results.facts)]
    sections += [markdown_table(pd.DataFrame(summary, columns=_SUMMARY_HEAD), _NUMBERS)]
    sections += [f"![ratio of every network]({FIGURE})"]
    for variant in results.variants():
        for kind, title in KIND_TITLES.items():
            rows = sorted(results.select(variant, kind), key=lambda row: -row.ratio)
            if rows:
                sections += [f"## {kind.capitalize()}, {variant}", f"{title[0].upper()}{title[1:]}."]
                sections.append(markdown_table(pd.DataFrame([_cells(row) for row in rows]), _NUMBERS))
    flags = " ".join(results.facts["zoo"]["flags"])
    sections += ["## What the figures depend on", conditions(results.facts, flags)]
    return "\n\n".join(sections) + "\n"


def _introduction(facts: Mapping[str, Any]) -> str:
    zoo = facts["zoo"]
    text = (
        f"Each network with LAP against the same network without, channels last, {zoo['images']} images at the "
        f"network's own size, {zoo['largest']} px at most, {zoo['classes']} classes, random weights, attention working "
        f"(`a` = {zoo['sharpness']:g}). Times: both sides in turn in one run, the median of the ratios of all pairs "
        f"with their quartiles; as many pairs as {zoo['budget']:g} seconds allow, {zoo['fewest']} at least. Memory: "
        "the most bytes that torch's allocator has given out at once. How the networks were chosen is said in "
        "`benchmarks/speed/zoo.py`."
    )
    if facts["quick"]:
        return "**A quick check with few pairs and tiny networks: not figures to quote.**\n\n" + text
    return "**A part of the networks only.**\n\n" + text if zoo["part"] else text


def _summary_cells(row: ZooSummaryRow, *, verdict: bool) -> list[str]:
    limit = row.limits.worst
    return [
        row.variant,
        row.kind,
        str(row.nets),
        f"{row.median:.3f}",
        f"<= {row.limits.median:.2f}",
        f"{row.worst:.3f}",
        "" if limit is None else f"<= {limit:.2f}",
        row.net,
        ("kept" if row.is_within_limits else "missed") if verdict else "",
    ]


def _cells(row: ZooRow) -> dict[str, str]:
    """Return the cells of one network by column; memory has neither quartiles nor pairs."""
    cells = {"network": row.net, "px": str(row.image_size), "ratio": f"{row.ratio:.3f}"}
    plain = {f"plain, {row.unit}": f"{row.plain:.1f}"}
    if row.unit != "ms":
        return cells | plain
    return {**cells, "quartiles": f"{row.q1:.3f} to {row.q3:.3f}", **plain, "pairs": str(row.pairs)}
