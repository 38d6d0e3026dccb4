"""Rows of the zoo suite: what one network costs, and the summary over all of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, fields
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.speed.table import COMMAND, SpeedError
from interp_core.errors import one_line

MIB = 2**20


@dataclass(frozen=True)
class RatioLimits:
    """Highest ratios allowed.

    Attributes:
        median: of all networks.
        worst: of any network, or None without a limit.
    """

    median: float
    worst: float | None = None


LIMITS: dict[str, RatioLimits] = {
    "forward": RatioLimits(1.03, 1.08),
    "explain": RatioLimits(1.05),
    "training step": RatioLimits(1.08),
    "forward memory": RatioLimits(1.05),
    "training memory": RatioLimits(1.05),
}


@dataclass(frozen=True, kw_only=True)
class ZooRow:
    """One cost of one network.

    Attributes:
        net: network.
        image_size: side of the images in pixels.
        images: images in the batch.
        variant: precision, and whether compiled.
        kind: cost that is measured, a key of `LIMITS`.
        ratio: with LAP / plain. For times the median over the pairs.
        q1: lower quartile of the ratios.
        q3: upper quartile of the ratios.
        plain: time or memory of the plain network.
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
class ZooSummaryRow:
    """One kind of cost over all networks of a variant.

    Attributes:
        variant: precision, and whether compiled.
        kind: cost that is measured.
        nets: number of networks.
        median: of their ratios.
        worst: highest of their ratios.
        net: the network that has it.
        limits: highest ratios allowed.
    """

    variant: str
    kind: str
    nets: int
    median: float
    worst: float
    net: str
    limits: RatioLimits

    @property
    def is_within_limits(self) -> bool:
        """Whether median and worst ratio are within their limits."""
        return self.median <= self.limits.median and (self.limits.worst is None or self.worst <= self.limits.worst)


@dataclass(frozen=True)
class ZooResults:
    """Measurements of one run of the zoo suite.

    Attributes:
        rows: in the order of the list of networks.
        facts: device, threads, versions and all else the measurements depend on.
    """

    rows: tuple[ZooRow, ...]
    facts: dict[str, Any]

    def variants(self) -> tuple[str, ...]:
        """Return the variants, in the order measured."""
        return tuple(dict.fromkeys(row.variant for row in self.rows))

    def select(self, variant: str, kind: str) -> list[ZooRow]:
        """Return the rows of one variant and kind."""
        return [row for row in self.rows if (row.variant, row.kind) == (variant, kind)]


def read_zoo(path: Path) -> ZooResults:
    """Read the JSON of the zoo suite.

    Raises:
        SpeedError: the file cannot be read, or another program wrote it.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
        rows = tuple(_row_of(entry["extra_info"]) for entry in content["benchmarks"])
        facts = {**content["machine_info"], **content["interp_bench"], "date": content["datetime"][:10]}
        if not rows or "zoo" not in facts:
            raise KeyError("zoo")
    except (OSError, ValueError) as error:
        raise SpeedError(f"cannot read {path}: {one_line(error)}") from error
    except (KeyError, TypeError) as error:
        raise SpeedError(f"{path} holds no ratios of the zoo: make it with {COMMAND} --zoo") from error
    return ZooResults(rows, facts)


def _row_of(info: Mapping[str, Any]) -> ZooRow:
    labels = {name: info[name] for name in ("net", "image_size", "images", "variant", "kind")}
    if "bytes" in info:
        ratio, plain = info["bytes"] / info["reference_bytes"], info["reference_bytes"] / MIB
        return ZooRow(**labels, ratio=ratio, q1=ratio, q3=ratio, plain=plain, unit="MiB", pairs=1)
    times = {name: info[name] for name in ("ratio", "q1", "q3", "pairs")}
    return ZooRow(**labels, **times, plain=info["reference_seconds"] * 1e3, unit="ms")


def summarise_zoo(results: ZooResults) -> list[ZooSummaryRow]:
    """Compute median and worst ratio over the networks, variant by variant and kind by kind."""
    summary = []
    for variant in results.variants():
        for kind, limits in LIMITS.items():
            rows = results.select(variant, kind)
            if rows:
                worst = max(rows, key=lambda row: row.ratio)
                middle = median(row.ratio for row in rows)
                summary.append(ZooSummaryRow(variant, kind, len(rows), middle, worst.ratio, worst.net, limits))
    return summary
