"""Write the tables of a run: the summary as CSV, Markdown and LaTeX, and each other statistic as CSV.

CSV is for machines: names as in the configuration, full precision, empty where there is no value. Markdown and LaTeX
are for people: titles, three decimals, the best explainer of each model and metric in bold. A control may still be
better than the bold value, and its rank shows that.
"""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from benchmarks.report import format
from benchmarks.report.latex import latex_table
from benchmarks.statistics import COLUMNS
from benchmarks.statistics.analysis import RunAnalysis
from benchmarks.store.atomic import write_atomically
from benchmarks.store.markdown import markdown_table

SHOWN = COLUMNS[:9]  # for people; the unit of the intervals is the same in a whole run and stated on the page
NUMBERS = ("mean", "ci_low", "ci_high", "rank", "n")
ALWAYS_WRITTEN = ("summary", "ranks", "paired", "gate", "reliability", "degenerate")
LATEX_NOTE = r"% needs \usepackage{booktabs}; longer than a page: use the rows in a longtable"


def write_tables(analysis: RunAnalysis, folder: Path) -> list[Path]:
    """Write the summary (csv, md, tex) and the other statistics (csv) into `folder`.

    Statistics without rows (sizes without areas, map transforms without transformed maps) are left out, and files of
    an earlier report that are no longer among them are deleted.

    Returns:
        The paths of the files written.
    """
    tables = tables_by_name(analysis)
    filled = {name: table for name, table in tables.items() if name in ALWAYS_WRITTEN or len(table)}
    contents = {f"{name}.csv": table.to_csv(index=False) for name, table in filled.items()}
    contents |= {"summary.md": summary_markdown(analysis), "summary.tex": summary_latex(analysis)}
    paths = [write_atomically(folder / name, text) for name, text in contents.items()]
    for name in tables.keys() - filled.keys():
        (folder / f"{name}.csv").unlink(missing_ok=True)
    return paths


def tables_by_name(analysis: RunAnalysis) -> dict[str, pd.DataFrame]:
    """Return every table of a run by the name of its file."""
    return {
        "summary": analysis.summary,
        "ranks": analysis.ranks,
        "paired": analysis.paired,
        "gate": analysis.gates,
        "reliability": analysis.reliability,
        "degenerate": analysis.degenerate,
        "agreement": analysis.agreement,
        "pairs": analysis.pairs,
        "rank_tests": rank_tests(analysis),
        "sizes": analysis.sizes,
        "ablations": analysis.transform_effects,
        "ablation_ranks": analysis.rank_changes,
        "ablation_best": analysis.best_transforms,
        "relative": analysis.relative,
    }


def rank_tests(analysis: RunAnalysis) -> pd.DataFrame:
    """Return Friedman's test and the critical difference, one row for each network."""
    names = ["model", "blocks", "contestants", "statistic", "p", "concordance", "critical"]
    rows = [
        (t.model, t.blocks, len(t.ranks), t.statistic, t.p, t.concordance, t.critical) for t in analysis.tests.values()
    ]
    return pd.DataFrame(rows, columns=names)


def best_rows(analysis: RunAnalysis) -> set[int]:
    """Return the summary's row labels that are best of their model and metric.

    Controls are left out. Of equal values all are best.
    """
    controls = {info.name for info in analysis.data.explainers.values() if info.control}
    table = analysis.summary
    contestants = table[table["direction"].isin(["higher", "lower"]) & ~table["explainer"].isin(controls)]
    best: set[int] = set()
    for _, group in contestants.dropna(subset=["mean"]).groupby(["model", "metric"], observed=True):
        means = group["mean"]
        top = means.max() if group["direction"].iloc[0] == "higher" else means.min()
        best |= set(group.index[means == top]) if len(group) > 1 else set()
    return best


def summary_markdown(analysis: RunAnalysis) -> str:
    """Format the summary as a Markdown table, the best in bold."""
    best, table = best_rows(analysis), _with_titles(analysis)
    table = table.map(lambda cell: cell.replace("|", r"\|"))
    table.loc[sorted(best), "mean"] = "**" + table.loc[sorted(best), "mean"] + "**"
    return markdown_table(table, NUMBERS) + "\n"


def summary_latex(analysis: RunAnalysis) -> str:
    """Format the summary as a LaTeX tabular, the best in bold."""
    best, table = best_rows(analysis), _with_titles(analysis)
    bold = [index for index, label in enumerate(table.index) if label in best]
    return f"{LATEX_NOTE}\n{latex_table(table, NUMBERS, (bold, 'mean'))}"


def _with_titles(analysis: RunAnalysis) -> pd.DataFrame:
    """Return the summary as text, with titles in place of names."""
    rows = [_cells(analysis, row) for _, row in analysis.summary.iterrows()]
    return pd.DataFrame(rows, columns=list(SHOWN), index=analysis.summary.index, dtype=str)


def _cells(analysis: RunAnalysis, row: pd.Series) -> list[str]:
    data = analysis.data
    names = [row["model"], data.explainers[row["explainer"]].title, data.metrics[row["metric"]].title, row["direction"]]
    values = [format.compact(row[name]) for name in ("mean", "ci_low", "ci_high")]
    return [*(" ".join(str(name).split()) for name in names), *values, format.rank(row["rank"]), str(row["n"])]
