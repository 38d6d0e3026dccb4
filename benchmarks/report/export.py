"""Tables of a run for other programs: one CSV per table, or one LaTeX tabular per table for the booktabs package.

CSV has names as in the configuration, full precision and, besides the tables, every score of every image. LaTeX has
three decimals and is made by pandas' Styler.
"""

from __future__ import annotations

from dataclasses import fields
from pathlib import Path
from typing import Literal

import pandas as pd

from benchmarks.report import analyse
from benchmarks.store.atomic import write_atomically
from benchmarks.store.run_data import RunData

Format = Literal["csv", "latex"]
ENDINGS: dict[Format, str] = {"csv": "csv", "latex": "tex"}
DECIMALS = 3


def export(data: RunData, folder: Path, form: Format = "csv") -> list[Path]:
    """Write the tables of a run into `folder`; their paths. Tables without rows are left out.

    Raises:
        StoreError: the folder cannot be written.
    """
    found = tables(data)
    if form == "csv":
        found["scores"] = data.all_scores
    write = {"csv": lambda table: table.to_csv(index=False), "latex": latex}[form]
    filled = {f"{name}.{ENDINGS[form]}": table for name, table in found.items() if len(table)}
    return [write_atomically(folder / name, write(table)) for name, table in filled.items()]


def tables(data: RunData) -> dict[str, pd.DataFrame]:
    """Every table that the report knows, by name."""
    findings = analyse(data)
    named = {entry.name: getattr(findings, entry.name) for entry in fields(findings)}
    return {name: table for name, table in named.items() if isinstance(table, pd.DataFrame)}


def latex(table: pd.DataFrame) -> str:
    """A tabular with booktabs' rules: text escaped, numbers with three decimals and aligned right."""
    plain = table.reset_index(drop=True)
    numbers = [str(name) for name in plain.columns if pd.api.types.is_numeric_dtype(plain[name])]
    columns = "".join("r" if name in numbers else "l" for name in plain.columns)
    style = plain.style.format(precision=DECIMALS, escape="latex", na_rep="--").format_index(escape="latex", axis=1)
    return str(style.hide(axis="index").to_latex(hrules=True, column_format=columns))
