from __future__ import annotations

import re
from typing import Any

import numpy as np
import pytest

from benchmarks.report import format


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0.5, "0.500"), (-0.25, "−0.250"), (0.0, "0.000"), (12.345, "12.3"), (1000, "1,000"), (1e-5, "0.000010"),
        (0.00042, "0.00042"), (1e-9, "< 0.000001"), (-1e-9, "> −0.000001"), (-0.0, "0.000"), (None, "–"),
        (float("nan"), "–"), (float("inf"), "–"), ("x", "–"),
    ],
)  # fmt: skip
def test_numbers(value: Any, text: str) -> None:
    assert format.number(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"),
    [
        (0, "0 ms"), (1e-6, "< 0.01 ms"), (1.7e-5, "0.02 ms"), (1e-4, "0.1 ms"), (0.0012, "1.2 ms"), (0.002, "2 ms"),
        (0.0123, "12 ms"), (0.0996, "100 ms"), (0.45, "450 ms"), (0.9999, "1 s"), (1.25, "1.2 s"), (2.4, "2.4 s"),
        (9.96, "10 s"), (48, "48 s"), (99.7, "1 min 40 s"), (200, "3 min 20 s"), (7500, "2 h 5 min"), (None, "–"),
    ],
)  # fmt: skip
def test_durations(seconds: Any, text: str) -> None:
    assert format.duration(seconds) == text


def test_nothing_a_person_reads_has_an_exponent() -> None:
    values = [sign * factor * 10.0**power for sign in (1, -1) for power in range(-12, 13) for factor in (1, 3.7, 9.99)]
    formats = (format.number, format.decimals, format.rank, format.count, format.percent, format.duration)
    texts = [write(value) for write in formats for value in values]
    texts += [format.probability(value) for value in values if 0 < value <= 1]
    assert not [text for text in texts if re.search(r"\de", text)]


def test_the_compact_form_of_the_summary_keeps_its_exponents() -> None:
    assert [format.compact(value) for value in (1.7e-5, 0.5, 1000, np.nan)] == ["1.7e−05", "0.500", "1,000", "–"]


def test_other_words() -> None:
    ordinals = ["first", "third", "11th", "12th", "21st", "22nd"]
    assert [format.ordinal(position) for position in (1, 3, 11, 12, 21, 22)] == ordinals
    names = ["", "a", "a and b", "a, b and c"]
    assert [format.join_names(list("abc"[:length])) for length in range(4)] == names
    assert (format.percent(0.953), format.percent(None)) == ("95.3 %", "–")
    assert format.interval(0.5, np.nan, np.nan) == "0.500"
    assert format.duration_interval(0.0018, 0.0017, 0.0019) == "1.8 ms [1.7 ms, 1.9 ms]"
    assert (format.rank(2.0), format.rank(2.5), format.rank(14.25)) == ("2", "2.50", "14.25")
    assert (format.decimals(2), format.decimals(-0.001), format.decimals(None)) == ("2.00", "0.00", "–")
    assert (format.count(3.0), format.count(2.5), format.count(None)) == ("3", "2.5", "–")
    probabilities = ("< 0.001", "0.040", "–")
    assert (format.probability(0.0004), format.probability(0.04), format.probability(np.nan)) == probabilities
    assert format.shorten("abcdef", 4) == "abc…"
