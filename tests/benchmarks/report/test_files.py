from __future__ import annotations

from pathlib import Path

import pandas as pd
import pytest
from helpers import runs as synthetic
from helpers.reports import NOTHING

from benchmarks.report import RunData, analyse, files, write_report
from benchmarks.report.latex import escape
from benchmarks.statistics import COLUMNS, Resampling
from benchmarks.statistics.analysis import RunAnalysis
from benchmarks.store.record import RunRecord
from interp_core.errors import StoreError

pytestmark = pytest.mark.slow


def test_degenerate_maps_are_counted_per_model_and_explainer(analysis: RunAnalysis) -> None:
    table = analysis.degenerate
    affected = table[table["explainer"] == "grad_cam"]
    assert affected[["degenerate", "total"]].to_numpy().tolist() == [[2, 48], [2, 48]]
    assert table.drop(index=affected.index)["degenerate"].sum() == 0


def test_csv_parses_back_with_exact_columns_and_full_precision(analysis: RunAnalysis, tmp_path: Path) -> None:
    paths = files.write_tables(analysis, tmp_path)
    assert sorted(path.name for path in paths) == [
        "agreement.csv", "degenerate.csv", "gate.csv", "paired.csv", "rank_tests.csv", "ranks.csv", "relative.csv",
        "reliability.csv", "summary.csv", "summary.md", "summary.tex",
    ]  # fmt: skip
    table = pd.read_csv(tmp_path / "summary.csv", float_precision="round_trip")
    assert tuple(table.columns) == COLUMNS
    pd.testing.assert_frame_equal(table, analysis.summary, check_dtype=False, check_exact=True)
    ranks = pd.read_csv(tmp_path / "ranks.csv")
    assert {"model", "explainer", "mean_rank", "metrics", "localisation", "faithfulness"} <= set(ranks.columns)
    assert {"mean_rank_all", "rank_low", "rank_high"} <= set(ranks.columns)
    tests = pd.read_csv(tmp_path / "rank_tests.csv").set_index("model")
    assert tests.loc["lap", ["blocks", "contestants"]].tolist() == [7, 9]


def test_markdown_has_one_row_each_and_bold_only_for_the_best_contestant(analysis: RunAnalysis) -> None:
    lines = files.summary_markdown(analysis).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]
    assert lines[0] == f"| {' | '.join(COLUMNS[:9])} |"
    assert len(rows) == len(analysis.summary)
    assert {len(row) for row in rows} == {9}
    auc = [row for row in rows if row[0] == "lap" and row[2] == "AUC"]
    bold = [row for row in auc if row[4].startswith("**")]
    own = {row[1]: float(row[4].strip("*")) for row in auc if row[1] in ("LAP (own)", "Grad-CAM", "LIME", "SHAP")}
    assert [row[1] for row in bold] == [max(own, key=lambda name: own[name])]


def test_bold_follows_the_direction(analysis: RunAnalysis) -> None:
    table = analysis.summary.loc[sorted(files.best_rows(analysis))]
    row = table[(table["model"] == "lap") & (table["metric"] == "pf_morf")].iloc[0]
    controls = ["random", "smoothed_random", "centre_gaussian", "edges", "mask"]
    rows = analysis.summary[~analysis.summary["explainer"].isin(controls)].query(
        "model == 'lap' and metric == 'pf_morf'"
    )
    assert row["mean"] == rows["mean"].min()
    assert "sparseness" not in set(table["metric"])


def test_latex_uses_booktabs_and_escapes(analysis: RunAnalysis) -> None:
    text = files.summary_latex(analysis)
    assert text.count(r"\\") == len(analysis.summary) + 1
    assert all(rule in text for rule in (r"\toprule", r"\midrule", r"\bottomrule", r"ci\_low"))
    assert escape("a_b & 5% {x} $y$ #1 ~^\\") == (
        r"a\_b \& 5\% \{x\} \$y\$ \#1 \textasciitilde{}\textasciicircum{}\textbackslash{}"
    )


def test_a_bar_in_a_title_does_not_break_the_markdown_table() -> None:
    data = synthetic.run(images=3)
    data.record.explainers[3].title = "LI|ME\nagain"
    text = files.summary_markdown(analyse(data, Resampling(resamples=20)))
    assert r"LI\|ME again" in text
    assert len(text.splitlines()) == len(analyse(data, Resampling(resamples=20)).summary) + 2


def test_an_unwritable_folder_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write .*summary\.csv") as caught:
        write_report(NOTHING, tmp_path / "file")
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_tables_of_an_earlier_report_do_not_linger(full_analysis: RunAnalysis, tmp_path: Path) -> None:
    files.write_tables(full_analysis, tmp_path)
    assert (tmp_path / "ablations.csv").exists()
    again = files.write_tables(analyse(RunData(RunRecord(), pd.DataFrame())), tmp_path)
    assert not (tmp_path / "ablations.csv").exists()
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in again}
