"""Code blocks of the pages in `docs/`."""

from __future__ import annotations

import re

from helpers.shared import ROOT


def code_block(page: str, text: str) -> str:
    """Return the one Python block of a page that contains `text`.

    Args:
        page: file name in `docs/`.
        text: text that only this block contains.
    """
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "docs" / page).read_text(), re.DOTALL)
    (block,) = [block for block in blocks if text in block]
    return str(block)


def wide_lines(page: str) -> list[str]:
    """Return the lines of a page that are longer than 120 letters."""
    return [line for line in (ROOT / "docs" / page).read_text().splitlines() if len(line) > 120]
