from __future__ import annotations

import base64
import hashlib
import html
import io
import re
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from helpers import runs as synthetic
from matplotlib import rcParams
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from PIL import Image

from benchmarks.report import RunData, analyse, files, format, page_tables, write_report
from benchmarks.report.figures import palette, style
from benchmarks.report.figures.critical_difference import critical_figure
from benchmarks.report.figures.figure_set import make_figure_set
from benchmarks.report.figures.gallery import gallery_figure, label_text, overlay, scale_map
from benchmarks.report.figures.scores import cost_figure, ranks_figure, scores_figure
from benchmarks.report.latex import escape
from benchmarks.report.page import render_page
from benchmarks.report.summary_text import caveats, network_summaries, other_networks
from benchmarks.report.verdict import judge
from benchmarks.statistics import COLUMNS, Resampling
from benchmarks.statistics.analysis import RunAnalysis
from benchmarks.store.record import RunRecord
from interp_core.errors import StoreError

pytestmark = pytest.mark.slow

NOTHING = RunData(RunRecord(), pd.DataFrame())


@pytest.fixture(scope="module")
def findings() -> RunAnalysis:
    return analyse(synthetic.run(), Resampling(resamples=200))


@pytest.fixture(scope="module")
def page(findings: RunAnalysis) -> str:
    return render_page(findings, [])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    target = tmp_path_factory.mktemp("run")
    scores = synthetic.scores(16)
    scores = scores[scores["metric"].isin(["mass", "auc", "pf_diff", "sparseness", "seconds", "forwards"])]
    write_report(RunData(synthetic.record(), scores, synthetic.gallery(images=2, size=32)), target)
    return target


def few(scores: pd.DataFrame) -> pd.DataFrame:
    """Three scores of four explainers: quick to draw."""
    explainers = ["lap", "lime", "random", "mask"]
    return scores[scores["metric"].isin(["mass", "pf_diff", "forwards"]) & scores["explainer"].isin(explainers)]


def drawn(figure: Figure) -> list[Any]:
    return [axes for axes in figure.axes if axes.axison]


class Tags(HTMLParser):
    """Collects tags with their attributes, and checks that what is opened is closed."""

    VOID = frozenset({"meta", "img", "source", "br", "link"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[tuple[str, dict[str, str | None]]] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


# --- data -----------------------------------------------------------------------------------------------------------


def test_names_come_in_the_order_of_the_run_and_controls_last() -> None:
    data = synthetic.run(images=2)
    assert list(data.models) == ["plain", "lap"]
    assert next(iter(data.explainers)) == "lap"
    assert list(data.explainers)[-1] == "mask"
    assert list(data.metrics)[-2:] == ["seconds", "forwards"]


def test_what_the_description_lacks_is_taken_from_the_scores() -> None:
    data = RunData(
        RunRecord.model_validate({"metrics": None, "models": [{"name": "plain", "title": None}]}),
        synthetic.scores(images=2),
    )
    assert data.models["plain"].title == "plain"
    assert data.explainers["lime"].kind == "external"
    assert data.metrics["seconds"].direction == "lower"
    assert data.metrics["auc"].direction == "none"


def test_degenerate_maps_are_counted_per_model_and_explainer(findings: RunAnalysis) -> None:
    table = findings.degenerate
    affected = table[table["explainer"] == "grad_cam"]
    assert affected[["degenerate", "total"]].to_numpy().tolist() == [[2, 48], [2, 48]]
    assert table.drop(index=affected.index)["degenerate"].sum() == 0


# --- tables ---------------------------------------------------------------------------------------------------------


def test_csv_parses_back_with_exact_columns_and_full_precision(findings: RunAnalysis, tmp_path: Path) -> None:
    paths = files.write_tables(findings, tmp_path)
    assert sorted(path.name for path in paths) == [
        "agreement.csv", "degenerate.csv", "gate.csv", "paired.csv", "rank_tests.csv", "ranks.csv", "relative.csv",
        "reliability.csv", "summary.csv", "summary.md", "summary.tex",
    ]  # fmt: skip
    table = pd.read_csv(tmp_path / "summary.csv", float_precision="round_trip")
    assert tuple(table.columns) == COLUMNS
    pd.testing.assert_frame_equal(table, findings.summary, check_dtype=False, check_exact=True)
    ranks = pd.read_csv(tmp_path / "ranks.csv")
    assert {"model", "explainer", "mean_rank", "metrics", "localisation", "faithfulness"} <= set(ranks.columns)
    assert {"mean_rank_all", "rank_low", "rank_high"} <= set(ranks.columns)
    tests = pd.read_csv(tmp_path / "rank_tests.csv").set_index("model")
    assert tests.loc["lap", ["blocks", "contestants"]].tolist() == [7, 9]


def test_markdown_has_one_row_each_and_bold_only_for_the_best_contestant(findings: RunAnalysis) -> None:
    lines = files.summary_markdown(findings).splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines[2:]]
    assert lines[0] == f"| {' | '.join(COLUMNS[:9])} |"
    assert len(rows) == len(findings.summary)
    assert {len(row) for row in rows} == {9}
    auc = [row for row in rows if row[0] == "lap" and row[2] == "AUC"]
    bold = [row for row in auc if row[4].startswith("**")]
    own = {row[1]: float(row[4].strip("*")) for row in auc if row[1] in ("LAP (own)", "Grad-CAM", "LIME", "SHAP")}
    assert [row[1] for row in bold] == [max(own, key=lambda name: own[name])]


def test_bold_follows_the_direction(findings: RunAnalysis) -> None:
    table = findings.summary.loc[sorted(files.best_rows(findings))]
    row = table[(table["model"] == "lap") & (table["metric"] == "pf_morf")].iloc[0]
    controls = ["random", "smoothed_random", "centre_gaussian", "edges", "mask"]
    rows = findings.summary[~findings.summary["explainer"].isin(controls)].query(
        "model == 'lap' and metric == 'pf_morf'"
    )
    assert row["mean"] == rows["mean"].min()
    assert "sparseness" not in set(table["metric"])


def test_latex_uses_booktabs_and_escapes(findings: RunAnalysis) -> None:
    text = files.summary_latex(findings)
    assert text.count(r"\\") == len(findings.summary) + 1
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


# --- figures --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize(("family", "panels"), [("localisation", 4), ("faithfulness", 6)])
def test_scores_have_a_panel_per_metric(findings: RunAnalysis, family: str, panels: int, narrow: bool) -> None:
    figure = scores_figure(findings, (family,), narrow)
    shown = drawn(figure)
    assert len(shown) == panels
    titles = {axes.get_title(loc="left").replace("\n", " ").replace("\xa0", " ") for axes in shown}
    assert titles == {info.title for info in findings.metrics(family)}
    labels = [text.get_text() for text in shown[0].get_yticklabels()]
    assert labels[0] == "LAP (own)"
    assert len(labels) == 10
    assert all("is better" in axes.get_xlabel() for axes in shown)
    assert figure.get_size_inches()[0] == pytest.approx(3.5 if narrow else 7.2)


def test_a_dot_stands_at_the_mean_and_a_bar_spans_the_interval(findings: RunAnalysis) -> None:
    axes = next(a for a in drawn(scores_figure(findings, ("localisation",))) if a.get_title(loc="left") == "AUC")
    row = findings.row("lap", "shap", "auc")
    assert row is not None
    spans = [tuple(line.get_xdata()) for line in axes.lines]
    assert (row["ci_low"], row["ci_high"]) in spans
    assert (row["mean"],) in spans


def test_descriptors_and_costs_share_a_figure_with_log_costs(findings: RunAnalysis) -> None:
    scales = [axes.get_xscale() for axes in drawn(scores_figure(findings, ("descriptor", "cost")))]
    assert scales == ["linear", "log", "symlog"]


def test_models_differ_by_colour_and_marker() -> None:
    assert style.colour_of(0) != style.colour_of(1)
    assert style.marker_of(0) != style.marker_of(1)
    assert len({(style.colour_of(place), style.marker_of(place)) for place in range(36)}) == 36
    control = synthetic.run(images=2).explainers["random"]
    assert style.colour_of(0, control) == style.colour_of(1, control) == palette.CONTROL


def test_ranks_have_a_panel_for_all_and_one_per_family(findings: RunAnalysis) -> None:
    shown = drawn(ranks_figure(findings))
    assert [axes.get_title(loc="left") for axes in shown] == ["All ranked metrics", "Localisation", "Faithfulness"]
    labels = [text.get_text() for text in shown[0].get_yticklabels()]
    assert "Evidence mask" not in labels
    assert len(labels) == 9


def test_the_panel_says_where_metrics_are_left_out_of_the_mean(findings: RunAnalysis) -> None:
    gates = findings.gates.assign(verdict="passed")
    for verdict, title in (("passed", "All ranked metrics"), ("failed", "Metrics that pass the gate")):
        gates.loc[gates.index[0], "verdict"] = verdict
        shown = drawn(ranks_figure(replace(findings, gates=gates)))
        assert " ".join(shown[0].get_title(loc="left").split()) == title
    titles = [axes.get_title(loc="left") for axes in shown]
    assert titles[1:] == ["All ranked metrics", "Localisation", "Faithfulness"]


@pytest.mark.parametrize(
    ("verdict", "titles"),
    [
        ("passed", ["All ranked metrics"]),
        ("failed", ["Metrics that pass the gate, all of localisation", "All ranked metrics"]),
    ],
)
def test_no_panel_of_ranks_shows_what_another_shows(findings: RunAnalysis, verdict: str, titles: list[str]) -> None:
    gates = findings.gates.assign(verdict="passed")
    gates.loc[gates.index[0], "verdict"] = verdict
    alone = replace(findings, gates=gates, ranks=findings.ranks.drop(columns="faithfulness"))
    assert [" ".join(axes.get_title(loc="left").split()) for axes in drawn(ranks_figure(alone))] == titles


@pytest.mark.parametrize("narrow", [False, True])
def test_the_critical_difference_names_every_contestant_at_its_rank(findings: RunAnalysis, narrow: bool) -> None:
    panels = drawn(critical_figure(findings, narrow))
    assert len(panels) == 2
    test = findings.tests["lap"]
    texts = [" ".join(text.get_text().split()) for text in panels[1].texts]
    for name, rank in test.ranks.items():
        assert f"{findings.data.explainers[str(name)].title} {format.decimals(rank)}" in texts
    assert any(f"critical difference {test.critical:.2f}" in text for text in texts)
    (bold,) = [text for text in panels[1].texts if text.get_fontweight() == "bold"]
    assert bold.get_text().strip().startswith("LAP (own)")


@pytest.mark.parametrize("narrow", [False, True])
@pytest.mark.parametrize("cost", ["forwards", "seconds"])
def test_cost_labels_do_not_overlap(findings: RunAnalysis, cost: str, narrow: bool) -> None:
    figure = cost_figure(findings, cost, narrow)
    assert len(drawn(figure)) == 2
    renderer = FigureCanvasAgg(figure).get_renderer()
    for axes, count in zip(drawn(figure), (8, 9), strict=True):
        texts = [child for child in axes.get_children() if isinstance(child, Annotation) and child.get_text()]
        boxes = [text.get_window_extent(renderer) for text in texts]
        assert len(texts) == count
        assert not [1 for i, box in enumerate(boxes) for other in boxes[:i] if box.overlaps(other)]


def test_gallery_has_pictures_explainers_and_marks_empty_maps(findings: RunAnalysis) -> None:
    figure = gallery_figure(findings.data, "lap")
    assert len(figure.axes) == 6 * 11
    notes = [text.get_text() for axes in figure.axes for text in axes.texts]
    assert notes == ["no map\n(NaN)"]
    plain = gallery_figure(findings.data, "plain", narrow=True)
    assert len(plain.axes) == 4 * 10
    assert [text.get_text() for axes in plain.axes for text in axes.texts] == ["no map\n(constant)"]


def test_captions_of_the_gallery_are_one_short_name() -> None:
    assert label_text("teapot") == "teapot"
    assert label_text("ladybug, ladybeetle, lady beetle, ladybird, ladybird beetle") == "ladybug"
    assert label_text("Rhodesian ridgeback") == "Rhodesian ri…"


def test_gallery_needs_a_gallery() -> None:
    with pytest.raises(ValueError, match="no gallery"):
        gallery_figure(NOTHING, "lap")


def test_the_same_gallery_gives_the_same_bytes() -> None:
    data = RunData(synthetic.record(), pd.DataFrame(), synthetic.gallery(images=1, size=16))
    first, second = (style.render(gallery_figure(data, "lap"), "svg") for _ in range(2))
    assert first == second


def test_maps_are_scaled_by_themselves() -> None:
    values = np.array([[-2.0, 0.0], [1.0, 4.0]])
    assert scale_map(values, signed=True).tolist() == [[0, 0], [0.25, 1]]  # type: ignore[union-attr]
    assert scale_map(values, signed=False).tolist() == [[0, 1 / 3], [0.5, 1]]  # type: ignore[union-attr]
    assert scale_map(-np.ones((2, 2)) * [[1, 2], [3, 4]], signed=True).tolist() == [[0, 0], [0, 0]]  # type: ignore[union-attr]
    assert scale_map(np.full((2, 2), 3.0), signed=False) is None
    assert scale_map(np.array([[np.nan, 1.0]]), signed=False) is None
    painted = overlay(np.full((2, 2, 3), 255, np.uint8), np.array([[0.0, 1.0], [0.5, 0.5]]))
    assert painted.shape == (2, 2, 3)
    assert (painted[0, 0] < painted[0, 1]).all()


def test_figures_leave_global_settings_alone_and_ignore_them(findings: RunAnalysis) -> None:
    before = dict(rcParams)
    first = style.render(ranks_figure(findings), "svg")
    assert dict(rcParams) == before
    rcParams["font.size"] = 30
    try:
        assert style.render(ranks_figure(findings), "svg") == first
    finally:
        rcParams["font.size"] = before["font.size"]


def test_svg_keeps_text_and_has_no_date(findings: RunAnalysis) -> None:
    text = style.render(scores_figure(findings, ("localisation",)), "svg").decode()
    assert "Integrated Gradients</text>" in text
    assert "<dc:date>" not in text


def test_type_is_no_smaller_than_seven_points(findings: RunAnalysis) -> None:
    text = style.render(scores_figure(findings, ("faithfulness",), True), "svg").decode()
    sizes = [float(size) for size in re.findall(r"font(?:-size)?: (?:bold )?([\d.]+)px", text)]
    assert sizes
    assert min(sizes) >= 7


# --- the whole ------------------------------------------------------------------------------------------------------


def test_all_formats_of_every_figure_are_written(folder: Path) -> None:
    names = {path.stem for path in (folder / "figures").iterdir() if not path.stem.endswith("_narrow")}
    assert names == {
        "mean_rank", "critical_difference", "scores_localisation", "scores_faithfulness", "scores_descriptors",
        "cost_forwards", "cost_seconds", "gallery_plain", "gallery_lap",
    }  # fmt: skip
    for name in names:
        picture = Image.open(folder / "figures" / f"{name}.png")
        assert picture.info["dpi"][0] >= 149.9
        assert (folder / "figures" / f"{name}.svg").read_bytes().startswith(b"<?xml")
        assert (folder / "figures" / f"{name}.pdf").read_bytes().startswith(b"%PDF")
    assert not list(folder.rglob("*.tmp"))


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


def test_the_same_data_give_the_same_files(tmp_path: Path) -> None:
    data = RunData(synthetic.record(), few(synthetic.scores(images=4)).query("model == 'lap' and metric != 'forwards'"))
    first = {path.name: path.read_bytes() for path in write_report(data, tmp_path / "a")}
    mixed = RunData(synthetic.record(), data.scores.sample(frac=1, random_state=1))
    assert {path.name: path.read_bytes() for path in write_report(mixed, tmp_path / "b")} == first


def test_the_page_carries_the_numbers_of_the_tables(findings: RunAnalysis, page: str) -> None:
    row = findings.row("lap", "lap", "auc")
    assert row is not None
    assert format.interval(row["mean"], row["ci_low"], row["ci_high"]) in page
    assert format.number(findings.rank("lap", "lap"), 2) in page
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
    assert sorted(anchors) == sorted(f"#{attrs['id']}" for tag, attrs in tags if tag == "section")


def test_the_page_begins_with_the_three_sentences(findings: RunAnalysis, page: str) -> None:
    sentences = re.findall(r'<p class="sentence[^"]*">(.*?)</p>', page)
    assert tuple(html.unescape(text) for text in sentences) == judge(findings).sentences
    assert page.index(sentences[0]) < page.index('id="card"') < page.index('id="gallery"')


def test_the_card_has_the_winner_beside_the_runner_up(findings: RunAnalysis) -> None:
    card = page_tables.card(findings, findings.data.models["lap"])
    ranks = findings.ranks[findings.ranks["model"] == "lap"].sort_values("mean_rank")
    names = list(ranks["explainer"].head(2))
    assert [column["title"] for column in card["columns"]][:2] == [findings.title(name) for name in names]
    rows = {row["label"]: [cell[0] for cell in row["cells"]][:2] for row in card["rows"]}
    assert rows["Mean rank"] == [format.decimals(value) for value in ranks["mean_rank"].head(2)]
    for family in ("localisation", "faithfulness"):
        assert rows[family.capitalize()] == [format.decimals(value) for value in ranks[family].head(2)]
    costs = {cost: [findings.row("lap", name, cost) for name in names] for cost in ("forwards", "seconds")}
    assert rows["Forward passes"] == [format.count(row["mean"]) for row in costs["forwards"] if row is not None]
    assert rows["Time"] == [format.duration(row["mean"]) for row in costs["seconds"] if row is not None]


def test_no_number_of_the_page_has_an_exponent(page: str) -> None:
    text = re.sub(r"<style>.*?</style>|<script>.*?</script>|<[^>]*>", " ", page, flags=re.DOTALL)
    assert not re.search(r"\d\.?\d*e[+\-−]\d", text)


def test_names_are_escaped_everywhere() -> None:
    data = RunData(synthetic.record(), few(synthetic.scores(3)))
    evil = "<script>alert(1)</script>"
    for part in ("models", "explainers", "metrics"):
        getattr(data.record, part)[0].title = evil
    data.record.name = data.record.problems[0].what = data.record.config["name"] = evil
    found = analyse(data, Resampling(resamples=50))
    text = render_page(found, make_figure_set(found, forms=()))
    assert text.count("<script") == 1
    assert "alert(1)</script>" not in text
    assert "&lt;script&gt;" in text


def test_an_empty_run_still_has_its_page_and_tables(tmp_path: Path) -> None:
    paths = write_report(NOTHING, tmp_path)
    assert sorted(path.suffix for path in paths) == [*[".csv"] * 6, ".html", ".md", ".tex"]
    text = (tmp_path / "report.html").read_text(encoding="utf-8")
    assert "No scores have been computed yet" in text
    assert "unfinished" in text
    assert "<dt>Platform</dt><dd>–</dd>" in text
    assert "– px; – training" in text
    assert tuple(pd.read_csv(tmp_path / "tables" / "summary.csv").columns) == COLUMNS


@pytest.mark.parametrize("key", sorted(synthetic.meta()))
@pytest.mark.parametrize("null", [False, True])
def test_any_key_of_the_description_may_be_missing_or_null(findings: RunAnalysis, key: str, null: bool) -> None:
    meta = synthetic.meta()
    meta.pop(key)
    if null:
        meta[key] = None
    data = RunData(RunRecord.model_validate(meta), findings.data.scores)
    again = replace(findings, data=data, examples=())
    assert "</html>" in render_page(again, [])


def test_entries_may_lack_everything_but_their_name(tmp_path: Path) -> None:
    meta = synthetic.meta()
    for part in ("models", "explainers", "metrics"):
        meta[part] = [{"name": entry["name"]} for entry in meta[part]]
    meta["dataset"], meta["git"], meta["problems"] = {}, {}, [{}]
    assert (tmp_path / "report.html") in write_report(
        RunData(RunRecord.model_validate(meta), few(synthetic.scores(images=3))), tmp_path
    )


def test_a_run_with_one_image_and_only_controls_renders() -> None:
    scores = few(synthetic.scores(images=1))
    scores = scores[scores["explainer"].isin(["random", "mask"])]
    found = analyse(RunData(synthetic.record(), scores))
    assert {figure.section for figure in make_figure_set(found, forms=())} == {"ranks", "scores", "cost"}
    assert set(found.gates["verdict"]) == {"not judged"}
    assert "only ranked explainer" in judge(found).leader


# --- the statistics in sentences ------------------------------------------------------------------------------------


def shifted(explainer: str, by: float) -> RunAnalysis:
    """The made-up run with one explainer better (or worse) on every score."""
    data = synthetic.run(images=16)
    scores = data.scores.copy()
    worse = scores["metric"].isin(["pf_morf"])
    mine = scores["explainer"] == explainer
    scores.loc[mine, "value"] += np.where(worse[mine], -by, by)
    return analyse(RunData(data.record.model_copy(deep=True), scores), Resampling(resamples=200))


def test_a_win_on_all_metrics_has_no_opponent_ahead() -> None:
    (summary,) = network_summaries(shifted("lap", 2))
    assert sum(len(metric.external["ahead"]) for metric in summary.metrics) == 28
    assert all(not metric.external["behind"] for metric in summary.metrics)


def test_a_loss_on_all_metrics_is_behind_everywhere_and_controls_are_named() -> None:
    analysis = shifted("lap", -2)
    (summary,) = network_summaries(analysis)
    assert sum(len(metric.external["behind"]) for metric in summary.metrics) == 28
    assert "Not ahead of the controls" in render_page(analysis, [])


def test_the_verdicts_by_metric_agree_with_the_paired_table(findings: RunAnalysis) -> None:
    (summary,) = network_summaries(findings)
    externals = findings.paired[findings.paired["explainer"].isin(["grad_cam", "integrated_gradients", "lime", "shap"])]
    for verdict in ("ahead", "level", "behind"):
        listed = sum(len(metric.external[verdict]) for metric in summary.metrics)
        assert listed == (externals["verdict"] == verdict).sum()


def test_the_twin_is_named_with_its_best_explainer_and_accuracy(findings: RunAnalysis) -> None:
    text = " ".join(other_networks(findings))
    best = findings.ranks[findings.ranks["model"] == "plain"].iloc[0]["explainer"]
    assert findings.data.explainers[best].title in text
    assert all(share in text for share in ("95.3 %", "94.8 %"))


def test_unequal_numbers_of_images_are_told(findings: RunAnalysis) -> None:
    data = findings.data
    gap = (data.scores["explainer"] == "lime") & (data.scores["image_id"] == "test-0001")
    partial = analyse(RunData(data.record, data.scores[~gap]), Resampling(resamples=20))
    assert "fewer images than others" in caveats(partial)[0]
    assert "fewer" not in " ".join(caveats(findings))


# --- files ----------------------------------------------------------------------------------------------------------


def test_an_unwritable_folder_is_told_in_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write .*summary\.csv") as caught:
        write_report(NOTHING, tmp_path / "file")
    assert "\n" not in str(caught.value)
    assert [entry.name for entry in tmp_path.iterdir()] == ["file"]


def test_png_is_a_picture(findings: RunAnalysis) -> None:
    picture = Image.open(io.BytesIO(style.render(ranks_figure(findings), "png")))
    assert picture.size[0] == pytest.approx(7.2 * style.DPI, abs=1)
