"""Numbers, durations and lists as a reader sees them. A dash stands for what is not known."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

DASH = "–"


def number(value: Any, digits: int = 3) -> str:
    """A number for people: thousands separated, `digits` decimals, fewer for large and more for tiny ones."""
    try:
        x = float(value)
    except (TypeError, ValueError):
        return DASH
    if not math.isfinite(x):
        return DASH
    size = abs(x)
    if size >= 1000 or (size >= 10 and x == round(x)):
        return _signed(f"{x:,.0f}")
    if 0 < size < 10.0**-digits:
        return _signed(f"{x:.2g}")
    return _signed(f"{x:.{max(0, digits - 2) if size >= 10 else digits}f}")


def interval(mean: Any, low: Any, high: Any) -> str:
    """Mean with its interval, as in "0.512 [0.480, 0.540]"; the mean alone where there is no interval."""
    if number(low) == DASH or number(high) == DASH:
        return number(mean)
    return f"{number(mean)} [{number(low)}, {number(high)}]"


def fixed(value: Any, digits: int = 2) -> str:
    """A number with always the same decimals, for columns that are compared."""
    return DASH if number(value) == DASH else _signed(f"{float(value):.{digits}f}")


def rank(value: Any) -> str:
    """A rank: whole if it is, else with two decimals."""
    return fixed(value).removesuffix(".00")


def plain(value: Any) -> str:
    """A count or a bound: whole if it is, else with one decimal."""
    return number(value, 1).removesuffix(".0")


def percent(value: Any) -> str:
    """A share in [0, 1] as a percentage with one decimal."""
    text = number(value)
    return DASH if text == DASH else f"{100 * float(value):.1f} %"


def probability(value: Any) -> str:
    """A p value: "< 0.001" or with three decimals."""
    text = number(value)
    return "< 0.001" if text != DASH and float(value) < 0.001 else text


def duration(seconds: Any) -> str:
    """Seconds as "48 s", "3 min 20 s" or "2 h 5 min"."""
    if number(seconds) == DASH:
        return DASH
    total = float(seconds)
    if total < 10:
        return f"{total:.1f} s"
    minutes, rest = divmod(round(total), 60)
    if minutes >= 60:
        return f"{minutes // 60} h {minutes % 60} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def short_time(seconds: Any) -> str:
    """Seconds of one small step as "1.2 ms" or "0.45 s"."""
    if number(seconds) == DASH:
        return DASH
    value = float(seconds)
    return f"{value:.2g} s" if value >= 0.1 else f"{1000 * value:.2g} ms"


def listed(names: Sequence[str]) -> str:
    """Names as in "a, b and c"."""
    if len(names) < 2:
        return "".join(names)
    return f"{', '.join(names[:-1])} and {names[-1]}"


def plural(count: int, one: str, many: str = "") -> str:
    """A count with its noun."""
    return f"{count} {one if count == 1 else many or one + 's'}"


def ordinal(place: int) -> str:
    """A place as in "first", "second", "11th"."""
    words = ("first", "second", "third", "fourth", "fifth", "sixth", "seventh", "eighth", "ninth", "tenth")
    if 1 <= place <= len(words):
        return words[place - 1]
    ending = "th" if place % 100 in (11, 12, 13) else {1: "st", 2: "nd", 3: "rd"}.get(place % 10, "th")
    return f"{place}{ending}"


def clipped(text: str, width: int) -> str:
    """Text of at most `width` letters, with an ellipsis where some are left out."""
    return text if len(text) <= width else f"{text[: width - 1].rstrip()}…"


def _signed(text: str) -> str:
    return text.replace("-", "−") if text.strip("-0.,") else text.removeprefix("-")
