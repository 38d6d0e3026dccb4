from __future__ import annotations

import json
import math
from pathlib import Path

import numpy as np

from benchmarks.store.json_text import json_text


def refuse(constant: str) -> None:
    raise AssertionError(constant)


def test_numbers_that_are_not_finite_become_null_at_any_depth() -> None:
    content = {"a": [1.5, math.nan, (math.inf, {"b": -math.inf})], "c": Path("x"), "ä": None, "d": np.float64("nan")}
    text = json_text(content)
    assert text.endswith("\n")
    expected = {"a": [1.5, None, [None, {"b": None}]], "c": "x", "ä": None, "d": None}
    assert json.loads(text, parse_constant=refuse) == expected
    assert "ä" in text
