"""A small diagnosis made by hand, with every kind of finding and check."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from benchmarks.diagnosis.finding import (
    CheckReport,
    Condition,
    Diagnosis,
    Effect,
    Estimate,
    Finding,
    Rung,
    Severity,
    Status,
    Verdict,
)

RUNGS = ("seen in the data", "seen in the maps", "confirmed by intervention", "costs accuracy")

EMPTY = {"value": None, "null": None, "p": None}


def estimate(value: float, width: float = 0.05, n: int = 40) -> Estimate:
    return Estimate(value=value, low=value - width, high=value + width, n=n)


def effect(change: float = -0.41, **fields: Any) -> Effect:
    values = {
        "action": "remove",
        "control": "the same mask in mean colour, elsewhere",
        "cls": "benign",
        "change": estimate(change),
        "control_change": estimate(-0.02),
        "difference": estimate(change + 0.02),
        "flips": estimate(0.6),
        "control_flips": estimate(0.05),
        "p": 1e-5,
        "p_holm": 4e-5,
    }
    return Effect.model_validate(values | fields)


def finding(number: int = 1, **fields: Any) -> Finding:
    values: dict[str, Any] = {
        "number": number,
        "key": f"patches-{number}",
        "check": "patches",
        "title": "A coloured patch decides for benign",
        "classes": ("benign",),
        "images": tuple(f"isic/{i}" for i in range(6)),
        "value": 0.71,
        "null": 0.1,
        "p": 0.005,
        "ladder": tuple(
            Rung(name=name, reached=reached, grounds=f"grounds of {name}")
            for name, reached in zip(RUNGS, (True, True, True, None), strict=True)
        ),
    }
    return Finding.model_validate(values | fields)


def check(name: str, status: Status, **fields: Any) -> CheckReport:
    values: dict[str, Any] = {
        "name": name,
        "title": name.capitalize(),
        "status": status,
        "sentence": f"{name} <ended> as {status}",
        "value": 0.7,
        "null": 0.5,
        "p": 0.005,
        "seconds": 1.25,
        "conditions": (Condition(name="below 0.6", status=status, detail="0.7 against 0.6"),),
    }
    return CheckReport.model_validate(values | fields)


def diagnosis(folder: Path | None = None, **fields: Any) -> Diagnosis:
    """Return a diagnosis with three findings and five checks; their pictures are written into `folder`."""
    examples, pair, chart = (
        () if folder is None else pictures(folder, name, count)
        for name, count in (("patches-1-example", 4), ("patches-1-interventions", 2), ("check-patches", 1))
    )
    values: dict[str, Any] = {
        "network": {"name": "resnet18", "file": "weights.safetensors", "digest": "0123456789abcdef"},
        "data": {"name": "isic2150", "split": "val", "images": 500},
        "classes": ("benign", "malignant"),
        "explainer": "lap",
        "accuracy": 0.83,
        "unreadable": {"isic/broken": "the file is empty"},
        "findings": (
            finding(
                1,
                verdict=Verdict.cause,
                severity=Severity.high,
                region="patches-1",
                effects=(effect(), effect(0.38, action="add")),
                terms=({"name": "forbid", "region": "patches-1"}, {"name": "exchange", "region": "patches-1"}),
                pictures=(*examples, *pair),
            ),
            finding(
                2,
                title="Brightness goes with the label",
                property="brightness",
                verdict=Verdict.cause,
                severity=Severity.medium,
                effects=(effect(-0.1, action="shift"),),
                terms=({"name": "balance", "property": "brightness"},),
            ),
            finding(
                3,
                title="The <top> border",
                verdict=Verdict.bystander,
                effects=(effect(-0.01, p=None, p_holm=None),),
            ),
        ),
        "checks": (
            check("patches", Status.failed, picture=chart[0] if chart else None),
            check("properties", Status.warned),
            check("places", Status.passed),
            check("metadata", Status.not_run, sentence="there is no metadata: give --metadata", conditions=(), **EMPTY),
            check("duplicates", Status.passed, **EMPTY),
        ),
        "provenance": {"seed": 0, "seconds": 12.5, "versions": {"interp-bench": "0.1.0"}},
    }
    return Diagnosis.model_validate(values | fields)


def pictures(folder: Path, name: str, count: int, side: int = 96) -> tuple[str, ...]:
    """Write noisy pictures into `folder/pictures` and return their names in the folder; pairs are wide."""
    (folder / "pictures").mkdir(parents=True, exist_ok=True)
    names = [f"pictures/{name}-{i}.png" for i in range(count)]
    width = 3 * side if "interventions" in name else side
    for i, path in enumerate(names):
        pixels = np.random.default_rng(i).integers(0, 255, (side // 8, width // 8, 3), dtype=np.uint8)
        Image.fromarray(pixels.repeat(8, 0).repeat(8, 1)).save(folder / path)
    return tuple(names)
