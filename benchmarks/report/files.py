"""The tables of a run: the summary (csv, Markdown, LaTeX), and one csv for each other statistic.

csv is for machines: names as in the configuration, full precision, empty where there is no value. Markdown and LaTeX
are for people: titles, three decimals, the best explainer of each model and metric in bold. A control may still be
better than what is bold: its rank says so.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pandas as pd

from benchmarks.report import format
from benchmarks.statistics import COLUMNS
from benchmarks.statistics.analysis import RunAnalysis
from benchmarks.store.atomic import write_atomically

SHOWN = COLUMNS[:9]  # for people; what an interval covers is the same in a whole run and said in words
ESCAPES = {
    "\\": r"\textbackslash{}", "&": r"\&", "%": r"\%", "$": r"\$", "#": r"\#", "_": r"\_", "{": r"\{", "}": r"\}",
    "~": r"\textasciitilde{}", "^": r"\textasciicircum{}", "−": "--", "<": r"\textless{}", ">": r"\textgreater{}",
    "→": r"$\rightarrow$", "–": "--",
}  # fmt: skip


def write_tables(findings: RunAnalysis, folder: Path) -> list[Path]:
    """Write summary.csv, .md and .tex, and the other statistics as csv, into `folder`; their paths.

    Statistics that a run has no rows for (sizes without areas, ablations without transformed maps) are left out, and
    tables of an earlier report that are no longer among them are deleted.
    """
    contents = {
        "summary.csv": findings.summary.to_csv(index=False),
        "summary.md": markdown(findings),
        "summary.tex": latex(findings),
        "ranks.csv": findings.ranks.to_csv(index=False),
        "paired.csv": findings.paired.to_csv(index=False),
        "gate.csv": findings.gates.to_csv(index=False),
        "reliability.csv": findings.reliability.to_csv(index=False),
        "degenerate.csv": findings.degenerate.to_csv(index=False),
    }
    optional = {
        "agreement.csv": findings.agreement,
        "rank_tests.csv": rank_tests(findings),
        "sizes.csv": findings.sizes,
        "ablations.csv": findings.transform_effects,
        "ablation_ranks.csv": findings.rank_changes,
        "ablation_best.csv": findings.best_transforms,
        "relative.csv": findings.relative,
    }
    contents |= {name: table.to_csv(index=False) for name, table in optional.items() if len(table)}
    written = [write_atomically(folder / name, text) for name, text in contents.items()]
    for name in optional.keys() - contents.keys():
        (folder / name).unlink(missing_ok=True)
    return written


def rank_tests(findings: RunAnalysis) -> pd.DataFrame:
    """Friedman's test and the critical difference of each model, one row each."""
    names = ["model", "blocks", "contestants", "statistic", "p", "concordance", "critical"]
    rows = [
        (t.model, t.blocks, len(t.ranks), t.statistic, t.p, t.concordance, t.critical) for t in findings.tests.values()
    ]
    return pd.DataFrame(rows, columns=names)


def best_rows(findings: RunAnalysis) -> set[int]:
    """Index of the rows of the summary that are best of their model and metric, controls aside; ties are all best."""
    controls = {info.name for info in findings.data.explainers.values() if info.control}
    table = findings.summary
    judged = table[table["direction"].isin(["higher", "lower"]) & ~table["explainer"].isin(controls)]
    best: set[int] = set()
    for _, group in judged.dropna(subset=["mean"]).groupby(["model", "metric"], observed=True):
        means = group["mean"]
        top = means.max() if group["direction"].iloc[0] == "higher" else means.min()
        best |= set(group.index[means == top]) if len(group) > 1 else set()
    return best


def markdown(findings: RunAnalysis) -> str:
    """The summary as a Markdown table, one row per model, explainer and metric, the best in bold."""
    header = list(SHOWN)
    right = {"mean", "ci_low", "ci_high", "rank", "n"}
    lines = [_piped(header), _piped(["---:" if name in right else "---" for name in header])]
    for cells, best in _readable(findings):
        cells = [cell.replace("|", r"\|") for cell in cells]
        if best:
            cells[4] = f"**{cells[4]}**"
        lines.append(_piped(cells))
    return "\n".join(lines) + "\n"


def latex(findings: RunAnalysis) -> str:
    """The summary as a LaTeX tabular for the booktabs package, the best in bold."""
    header = [escape(name) for name in SHOWN]
    lines = [
        r"% needs \usepackage{booktabs}; longer than a page: use the rows in a longtable",
        r"\begin{tabular}{llllrrrrr}", r"\toprule", _ended(header), r"\midrule",
    ]  # fmt: skip
    for cells, best in _readable(findings):
        cells = [escape(cell) for cell in cells]
        if best:
            cells[4] = rf"\textbf{{{cells[4]}}}"
        lines.append(_ended(cells))
    return "\n".join([*lines, r"\bottomrule", r"\end{tabular}", ""])


def escape(text: str) -> str:
    """Text that LaTeX prints as it is."""
    return "".join(ESCAPES.get(letter, letter) for letter in text)


def _readable(findings: RunAnalysis) -> list[tuple[list[str], bool]]:
    best = best_rows(findings)
    return [(_cells(row, findings), index in best) for index, row in findings.summary.iterrows()]


def _cells(row: pd.Series, findings: RunAnalysis) -> list[str]:
    data = findings.data
    names = [row["model"], data.explainers[row["explainer"]].title, data.metrics[row["metric"]].title, row["direction"]]
    values = [format.compact(row[name]) for name in ("mean", "ci_low", "ci_high")]
    return [*(" ".join(str(name).split()) for name in names), *values, format.rank(row["rank"]), str(row["n"])]


def _piped(cells: Sequence[str]) -> str:
    return f"| {' | '.join(cells)} |"


def _ended(cells: Sequence[str]) -> str:
    return " & ".join(cells) + r" \\"
