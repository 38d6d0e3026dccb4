from __future__ import annotations

import base64
import hashlib
import html
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from helpers import runs as synthetic
from helpers.reports import Section, Tags, few_scores, full_run, with_random_first

from benchmarks.report import RunData, analyse, files, format
from benchmarks.report.figures.figure_set import make_figure_set
from benchmarks.report.figures.sizes import sizes_figure
from benchmarks.report.page import render_page
from benchmarks.report.summary_text import caveats
from benchmarks.report.verdict import judge
from benchmarks.statistics import Resampling
from benchmarks.statistics.analysis import RunAnalysis
from benchmarks.store.record import RunRecord

pytestmark = pytest.mark.slow


def test_the_page_is_well_formed_and_asks_for_nothing_from_outside(folder: Path) -> None:
    tags = Tags((folder / "report.html").read_text(encoding="utf-8"))
    assert tags.open == []
    sources = [value for _, attrs in tags.seen for key, value in attrs.items() if key in ("src", "srcset", "href")]
    figures = [source for source in sources if source and source.startswith("data:image/svg")]
    assert len(figures) == 2 * 9
    assert len([source for source in sources if source and source.startswith("data:image/webp")]) > 2
    assert all(source and source.startswith(("data:image/", "#")) for source in sources)
    assert not {"link", "iframe"} & {tag for tag, _ in tags.seen}
    assert all(attrs.get("alt") for tag, attrs in tags.seen if tag == "img")


def test_the_one_script_is_the_one_the_policy_names(folder: Path) -> None:
    text = (folder / "report.html").read_text(encoding="utf-8")
    (script,) = re.findall(r"<script>(.*?)</script>", text, re.DOTALL)
    expected = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    assert f"script-src 'sha256-{expected}'" in text
    assert "default-src 'none'" in text
    assert not re.search(r"\son[a-z]+=", re.sub(r"data:[^\"]*", "", text))


def test_the_page_carries_the_numbers_of_the_tables(analysis: RunAnalysis, page: str) -> None:
    row = analysis.row("lap", "lap", "auc")
    assert row is not None
    assert format.interval(row["mean"], row["ci_low"], row["ci_high"]) in page
    assert format.number(analysis.rank("lap", "lap"), 2) in page
    assert all(text in page for text in ("95.3 %", "2 of 48", "one segment only", "abcdef012345", "0.6.0", "8 × 8"))


def test_sections_come_in_order(page: str) -> None:
    ids = [attrs["id"] for tag, attrs in Tags(page).seen if tag == "section"]
    assert ids == [
        "verdict",
        "card",
        "gallery",
        "leaderboard",
        "certainty",
        "scores",
        "cost",
        "trust",
        "networks",
        "audit",
        "degenerate",
        "problems",
        "method",
        "provenance",
    ]


def test_every_anchor_of_the_page_has_its_section(page: str) -> None:
    tags = Tags(page).seen
    anchors = [attrs["href"] for tag, attrs in tags if tag == "a"]
    assert set(anchors) == {f"#{attrs['id']}" for tag, attrs in tags if tag == "section"}


def test_the_page_begins_with_the_three_sentences(analysis: RunAnalysis, page: str) -> None:
    sentences = re.findall(r'<p class="sentence[^"]*">(.*?)</p>', page)
    assert tuple(html.unescape(text) for text in sentences) == judge(analysis).sentences
    assert page.index(sentences[0]) < page.index('id="card"') < page.index('id="gallery"')


def test_no_number_of_the_page_has_an_exponent(page: str) -> None:
    text = re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]*>", " ", page, flags=re.DOTALL)
    assert not re.search(r"\d\.?\d*e[+\-−]\d", text)


def test_names_are_escaped_everywhere() -> None:
    data = RunData(synthetic.record(), few_scores(synthetic.scores(3)))
    evil = "<script>alert(1)</script>"
    for part in ("models", "explainers", "metrics"):
        getattr(data.record, part)[0].title = evil
    data.record.name = data.record.problems[0].what = data.record.config["name"] = evil
    analysis = analyse(data, Resampling(resamples=50))
    text = render_page(analysis, make_figure_set(analysis, forms=()))
    assert text.count("<script") == 1
    assert "alert(1)</script>" not in text
    assert "&lt;script&gt;" in text


@pytest.mark.parametrize("key", sorted(synthetic.meta()))
@pytest.mark.parametrize("null", [False, True])
def test_any_key_of_the_description_may_be_missing_or_null(analysis: RunAnalysis, key: str, null: bool) -> None:
    meta = synthetic.meta()
    meta.pop(key)
    if null:
        meta[key] = None
    data = RunData(RunRecord.model_validate(meta), analysis.data.scores)
    again = replace(analysis, data=data, examples=())
    assert "</html>" in render_page(again, [])


def test_a_run_with_one_image_and_only_controls_renders() -> None:
    scores = few_scores(synthetic.scores(images=1))
    scores = scores[scores["explainer"].isin(["random", "mask"])]
    analysis = analyse(RunData(synthetic.record(), scores))
    assert {figure.section for figure in make_figure_set(analysis, forms=())} == {"ranks", "scores", "cost"}
    assert set(analysis.gates["verdict"]) == {"not judged"}
    assert "only ranked explainer" in judge(analysis).leader


def test_a_failing_metric_is_shown_with_its_reason_and_left_out_of_the_mean_rank(tmp_path: Path) -> None:
    analysis = analyse(with_random_first("fc"), Resampling(resamples=50))
    assert set(analysis.gates.query("verdict == 'failed'")["metric"]) == {"fc"}
    row = analysis.ranks.query("model == 'lap' and explainer == 'lap'").iloc[0]
    assert (row["metrics"], row["metrics_all"]) == (6, 7)
    assert analysis.row("lap", "lap", "fc") is not None
    text = render_page(analysis, [])
    assert "the median method is not better than random" in Section(text, "trust").text
    assert "With failed metrics" in Section(text, "leaderboard").text
    assert "Left out of the mean rank" in Section(text, "certainty").text
    assert analysis.tests["lap"].blocks == 6
    files.write_tables(analysis, tmp_path)
    assert "failed" in set(pd.read_csv(tmp_path / "gate.csv")["verdict"])


def test_with_all_metrics_passing_there_is_no_second_column(full_page: str) -> None:
    assert "With failed metrics" not in full_page
    assert "Left out of the mean rank" not in full_page


def test_if_no_metric_passes_nothing_is_ranked_and_the_page_says_so() -> None:
    data = full_run(images=16)
    scores = data.scores.copy()
    scores.loc[scores["explainer"] == "random", "value"] += 5
    analysis = analyse(RunData(data.record, scores), Resampling(resamples=20))
    assert analysis.ranks["mean_rank"].isna().all()
    assert "tells good maps from bad ones" in judge(analysis).leader
    assert "</html>" in render_page(analysis, [])


def test_sizes_are_shown_where_the_run_has_areas(full_analysis: RunAnalysis, full_page: str) -> None:
    assert "small (2.0 % to 3.4 %)" in Section(full_page, "sizes").text
    figure = sizes_figure(full_analysis, "lap")
    assert len([axes for axes in figure.axes if axes.axison]) == 4
    without = analyse(RunData(synthetic.record(), synthetic.scores(images=4)), Resampling(resamples=10))
    assert "does not say how large" in Section(render_page(without, []), "method").text


def test_several_seeds_are_told_apart_in_tables_and_words() -> None:
    data = full_run(images=16, seeds=(0, 1, 2))
    data.record.models = [model.model_copy(update={"seed": seed}) for seed in (0, 1, 2) for model in data.record.models]
    analysis = analyse(data, Resampling(resamples=50))
    assert set(analysis.summary["resampled"]) == {"seeds and images"}
    assert "images and of training seeds" in " ".join(caveats(analysis))
    text = render_page(analysis, [])
    assert "Test-retest" in text
    assert "6 trained networks" in text
    assert len(analysis.data.models) == 2


def test_audit_traceback_and_caveats_are_shown(full_page: str) -> None:
    audit = Section(full_page, "audit").text
    assert "AUC" in audit
    assert "< 0.000001" in audit
    assert "quantus" in audit
    assert "ValueError: one segment" in Section(full_page, "problems").text
    assert "test_resnet, plain : coarse maps" in Section(full_page, "method").text


@pytest.mark.parametrize("entry", [{}, {"metric": "auc", "largest": None}, {"largest": 0, "model": "gone"}])
def test_an_audit_may_lack_anything(entry: dict[str, Any]) -> None:
    data = RunData(synthetic.record(audit=[entry]), synthetic.scores(images=2))
    assert "</html>" in render_page(analyse(data, Resampling(resamples=5)), [])


def test_pairs_show_scores_and_places(full_analysis: RunAnalysis, full_page: str) -> None:
    gallery = Section(full_page, "gallery").text
    assert "LAP (own) against Grad-CAM, test_resnet with LAP" in gallery
    example = next(e for e in full_analysis.examples if e.role == "best")
    assert f"(image {example.rank} of {example.images})" in gallery
    assert example.image in full_analysis.data.gallery.ids  # type: ignore[union-attr]


def test_runs_without_gallery_have_no_pairs() -> None:
    analysis = analyse(RunData(synthetic.record(), synthetic.scores(images=4)), Resampling(resamples=10))
    assert analysis.examples == []
    assert "Best, median and worst" not in render_page(analysis, [])
