"""The page on explainers: its table and its example."""

from __future__ import annotations

import re

from helpers.shared import ROOT

from baselines import explainers
from baselines.support.catalogue import table

PAGE = (ROOT / "docs" / "explainers.md").read_text()


def test_the_table_is_that_of_the_registry() -> None:
    builtin = {name: cls for name, cls in explainers.items() if cls.__module__.startswith("baselines.")}
    assert table(builtin) in PAGE, "docs/explainers.md: put in what baselines.support.catalogue.table(explainers) gives"


def test_the_explainer_on_the_page_works_and_takes_ten_lines_or_less() -> None:
    section = PAGE.split("\n## Your own explainer\n")[1]
    (code,) = re.findall(r"```python\n(.*?)```", section, re.DOTALL)
    lines = [line for line in code.splitlines() if line.strip() and not line.startswith("#")]
    assert len(lines) <= 10
    try:
        exec(compile(code, "docs", "exec"), {})
        assert explainers["channel_mean"].title == "Channel mean"
    finally:
        explainers._entries.pop("channel_mean", None)
