"""Export the tables of a run for other programs: one CSV or one LaTeX tabular per table.

CSV has names as in the configuration, full precision and, besides the tables, every score of every image. LaTeX has
three decimals and needs the booktabs package.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

from benchmarks.report.files import tables_by_name
from benchmarks.report.latex import latex_table
from benchmarks.statistics.analysis import analyse
from benchmarks.store.atomic import write_atomically
from benchmarks.store.run_data import RunData

Format = Literal["csv", "latex"]
ENDINGS: dict[Format, str] = {"csv": "csv", "latex": "tex"}


def export(data: RunData, folder: Path, form: Format = "csv") -> list[Path]:
    """Write the tables of a run into `folder`, without those that have no rows.

    Returns:
        The paths of the files written.

    Raises:
        StoreError: the folder cannot be written.
    """
    tables = tables_by_name(analyse(data))
    if form == "csv":
        tables["scores"] = data.all_scores
    write = {"csv": lambda table: table.to_csv(index=False), "latex": latex_table}[form]
    filled = {f"{name}.{ENDINGS[form]}": table for name, table in tables.items() if len(table)}
    return [write_atomically(folder / name, write(table)) for name, table in filled.items()]
