"""From the JSON of pytest-benchmark to speed.csv and speed.md; reads that file and nothing else."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

from benchmarks.speed.pairs import Row
from benchmarks.store.atomic import write_atomically
from interp_core.errors import InterpError, one_line

COMMAND = "python -m benchmarks.speed"
FIELDS = tuple(field.name for field in fields(Row))


class SpeedError(InterpError):
    """The speed suite cannot run, or its figures cannot be read."""


@dataclass(frozen=True)
class Measured:
    """What a run of the suite found.

    Attributes:
        rows: comparisons, network by network and memory format by memory format.
        facts: device, threads, versions and all else the figures depend on.
    """

    rows: tuple[Row, ...]
    facts: dict[str, Any]


def read(path: Path) -> Measured:
    """Read what `pytest benchmarks/speed --benchmark-json=path` wrote.

    Raises:
        SpeedError: the file cannot be read, or comes from something else.
    """
    try:
        content = json.loads(path.read_text())
        rows = tuple(Row(**{name: entry["extra_info"][name] for name in FIELDS}) for entry in content["benchmarks"])
        facts = {**content["machine_info"], **content["interp_bench"], "date": content["datetime"][:10]}
    except (OSError, ValueError) as error:
        raise SpeedError(f"cannot read {path}: {one_line(error)}") from error
    except (KeyError, TypeError) as error:
        raise SpeedError(
            f"{path} holds no speed ratios: make it with pytest benchmarks/speed --benchmark-json={path}"
        ) from error
    return Measured(_grouped(rows), facts)


def _grouped(rows: tuple[Row, ...]) -> tuple[Row, ...]:
    nets, formats = ([getattr(row, name) for row in rows] for name in ("net", "memory_format"))
    return tuple(sorted(rows, key=lambda row: (nets.index(row.net), formats.index(row.memory_format))))


def to_csv(rows: Iterable[Row]) -> str:
    """One line a comparison; ratios and seconds to four significant digits, nothing where nothing is asked."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: plain(value) for name, value in asdict(row).items()} for row in rows)
    return text.getvalue()


def plain(value: object) -> object:
    """A value as tables hold it: floats to four significant digits."""
    return float(f"{value:.4g}") if isinstance(value, float) else value


def to_markdown(measured: Measured) -> str:
    """Two tables and what they depend on."""
    own = [row for row in measured.rows if row.reference.startswith("plain")]
    others = [row for row in measured.rows if row not in own]
    parts = ["# Speed", _how(measured.facts)]
    if own:
        parts += [
            "## LAP against its plain twin",
            markdown_table(_OWN, (_own(row, verdict=not measured.facts["quick"]) for row in own)),
        ]
    if others:
        parts += [
            "## External explainers against one explanation by LAP",
            "How many times as long as `lap.explain` of the same images; default parameters, on the plain twin.",
            markdown_table(_OTHERS, map(_other, others)),
        ]
    return "\n\n".join([*parts, "## What the figures depend on", provenance(measured.facts)]) + "\n"


def write(measured: Measured, folder: Path) -> list[Path]:
    """Write both files.

    Raises:
        StoreError: the folder or a file cannot be written.
    """
    return [
        write_atomically(folder / "speed.csv", to_csv(measured.rows)),
        write_atomically(folder / "speed.md", to_markdown(measured)),
    ]


def _how(facts: dict[str, Any]) -> str:
    text = (
        "Ratios of wall-clock times, both sides timed in turn in one run: the median of the ratios of all pairs, with "
        "their quartiles. Random weights from a seed, attention working (`a` = 2). What was asked holds for the memory "
        "format the default recipe trains in; the other is shown beside it."
    )
    warning = "**A quick check with few pairs and small images: not figures to quote.**\n\n"
    return warning + text if facts["quick"] else text


_OWN = ("network", "px", "images", "memory format", "what", "ratio", "quartiles", "asked", "plain, ms", "pairs")
_OTHERS = ("network", "px", "images", "explainer", "times as long", "quartiles", "LAP, ms", "pairs")
_NUMBERS = {"px", "images", "ratio", "quartiles", "times as long", "plain, ms", "LAP, ms", "pairs"}
_NUMBERS |= {"networks", "median", "worst", "plain, MiB"}


def _own(row: Row, *, verdict: bool) -> list[str]:
    return [
        row.net,
        str(row.image_size),
        str(row.images),
        row.memory_format,
        row.what,
        f"{row.ratio:.3f}",
        f"{row.q1:.3f} to {row.q3:.3f}",
        _asked(row, verdict=verdict),
        _milliseconds(row),
        str(row.pairs),
    ]


def _other(row: Row) -> list[str]:
    quartiles = f"{_times(row.q1)} to {_times(row.q3)}" if row.pairs > 1 else ""
    return [
        row.net,
        str(row.image_size),
        str(row.images),
        row.what,
        _times(row.ratio),
        quartiles,
        _milliseconds(row),
        str(row.pairs),
    ]


def _asked(row: Row, *, verdict: bool) -> str:
    if row.asked is None:
        return ""
    answer = "kept" if row.ratio <= row.asked else "missed"
    return f"<= {row.asked:.2f}, {answer}" if verdict else f"<= {row.asked:.2f}"


def _times(ratio: float) -> str:
    return f"{ratio:.1f}" if ratio < 100 else f"{ratio:,.0f}"


def _milliseconds(row: Row) -> str:
    return f"{row.reference_seconds * 1e3:.1f}"


def markdown_table(head: Sequence[str], rows: Iterable[list[str]]) -> str:
    """A table; columns of numbers to the right."""
    rule = ["---:" if name in _NUMBERS else "---" for name in head]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in (head, rule, *rows))


def provenance(facts: dict[str, Any], flags: str = "") -> str:
    """What the figures depend on, as a list; `flags` are those of the command that are no facts."""
    git = facts["git"]
    code = "not a checkout" if git is None else git["commit"] + (", with changes" if git["dirty"] else "")
    lines = [
        f"command: `{' '.join([COMMAND, *flags.split(), *(['--quick'] if facts['quick'] else [])])}`",
        f"date: {facts['date']}",
        f"device: {facts['device']}, {facts['threads']} CPU threads, {facts['platform']}, Python {facts['python']}",
        f"commit: {code}",
        f"seed: {facts['seed']}",
        f"versions: {', '.join(f'{name} {version}' for name, version in facts['versions'].items())}",
        *(f"{name}: {what}" for name, what in facts["nets"].items()),
    ]
    return "\n".join(f"- {line}" for line in lines)
