"""From the JSON of the zoo suite to zoo.csv and zoo.md; reads that file and nothing else.

The head holds, for each kind of cost, the median and the worst of the networks' ratios beside what was asked.
"""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.speed.table import COMMAND, SpeedError, markdown_table, plain, provenance
from benchmarks.store.atomic import write_atomically
from interp_core.errors import one_line

MIB = 2**20
FIGURE = "zoo.png"


@dataclass(frozen=True)
class Asked:
    """Highest ratios asked for: the median of the networks, and of any one of them; None where none is."""

    median: float
    worst: float | None = None


ASKED: dict[str, Asked] = {
    "forward": Asked(1.03, 1.08),
    "explain": Asked(1.05),
    "training step": Asked(1.08),
    "forward memory": Asked(1.05),
    "training memory": Asked(1.05),
}
SET_AGAINST = {
    "forward": "time of a forward pass, against the plain network's",
    "explain": "time of an explanation, against a plain forward pass",
    "training step": "time of a training step, against the plain network's",
    "forward memory": "peak memory of a forward pass, weights and images included",
    "training memory": "peak memory of a training step, weights, gradients, AdamW's state and images included",
}


@dataclass(frozen=True, kw_only=True)
class ZooRow:
    """One cost of one network.

    Attributes:
        net: network.
        image_size: side of the images in pixels.
        images: images in the batch.
        variant: precision, and whether compiled.
        kind: what is measured.
        ratio: with LAP / plain; for times the median over the pairs.
        q1: lower quartile of the ratios.
        q3: upper quartile of the ratios.
        plain: the plain network's figure.
        unit: of `plain`, "ms" or "MiB".
        pairs: number of pairs.
    """

    net: str
    image_size: int
    images: int
    variant: str
    kind: str
    ratio: float
    q1: float
    q3: float
    plain: float
    unit: str
    pairs: int


FIELDS = tuple(field.name for field in fields(ZooRow))


@dataclass(frozen=True)
class Line:
    """One line of the head: a kind over all networks of a variant.

    Attributes:
        variant: precision, and whether compiled.
        kind: what is measured.
        nets: number of networks.
        median: of their ratios.
        worst: highest of their ratios.
        net: the network that has it.
        asked: what was asked.
    """

    variant: str
    kind: str
    nets: int
    median: float
    worst: float
    net: str
    asked: Asked

    @property
    def kept(self) -> bool:
        """Whether all that was asked is kept."""
        return self.median <= self.asked.median and (self.asked.worst is None or self.worst <= self.asked.worst)


@dataclass(frozen=True)
class ZooMeasured:
    """What a run of the zoo suite found: rows in the order of the list, and all the figures depend on."""

    rows: tuple[ZooRow, ...]
    facts: dict[str, Any]

    def variants(self) -> tuple[str, ...]:
        """Variants, in the order measured."""
        return tuple(dict.fromkeys(row.variant for row in self.rows))

    def of(self, variant: str, kind: str) -> list[ZooRow]:
        """Rows of one variant and kind."""
        return [row for row in self.rows if (row.variant, row.kind) == (variant, kind)]


def read_zoo(path: Path) -> ZooMeasured:
    """Read what the zoo suite wrote.

    Raises:
        SpeedError: the file cannot be read, or comes from something else.
    """
    try:
        content = json.loads(path.read_text())
        rows = tuple(_row(entry["extra_info"]) for entry in content["benchmarks"])
        facts = {**content["machine_info"], **content["interp_bench"], "date": content["datetime"][:10]}
        if not rows or "zoo" not in facts:
            raise KeyError("zoo")
    except (OSError, ValueError) as error:
        raise SpeedError(f"cannot read {path}: {one_line(error)}") from error
    except (KeyError, TypeError) as error:
        raise SpeedError(f"{path} holds no ratios of the zoo: make it with {COMMAND} --zoo") from error
    return ZooMeasured(rows, facts)


def _row(info: Mapping[str, Any]) -> ZooRow:
    common = {name: info[name] for name in ("net", "image_size", "images", "variant", "kind")}
    if "bytes" in info:
        ratio = info["bytes"] / info["reference_bytes"]
        return ZooRow(
            **common, ratio=ratio, q1=ratio, q3=ratio, plain=info["reference_bytes"] / MIB, unit="MiB", pairs=1
        )
    times = {name: info[name] for name in ("ratio", "q1", "q3", "pairs")}
    return ZooRow(**common, **times, plain=info["reference_seconds"] * 1e3, unit="ms")


def summary(measured: ZooMeasured) -> list[Line]:
    """Median and worst over the networks, variant by variant and kind by kind."""
    lines = []
    for variant in measured.variants():
        for kind, asked in ASKED.items():
            rows = measured.of(variant, kind)
            if rows:
                worst = max(rows, key=lambda row: row.ratio)
                middle = median(row.ratio for row in rows)
                lines.append(Line(variant, kind, len(rows), middle, worst.ratio, worst.net, asked))
    return lines


def to_csv(rows: Iterable[ZooRow]) -> str:
    """One line a network and kind; figures to four significant digits."""
    text = io.StringIO()
    writer = csv.DictWriter(text, FIELDS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({name: plain(value) for name, value in asdict(row).items()} for row in rows)
    return text.getvalue()


def to_markdown(measured: ZooMeasured) -> str:
    """The head, the networks' figures kind by kind, and what they depend on."""
    parts = ["# What LAP costs in the networks people use", _how(measured.facts)]
    parts.append(markdown_table(_HEAD, (_line(line, verdict=_quotable(measured)) for line in summary(measured))))
    parts.append(f"![ratio of every network]({FIGURE})")
    for variant in measured.variants():
        for kind, against in SET_AGAINST.items():
            rows = sorted(measured.of(variant, kind), key=lambda row: -row.ratio)
            if rows:
                parts += [f"## {kind.capitalize()}, {variant}", f"{against[0].upper()}{against[1:]}."]
                parts.append(markdown_table(_head(rows[0]), map(_cells, rows)))
    parts += ["## What the figures depend on", provenance(measured.facts, " ".join(measured.facts["zoo"]["flags"]))]
    return "\n\n".join(parts) + "\n"


def write_zoo(measured: ZooMeasured, folder: Path) -> list[Path]:
    """Write zoo.csv, zoo.md and zoo.png.

    Raises:
        StoreError: the folder or a file cannot be written.
    """
    from benchmarks.speed.zoo_figure import zoo_png

    return [
        write_atomically(folder / "zoo.csv", to_csv(measured.rows)),
        write_atomically(folder / "zoo.md", to_markdown(measured)),
        write_atomically(folder / FIGURE, zoo_png(measured)),
    ]


def _quotable(measured: ZooMeasured) -> bool:
    return not measured.facts["quick"] and not measured.facts["zoo"]["part"]


def _how(facts: Mapping[str, Any]) -> str:
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


_HEAD = ("variant", "what", "networks", "median", "asked of it", "worst", "asked of it", "network", "verdict")


def _line(line: Line, *, verdict: bool) -> list[str]:
    limit = line.asked.worst
    return [
        line.variant,
        line.kind,
        str(line.nets),
        f"{line.median:.3f}",
        f"<= {line.asked.median:.2f}",
        f"{line.worst:.3f}",
        "" if limit is None else f"<= {limit:.2f}",
        line.net,
        ("kept" if line.kept else "missed") if verdict else "",
    ]


def _head(row: ZooRow) -> tuple[str, ...]:
    times = ("network", "px", "ratio", "quartiles", f"plain, {row.unit}", "pairs")
    return times if row.unit == "ms" else ("network", "px", "ratio", f"plain, {row.unit}")


def _cells(row: ZooRow) -> list[str]:
    start = [row.net, str(row.image_size), f"{row.ratio:.3f}"]
    if row.unit != "ms":
        return [*start, f"{row.plain:.1f}"]
    return [*start, f"{row.q1:.3f} to {row.q3:.3f}", f"{row.plain:.1f}", str(row.pairs)]
