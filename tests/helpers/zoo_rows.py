"""Made-up rows of the zoo suite, and its JSON as pytest-benchmark writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.speed.zoo import (
    MEMORY,
)
from benchmarks.speed.zoo_rows import ZooResults, ZooRow

ZOO_FACTS = {
    "images": 8,
    "largest": 224,
    "classes": 1000,
    "sharpness": 2.0,
    "budget": 8.0,
    "fewest": 7,
    "part": False,
    "flags": ["--zoo"],
}
FACTS: dict[str, Any] = {
    "device": "cpu",
    "threads": 2,
    "platform": "Linux x86_64",
    "python": "3.12.0",
    "git": {"commit": "abc123", "dirty": False},
    "seed": 0,
    "versions": {"torch": "2.9.0"},
    "nets": {},
    "quick": False,
    "zoo": ZOO_FACTS,
    "date": "2026-01-02",
}


def row(net: str, kind: str, ratio: float, variant: str = "float32") -> ZooRow:
    unit = "MiB" if kind in MEMORY else "ms"
    return ZooRow(
        net=net,
        image_size=224,
        images=8,
        variant=variant,
        kind=kind,
        ratio=ratio,
        q1=ratio,
        q3=ratio,
        plain=50.0,
        unit=unit,
        pairs=9,
    )


def results(*rows: ZooRow, **facts: Any) -> ZooResults:
    return ZooResults(rows, FACTS | facts)


def timed_info(net: str, kind: str, ratio: float) -> dict[str, Any]:
    """What `PairTimer` and the suite leave of a timed kind."""
    common = {"net": net, "image_size": 224, "images": 8, "variant": "float32", "kind": kind}
    return {**common, "ratio": ratio, "q1": ratio, "q3": ratio, "pairs": 9, "reference_seconds": 0.05, "asked": None}


def memory_info(net: str, kind: str, plain: int, lap: int) -> dict[str, Any]:
    common = {"net": net, "image_size": 224, "images": 8, "variant": "float32", "kind": kind}
    return {**common, "reference_bytes": plain, "bytes": lap}


def stored(path: Path, *infos: dict[str, Any]) -> Path:
    machine = {name: FACTS[name] for name in ("device", "threads", "platform", "python")}
    own = {name: FACTS[name] for name in ("git", "seed", "versions", "nets", "quick", "zoo")}
    entries = [{"name": "x", "extra_info": info} for info in infos]
    content = {"machine_info": machine, "interp_bench": own, "datetime": "2026-01-02T03:04:05", "benchmarks": entries}
    path.write_text(json.dumps(content))
    return path
