"""Make the tables, figures and page of a run from its stored scores."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report.figures.figure_set import make_figure_set, write_figure_set
from benchmarks.report.files import write_tables
from benchmarks.report.page import render_page
from benchmarks.statistics.analysis import RunAnalysis, analyse, images_to_keep
from benchmarks.store.atomic import write_atomically
from benchmarks.store.run_data import Gallery, RunData

__all__ = ["Gallery", "RunAnalysis", "RunData", "analyse", "images_to_keep", "write_report"]


def write_report(data: RunData, folder: Path) -> list[Path]:
    """Write tables/, figures/ and report.html of a run into `folder`.

    The same data give the same bytes.

    Returns:
        The paths of the files written.

    Raises:
        StoreError: the folder cannot be written.
    """
    analysis = analyse(data)
    tables = write_tables(analysis, folder / "tables")
    figures = make_figure_set(analysis)
    paths = write_figure_set(figures, folder / "figures")
    return [*tables, *paths, write_atomically(folder / "report.html", render_page(analysis, figures))]
