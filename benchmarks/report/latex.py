"""Write tables as LaTeX tabulars for the booktabs package."""

from __future__ import annotations

from collections.abc import Collection
from typing import Any

import pandas as pd

DECIMALS = 3
ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "--", "<": r"\textless{}", ">": r"\textgreater{}",
    "→": r"$\rightarrow$", "–": "--",
}  # fmt: skip


def latex_table(
    table: pd.DataFrame, numbers: Collection[str] | None = None, bold: tuple[Collection[int], str] | None = None
) -> str:
    """Format a table as a tabular.

    Text is escaped. Numbers have three decimals, missing ones are a dash.

    Args:
        table: numbers or text.
        numbers: columns to align to the right; None for the columns of numbers.
        bold: rows (counted from 0) and the column whose cells are printed in bold.
    """
    table = table.reset_index(drop=True)
    is_numeric = {str(name): pd.api.types.is_numeric_dtype(table[name]) for name in table.columns}
    right = {name for name, flag in is_numeric.items() if flag} if numbers is None else set(numbers)
    formatters: Any = {name: escape for name, flag in is_numeric.items() if not flag}
    style = table.style.hide(axis="index").format_index(escape, axis=1)  # type: ignore[arg-type]
    style = style.format(formatters, precision=DECIMALS, na_rep="--")
    if bold is not None:
        rows, column = bold
        style = style.set_properties(subset=pd.IndexSlice[list(rows), [column]], textbf="--rwrap")  # type: ignore[index]
    alignment = "".join("r" if name in right else "l" for name in is_numeric)
    return str(style.to_latex(hrules=True, column_format=alignment))


def escape(text: Any) -> str:
    """Escape a text so that LaTeX prints it as it is."""
    return "".join(ESCAPES.get(letter, letter) for letter in str(text))
