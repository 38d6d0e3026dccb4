"""Turn the JSON of pytest-benchmark into speed.csv and speed.md, from that file alone."""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pandas as pd

from benchmarks.speed.pairs import SpeedRow
from benchmarks.store.atomic import write_atomically
from benchmarks.store.markdown import markdown_table
from interp_core.errors import InterpError, one_line

if TYPE_CHECKING:
    from _typeshed import DataclassInstance

COMMAND = "python -m benchmarks.speed"
FIELDS = tuple(field.name for field in fields(SpeedRow))


class SpeedError(InterpError):
    """The speed suite cannot run, or its measurements cannot be read."""


@dataclass(frozen=True)
class SpeedResults:
    """Measurements of one run of the suite.

    Attributes:
        rows: comparisons, network by network and memory format by memory format.
        facts: device, threads, versions and all else the measurements depend on.
    """

    rows: tuple[SpeedRow, ...]
    facts: dict[str, Any]


def read(path: Path) -> SpeedResults:
    """Read the file of `pytest benchmarks/speed --benchmark-json=path`.

    Raises:
        SpeedError: the file cannot be read, or another program wrote it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = [SpeedRow(**{name: entry["extra_info"][name] for name in FIELDS}) for entry in content["benchmarks"]]
        facts = {**content["machine_info"], **content["interp_bench"], "date": content["datetime"][:10]}
    except (OSError, ValueError) as error:
        raise SpeedError(f"cannot read {path}: {one_line(error)}") from error
    except (KeyError, TypeError) as error:
        raise SpeedError(
            f"{path} holds no speed ratios: make it with pytest benchmarks/speed --benchmark-json={path}"
        ) from error
    return SpeedResults(_sort_by_network(rows), facts)


def _sort_by_network(rows: Sequence[SpeedRow]) -> tuple[SpeedRow, ...]:
    nets, formats = ([getattr(row, name) for row in rows] for name in ("net", "memory_format"))
    return tuple(sorted(rows, key=lambda row: (nets.index(row.net), formats.index(row.memory_format))))


def to_csv(rows: Iterable[DataclassInstance]) -> str:
    """Format rows of one class as CSV, floats to four significant digits and None as an empty cell."""
    table = pd.DataFrame([asdict(row) for row in rows])
    return table.map(_round).to_csv(index=False, lineterminator="\n")


def _round(value: object) -> object:
    return float(f"{value:.4g}") if isinstance(value, float) else value


def to_markdown(results: SpeedResults) -> str:
    """Format the two tables and the conditions of the measurement."""
    lap_rows = [row for row in results.rows if row.reference.startswith("plain")]
    explainer_rows = [row for row in results.rows if row not in lap_rows]
    sections = ["# Speed", _introduction(results.facts)]
    if lap_rows:
        cells = [_lap_cells(row, verdict=not results.facts["quick"]) for row in lap_rows]
        sections += ["## LAP against its plain twin", markdown_table(pd.DataFrame(cells, columns=_LAP_HEAD), _NUMBERS)]
    if explainer_rows:
        cells = [_explainer_cells(row) for row in explainer_rows]
        sections += [
            "## External explainers against one explanation by LAP",
            "How many times as long as `lap.explain` of the same images; default parameters, on the plain twin.",
            markdown_table(pd.DataFrame(cells, columns=_EXPLAINER_HEAD), _NUMBERS),
        ]
    return "\n\n".join([*sections, "## What the figures depend on", conditions(results.facts)]) + "\n"


def write(results: SpeedResults, folder: Path) -> list[Path]:
    """Write speed.csv and speed.md.

    Raises:
        StoreError: the folder or a file cannot be written.
    """
    return [
        write_atomically(folder / "speed.csv", to_csv(results.rows)),
        write_atomically(folder / "speed.md", to_markdown(results)),
    ]


def _introduction(facts: dict[str, Any]) -> str:
    text = (
        "Ratios of wall-clock times, both sides timed in turn in one run: the median of the ratios of all pairs, with "
        "their quartiles. Random weights from a seed, attention working (`a` = 2). What was asked holds for the memory "
        "format the default recipe trains in; the other is shown beside it."
    )
    warning = "**A quick check with few pairs and small images: not figures to quote.**\n\n"
    return warning + text if facts["quick"] else text


_LAP_HEAD = ("network", "px", "images", "memory format", "what", "ratio", "quartiles", "asked", "plain, ms", "pairs")
_EXPLAINER_HEAD = ("network", "px", "images", "explainer", "times as long", "quartiles", "LAP, ms", "pairs")
_NUMBERS = {"px", "images", "ratio", "quartiles", "times as long", "plain, ms", "LAP, ms", "pairs"}


def _lap_cells(row: SpeedRow, *, verdict: bool) -> list[str]:
    return [
        row.net,
        str(row.image_size),
        str(row.images),
        row.memory_format,
        row.what,
        f"{row.ratio:.3f}",
        f"{row.q1:.3f} to {row.q3:.3f}",
        _format_limit(row, verdict=verdict),
        _format_reference(row),
        str(row.pairs),
    ]


def _explainer_cells(row: SpeedRow) -> list[str]:
    return [
        row.net,
        str(row.image_size),
        str(row.images),
        row.what,
        _format_times(row.ratio),
        f"{_format_times(row.q1)} to {_format_times(row.q3)}" if row.pairs > 1 else "",
        _format_reference(row),
        str(row.pairs),
    ]


def _format_limit(row: SpeedRow, *, verdict: bool) -> str:
    if row.asked is None:
        return ""
    answer = "kept" if row.ratio <= row.asked else "missed"
    return f"<= {row.asked:.2f}, {answer}" if verdict else f"<= {row.asked:.2f}"


def _format_times(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio < 100 else f"{ratio:,.0f}"


def _format_reference(row: SpeedRow) -> str:
    """Format the time of the reference in milliseconds."""
    return f"{row.reference_seconds * 1e3:.1f}"


def conditions(facts: dict[str, Any], flags: str = "") -> str:
    """List command, device, commit, seed and versions of a measurement as Markdown.

    Args:
        facts: see `SpeedResults`.
        flags: options of the command that are not in the facts.
    """
    git = facts["git"]
    code = "not a checkout" if git is None else git["commit"] + (", with changes" if git["dirty"] else "")
    lines = [
        f"command: `{' '.join([COMMAND, *flags.split(), *(['--quick'] if facts['quick'] else [])])}`",
        f"date: {facts['date']}",
        f"device: {facts['device']}, {facts['threads']} CPU threads, {facts['platform']}, Python {facts['python']}",
        f"commit: {code}",
        f"seed: {facts['seed']}",
        f"versions: {', '.join(f'{name} {version}' for name, version in facts['versions'].items())}",
        *(f"{name}: {text}" for name, text in facts["nets"].items()),
    ]
    return "\n".join(f"- {line}" for line in lines)
