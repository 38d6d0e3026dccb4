"""Made-up rows of the speed suite, and its JSON as pytest-benchmark writes it."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from benchmarks.speed.pairs import Case, summarise

FACTS: dict[str, Any] = {
    "device": "cpu",
    "threads": 2,
    "platform": "Linux x86_64",
    "python": "3.12.0",
    "git": {"commit": "abc123", "dirty": True},
    "seed": 0,
    "versions": {"interp-bench": "0.1.0", "torch": "2.9.0"},
    "nets": {"small": "test_resnet, 10 classes, 64 px"},
    "quick": False,
    "date": "2026-01-02",
}


def case(**changes: Any) -> Case:
    fields: dict[str, Any] = {
        "net": "small",
        "image_size": 64,
        "images": 8,
        "memory_format": "channels_last",
        "what": "forward",
        "reference": "plain forward",
        "asked": 1.05,
        "pairs": 3,
    }
    return Case(**fields | changes)


LAP_ROW = summarise(case(), [1.0, 2.0, 4.0], [1.02, 2.08, 4.8])
MISSED = summarise(case(what="explain", asked=1.1), [0.01] * 3, [0.012] * 3)
FREE = summarise(case(memory_format="contiguous", asked=None), [1.0] * 3, [2.0] * 3)
DEAR = summarise(case(what="LIME", reference="LAP explain", asked=None, pairs=1), [0.02], [25.0])


def write_results(path: Path, rows: list[Any], **changes: Any) -> Path:
    """Write a file as pytest-benchmark does."""
    machine = {name: FACTS[name] for name in ("device", "threads", "platform", "python")}
    facts = {name: FACTS[name] for name in ("git", "seed", "versions", "nets", "quick")}
    content = {
        "machine_info": machine,
        "interp_bench": facts | changes,
        "datetime": "2026-01-02T03:04:05+00:00",
        "benchmarks": [{"name": "x", "extra_info": {**vars(row), "reference_data": [1.0]}} for row in rows],
    }
    path.write_text(json.dumps(content))
    return path
