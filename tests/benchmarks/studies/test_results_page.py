from __future__ import annotations

import shutil
from pathlib import Path

import pandas as pd
import pytest
from helpers.shared import ROOT

from benchmarks.studies.results_page import (
    BLOCK,
    CONTROLS,
    PAGE,
    SENTENCE,
    contests,
    outdated,
    rank_table,
    replace_block,
    shortcut_table,
    write_pages,
)  # fmt: skip
from interp_core.errors import InterpError


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what the pages are made from."""
    shutil.copytree(
        ROOT / "results", tmp_path / "results", ignore=shutil.ignore_patterns("*.parquet", "*.npz", "*.png")
    )
    (tmp_path / "docs").mkdir()
    blocks = "".join(f"<!-- {name} -->\nold\n<!-- /{name} -->\n" for name in (BLOCK, SENTENCE))
    (tmp_path / "README.md").write_text(f"before\n{blocks}after\n")
    return tmp_path


@pytest.mark.slow
def test_pages_are_written_once_and_are_current_then(checkout: Path) -> None:
    assert set(outdated(checkout)) == {checkout / "README.md", checkout / PAGE}
    assert set(write_pages(checkout)) == {checkout / "README.md", checkout / PAGE}
    assert outdated(checkout) == []
    assert write_pages(checkout) == []
    text = (checkout / "README.md").read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    assert "old" not in text


@pytest.mark.slow
def test_a_changed_number_makes_the_pages_outdated(checkout: Path) -> None:
    write_pages(checkout)
    path = checkout / "results" / "method" / "imagenet_own" / "tables" / "ranks.csv"
    table = pd.read_csv(path)
    table.loc[table["explainer"] == "lap", "mean_rank_all"] += 1
    table.to_csv(path, index=False)
    assert set(outdated(checkout)) == {checkout / "README.md", checkout / PAGE}


@pytest.mark.slow
def test_a_missing_table_is_named(checkout: Path) -> None:
    path = checkout / "results" / "method" / "tiny" / "tables" / "ranks.csv"
    path.unlink()
    with pytest.raises(InterpError, match=r"tiny.tables.ranks\.csv"):
        write_pages(checkout)


def test_markers_must_be_there() -> None:
    assert replace_block("a\n<!-- x -->\nb\n<!-- /x -->\nc", "x", "new") == "a\n<!-- x -->\n\nnew\n\n<!-- /x -->\nc"
    with pytest.raises(InterpError, match="no markers"):
        replace_block("a", "x", "new")


def test_the_table_has_every_external_explainer_and_the_best_control_alone() -> None:
    digits = contests(ROOT / "results")["digits"]
    rows = rank_table(digits).splitlines()[2:]
    names = [row.split("|")[1].strip() for row in rows]
    controls = [name for name in names if name.endswith("(best control)")]
    assert len(controls) == 1
    assert len(names) == len([name for name in digits.ranks.index if name not in CONTROLS]) + 1
    ranks = [float(row.split("|")[2]) for row in rows]
    assert ranks == sorted(ranks)


def test_metrics_that_beat_lap_are_not_among_the_unbeaten() -> None:
    for contest in contests(ROOT / "results").values():
        table = contest.paired
        beaten = table[(table["verdict"] == "behind") & (table["p_holm"] < 0.05)]["metric"].unique()
        assert len(contest.unbeaten) == len(contest.metrics) - len(beaten)
        assert not {contest.titles[name] for name in beaten} & set(contest.unbeaten)


def test_arms_of_the_shortcut_study_are_read_with_all_cells() -> None:
    table = shortcut_table(ROOT / "results" / "method" / "control_digits.md")
    assert {"Plain", "LAP", "RRR, all"} <= table.keys()
    assert all(set(row) == set(table["LAP"]) for row in table.values())
