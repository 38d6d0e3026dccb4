"""Write plain data as strict JSON."""

from __future__ import annotations

import json
import math
from typing import Any


def json_text(content: Any, indent: int = 1) -> str:
    """Return plain data as JSON text with a line break at its end.

    JSON has no numbers that are not finite: they become null. Values of other types are written as their text.

    Args:
        content: dictionaries, sequences, strings, numbers.
        indent: blanks for each level.
    """
    plain = without_infinite(content)
    return json.dumps(plain, indent=indent, default=str, ensure_ascii=False, allow_nan=False) + "\n"


def without_infinite(value: Any) -> Any:
    """Replace numbers that are not finite by None, at any depth."""
    if isinstance(value, dict):
        return {key: without_infinite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [without_infinite(entry) for entry in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value
