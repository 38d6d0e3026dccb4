"""Numbers, durations and lists as a reader sees them, on the page and in figures.

A dash stands for an unknown value. Exponents such as "1e-05" never reach a reader, except in `compact`, which keeps the
form of summary.md and summary.tex.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from benchmarks.store.run_data import MetricInfo

DASH = "–"
SMALLEST = 6  # decimals at most; smaller numbers are shown as a bound
ORDINALS = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")


def number(value: Any, digits: int = 3) -> str:
    """Format a number with separated thousands and `digits` decimals.

    Large numbers get fewer decimals, small ones more. Below a millionth the text is a bound: "< 0.000001".
    """
    x = _finite(value)
    if x is None:
        return DASH
    size = abs(x)
    if size >= 1000 or (size >= 10 and x == round(x)):
        return _with_minus(f"{x:,.0f}")
    if size >= 10:
        return _with_minus(f"{x:.{max(0, digits - 2)}f}")
    if size == 0 or size >= 10.0**-digits:
        return _with_minus(f"{x:.{digits}f}")
    if size < 10.0**-SMALLEST:
        return f"{'<' if x > 0 else '> −'} {10.0**-SMALLEST:.{SMALLEST}f}".replace("− ", "−")
    return _with_minus(f"{x:.{min(SMALLEST, 1 - math.floor(math.log10(size)))}f}")


def compact(value: Any) -> str:
    """Format a number for summary.md and summary.tex: three decimals, an exponent below 0.001."""
    x = _finite(value)
    if x is not None and 0 < abs(x) < 0.001:
        return _with_minus(f"{x:.2g}")
    return number(value)


def interval(mean: Any, low: Any, high: Any) -> str:
    """Format a mean with its interval: "0.512 [0.480, 0.540]".

    The mean stands alone where there is no interval.
    """
    return _with_interval([number(value) for value in (mean, low, high)])


def duration_interval(mean: Any, low: Any, high: Any) -> str:
    """Format a mean duration with its interval, "1.8 ms [1.7 ms, 1.9 ms]"."""
    return _with_interval([duration(value) for value in (mean, low, high)])


def decimals(value: Any, digits: int = 2) -> str:
    """Format a number with a fixed number of decimals, for columns that are compared."""
    x = _finite(value)
    return DASH if x is None else _with_minus(f"{x:.{digits}f}")


def rank(value: Any) -> str:
    """Format a rank: whole if it is, else with two decimals."""
    return decimals(value).removesuffix(".00")


def count(value: Any) -> str:
    """Format a count or a bound: whole if it is, else with one decimal."""
    return number(value, 1).removesuffix(".0")


def percent(value: Any) -> str:
    """Format a share in [0, 1] as a percentage with one decimal."""
    x = _finite(value)
    return DASH if x is None else f"{100 * x:.1f} %"


def probability(value: Any) -> str:
    """Format a p value: three decimals, or "< 0.001"."""
    x = _finite(value)
    return "< 0.001" if x is not None and x < 0.001 else number(value)


def duration(seconds: Any) -> str:
    """Format a duration with its unit.

    Examples: "1.8 ms", "100 ms", "2.4 s", "48 s", "3 min 20 s", "2 h 5 min".
    """
    x = _finite(seconds)
    if x is None:
        return DASH
    if x < 0.9995:
        return _milliseconds(1000 * x)
    if x < 9.95:
        return f"{x:.1f}".removesuffix(".0") + " s"
    minutes, seconds = divmod(round(x), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {seconds} s" if minutes else f"{seconds} s"


def join_names(names: Sequence[str]) -> str:
    """Join names as in "a, b and c"."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def plural(amount: int, noun: str, nouns: str = "") -> str:
    """Format a count with its noun."""
    return f"{amount} {noun if amount == 1 else nouns or noun + 's'}"


def ordinal(position: int) -> str:
    """Format a position as "first", "second" or "11th"."""
    if 1 <= position <= len(ORDINALS):
        return ORDINALS[position - 1]
    ending = "th" if position % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(position % 10, "th")
    return f"{position}{ending}"


def shorten(text: str, width: int) -> str:
    """Cut a text to `width` letters, the last one an ellipsis if any is cut."""
    return text if len(text) <= width else f"{text[: width - 1].rstrip()}…"


def metric_title(metric: MetricInfo) -> str:
    """Return the title of a metric for people.

    Durations have their unit beside the number, not in the title.
    """
    return "Time per image" if metric.name == "seconds" else metric.title


def _finite(value: Any) -> float | None:
    try:
        x = float(value)
    except (TypeError, ValueError):
        return None
    return x if math.isfinite(x) else None


def _with_interval(texts: Sequence[str]) -> str:
    mean, low, high = texts
    return mean if DASH in (low, high) else f"{mean} [{low}, {high}]"


def _milliseconds(value: float) -> str:
    if value <= 0:
        return "0 ms"
    if value < 0.01:
        return "< 0.01 ms"
    digits = 2 if value < 0.995 else 1 if value < 9.95 else 0
    text = f"{value:.{digits}f}"
    return (text.rstrip("0").rstrip(".") if digits else text) + " ms"


def _with_minus(text: str) -> str:
    """Write a true minus sign, and none before zero."""
    return text.replace("-", "−") if text.strip("-0.,") else text.removeprefix("-")
