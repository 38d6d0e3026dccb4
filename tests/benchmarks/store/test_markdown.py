"""Tables in Markdown: nothing is padded, numbers are aligned where asked."""

from __future__ import annotations

import pandas as pd

from benchmarks.store.markdown import markdown_table

TABLE = pd.DataFrame([["LAP", "1.040", ""], ["Grad-CAM, plain", "12", "12 ± 3"]], columns=["what", "ms", "ms"])


def test_cells_are_written_as_they_are() -> None:
    assert markdown_table(TABLE).splitlines() == [
        "| what | ms | ms |",
        "|---|---|---|",
        "| LAP | 1.040 |  |",
        "| Grad-CAM, plain | 12 | 12 ± 3 |",
    ]


def test_columns_of_numbers_are_aligned_to_the_right() -> None:
    assert markdown_table(TABLE, {"ms"}).splitlines()[1] == "| --- | ---: | ---: |"
