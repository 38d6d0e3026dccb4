"""Write tables as Markdown.

Cells are not padded to the width of their column, so that a changed cell changes one line of a stored file.
"""

from __future__ import annotations

from collections.abc import Collection

import pandas as pd
from tabulate import DataRow, TableFormat

_ROW = DataRow("| ", " | ", " |")


def markdown_table(table: pd.DataFrame, numbers: Collection[str] | None = None) -> str:
    """Format a table of strings as Markdown.

    Args:
        table: cells as text, in the order to print.
        numbers: columns to align to the right; None leaves the alignment to the reader.
    """
    rule = _rule([str(name) for name in table.columns], numbers)
    layout = TableFormat(
        lineabove=None,
        linebelowheader=lambda _widths, _alignments: rule,  # type: ignore[arg-type]
        linebetweenrows=None,
        linebelow=None,
        headerrow=_ROW,
        datarow=_ROW,
        padding=0,
        with_header_hide=None,
    )
    text: str = table.to_markdown(index=False, tablefmt=layout, stralign=None, numalign=None, disable_numparse=True)
    return text


def _rule(names: list[str], numbers: Collection[str] | None) -> str:
    if numbers is None:
        return "|" + "---|" * len(names)
    return f"| {' | '.join('---:' if name in numbers else '---' for name in names)} |"
