"""What the explainers say of themselves: the labelled parts of each file's head, and the table that the docs show.

A head has paragraphs such as "Budget: 50 steps." whose label begins a line. Explainers of other packages need none.
"""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping

from baselines.base import Explainer

LABELS = ("Idea", "Paper", "Library", "Baseline", "Budget", "Cost", "Not valid", "Known limits")
_LABEL = re.compile(rf"^({'|'.join(LABELS)}): ", re.MULTILINE)
COLUMNS = ("name", "title", "source", "budget", "cost per image", "not valid")


def head(cls: type[Explainer]) -> dict[str, str]:
    """The labelled parts of the head of the file that `cls` is in, each in one line."""
    parts = _LABEL.split(sys.modules[cls.__module__].__doc__ or "")[1:]
    return {label: " ".join(text.split()) for label, text in zip(parts[::2], parts[1::2], strict=True)}


def table(registry: Mapping[str, type[Explainer]]) -> str:
    """Markdown table of explainers, controls last."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS)]
    for name, cls in sorted(registry.items(), key=lambda item: (item[1].kind == "control", item[0])):
        said = head(cls)
        found = (said.get(label, "").rstrip(".") for label in ("Budget", "Cost", "Not valid"))
        lines.append((f"`{name}`", cls.title, cls.source, *found))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)
