"""Facts of each explainer from its docstrings, and the table of explainers in the docs.

The docstring of a module has labelled paragraphs such as "Budget: 50 steps.", whose label begins a line. Where a module
has several explainers, the docstring of each class adds its own. Explainers of other packages need none.
"""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Mapping

from baselines.base import Explainer

LABELS = ("Idea", "Paper", "Library", "Baseline", "Budget", "Cost", "Not valid", "Known limits")
_LABEL = re.compile(rf"^({'|'.join(LABELS)}): ", re.MULTILINE)
COLUMNS = ("name", "title", "source", "budget", "cost per image", "not valid")


def labelled_facts(cls: type[Explainer]) -> dict[str, str]:
    """Read the labelled paragraphs about an explainer, each in one line.

    Those in the docstring of the class replace those in the docstring of its module.
    """
    facts = _parse(sys.modules[cls.__module__].__doc__) | _parse(cls.__doc__)
    return {label: facts[label] for label in LABELS if label in facts}


def _parse(docstring: str | None) -> dict[str, str]:
    pieces = _LABEL.split(inspect.cleandoc(docstring or ""))[1:]
    paragraphs = zip(pieces[::2], pieces[1::2], strict=True)
    return {label: " ".join(text.partition("\n\n")[0].split()) for label, text in paragraphs}


def table(registry: Mapping[str, type[Explainer]]) -> str:
    """Make the Markdown table of explainers, controls last."""
    lines = [COLUMNS, tuple("---" for _ in COLUMNS)]
    for name, cls in sorted(registry.items(), key=lambda item: (item[1].kind == "control", item[0])):
        facts = labelled_facts(cls)
        columns = (facts.get(label, "").rstrip(".") for label in ("Budget", "Cost", "Not valid"))
        lines.append((f"`{name}`", cls.title, _source(cls), *columns))
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def _source(cls: type[Explainer]) -> str:
    """Return the source of an explainer; for a control, what it is."""
    if cls.kind != "control":
        return cls.source
    summary = " ".join(inspect.cleandoc(cls.__doc__ or "").partition("\n\n")[0].split()).rstrip(".")
    return f"control: {summary}"
