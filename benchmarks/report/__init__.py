"""Tables, figures and the report page of a run, from its stored scores and nothing else."""

from __future__ import annotations

from pathlib import Path

from benchmarks.report.figures.figure_set import make_album, write_album
from benchmarks.report.files import write_tables
from benchmarks.report.page import render_page
from benchmarks.statistics.analysis import RunAnalysis, analyse, images_to_keep
from benchmarks.store.atomic import write_atomically
from benchmarks.store.run_data import Gallery, RunData

__all__ = ["Gallery", "RunAnalysis", "RunData", "analyse", "images_to_keep", "write_report"]


def write_report(data: RunData, folder: Path) -> list[Path]:
    """Write tables/, figures/ and report.html of a run into `folder`; the same data give the same bytes.

    Raises:
        StoreError: the folder cannot be written.
    """
    findings = analyse(data)
    tables = write_tables(findings, folder / "tables")
    plates = make_album(findings)
    figures = write_album(plates, folder / "figures")
    return [*tables, *figures, write_atomically(folder / "report.html", render_page(findings, plates))]
