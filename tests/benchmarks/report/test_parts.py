"""What the page shows beside scores and ranks: gate, sizes, ablations, pairs, audit, seeds; and the files' making."""

from __future__ import annotations

import base64
import io
import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pandas as pd
import pytest
from fontTools.ttLib import TTFont
from helpers import runs as synthetic
from PIL import Image

from benchmarks.report import Gallery, RunData, analyse, files, images_to_keep, page_tables
from benchmarks.report.figures import palette, style
from benchmarks.report.figures import svg as vector
from benchmarks.report.figures.figure_set import make_figure_set
from benchmarks.report.figures.pairs import TILE, strip
from benchmarks.report.figures.scores import ranks_figure
from benchmarks.report.figures.sizes import sizes_figure
from benchmarks.report.page import render_page
from benchmarks.report.summary_text import caveats
from benchmarks.report.verdict import judge
from benchmarks.statistics import Resampling
from benchmarks.statistics.analysis import RunAnalysis
from benchmarks.store.record import RunRecord

pytestmark = pytest.mark.slow


def full(images: int = 24, seeds: tuple[int, ...] = (0,)) -> RunData:
    """A made-up run with all that the report knows: areas, transformed maps, audit, caveats, traceback."""
    meta = synthetic.meta()
    meta["dataset"]["areas"] = synthetic.areas(images)
    scores = synthetic.transformed(synthetic.scores(images, seeds=seeds))
    return RunData(RunRecord.model_validate(meta), scores, synthetic.gallery(images=5, size=32))


@pytest.fixture(scope="module")
def findings() -> RunAnalysis:
    return analyse(full(), Resampling(resamples=100))


@pytest.fixture(scope="module")
def page(findings: RunAnalysis) -> str:
    return render_page(findings, [])


class Section(HTMLParser):
    """Text of one section of the page."""

    def __init__(self, page: str, name: str) -> None:
        super().__init__()
        self.inside, self.parts, self.name = False, [], name
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        if tag == "section":
            self.inside = dict(attrs).get("id") == self.name

    def handle_data(self, data: str) -> None:
        if self.inside:
            self.parts.append(data)

    @property
    def text(self) -> str:
        return " ".join(" ".join(self.parts).split())


# --- gate -----------------------------------------------------------------------------------------------------------


def upside_down(metric: str) -> RunData:
    """The made-up run with one metric that puts random maps first."""
    data = full()
    scores = data.scores.copy()
    scores.loc[(scores["metric"] == metric) & (scores["explainer"] == "random"), "value"] += 5
    return RunData(data.record, scores, data.gallery)


def test_a_failing_metric_is_shown_with_its_reason_and_left_out_of_the_mean_rank(tmp_path: Path) -> None:
    found = analyse(upside_down("fc"), Resampling(resamples=50))
    assert set(found.gates.query("verdict == 'failed'")["metric"]) == {"fc"}
    row = found.ranks.query("model == 'lap' and explainer == 'lap'").iloc[0]
    assert (row["metrics"], row["metrics_all"]) == (6, 7)
    assert found.row("lap", "lap", "fc") is not None
    text = render_page(found, [])
    assert "the median method is not better than random" in Section(text, "trust").text
    assert "With gated metrics" in Section(text, "leaderboard").text
    assert "Left out of the mean rank" in Section(text, "certainty").text
    assert found.tests["lap"].blocks == 6
    files.write_tables(found, tmp_path)
    assert "failed" in set(pd.read_csv(tmp_path / "gate.csv")["verdict"])


@pytest.mark.parametrize(("place", "metrics"), [(0, 6), (1, 7)])  # those that pass the gate, then all
def test_ticks_of_mean_ranks_are_those_the_mean_is_of(place: int, metrics: int) -> None:
    panel = ranks_figure(analyse(upside_down("fc"), Resampling(resamples=50))).axes[place]
    page_tables = [line for line in panel.lines if line.get_marker() == "|"]
    dots = [line for line in panel.lines if line.get_marker() != "|" and len(line.get_xdata()) == 1]
    assert len(page_tables) == len(dots) > 0
    shown = [(ticks, dot) for ticks, dot in zip(page_tables, dots, strict=True) if len(ticks.get_xdata())]
    assert len(shown) > len(page_tables) // 2
    for ticks, dot in shown:
        assert len(ticks.get_xdata()) == metrics
        assert np.mean(ticks.get_xdata()) == pytest.approx(dot.get_xdata()[0])


def test_with_all_metrics_passing_there_is_no_second_column(page: str) -> None:
    assert "With gated metrics" not in page
    assert "Left out of the mean rank" not in page


def test_if_no_metric_passes_nothing_is_ranked_and_the_page_says_so() -> None:
    data = full(images=16)
    scores = data.scores.copy()
    scores.loc[scores["explainer"] == "random", "value"] += 5
    found = analyse(RunData(data.record, scores), Resampling(resamples=20))
    assert found.ranks["mean_rank"].isna().all()
    assert "tells good maps from bad ones" in judge(found).leader
    assert "</html>" in render_page(found, [])


# --- sizes, ablations, networks -------------------------------------------------------------------------------------


def test_sizes_are_shown_where_the_run_has_areas(findings: RunAnalysis, page: str) -> None:
    assert "small (2.0 % to 3.4 %)" in Section(page, "sizes").text
    figure = sizes_figure(findings, "lap")
    assert len([axes for axes in figure.axes if axes.axison]) == 4
    without = analyse(RunData(synthetic.record(), synthetic.scores(images=4)), Resampling(resamples=10))
    assert "does not say how large" in Section(render_page(without, []), "method").text


def test_transformed_maps_stand_in_the_ablations_and_nowhere_else(findings: RunAnalysis, page: str) -> None:
    assert not any("@" in name for name in findings.data.explainers)
    assert not findings.summary["explainer"].str.contains("@").any()
    assert not findings.degenerate["explainer"].str.contains("@").any()
    assert set(findings.transform_effects["explainer"]) == {"lap", "grad_cam"}
    (board,) = [
        board for board in page_tables.ablations(findings) if board["title"].startswith("smooth2, test_resnet with")
    ]
    assert {line["title"] for line in board["lines"]} == {"LAP (own)", "Grad-CAM"}
    before = [line["before"] for line in board["lines"]]
    assert before == sorted(before)
    assert sum(before) == pytest.approx(3)
    text = Section(page, "ablations").text
    assert "smooth2, test_resnet with LAP" in text
    assert "better" in text


def test_networks_are_compared_between_random_and_mask(findings: RunAnalysis) -> None:
    arms = page_tables.networks(findings)
    assert [(line["model"], line["role"]) for line in arms["lines"]] == [
        ("test_resnet, plain", "best external"),
        ("test_resnet with LAP", "own"),
        ("test_resnet with LAP", "best external"),
    ]
    assert all(0 < value < 1 for line in arms["lines"] for value in line["cells"])


# --- seeds ----------------------------------------------------------------------------------------------------------


def test_several_seeds_are_told_apart_in_tables_and_words() -> None:
    data = full(images=16, seeds=(0, 1, 2))
    data.record.models = [model.model_copy(update={"seed": seed}) for seed in (0, 1, 2) for model in data.record.models]
    found = analyse(data, Resampling(resamples=50))
    assert set(found.summary["resampled"]) == {"seeds and images"}
    assert "images and of training seeds" in " ".join(caveats(found))
    text = render_page(found, [])
    assert "Test-retest" in text
    assert "6 trained networks" in text
    assert len(found.data.models) == 2


def test_one_seed_is_said_to_cover_images_alone(findings: RunAnalysis, page: str) -> None:
    assert "The intervals cover the choice of images, not of the training run." in " ".join(caveats(findings))
    assert "Test-retest" not in page


# --- audit, problems, caveats ---------------------------------------------------------------------------------------


def test_audit_traceback_and_caveats_are_shown(page: str) -> None:
    audit = Section(page, "audit").text
    assert "AUC" in audit
    assert "< 0.000001" in audit
    assert "quantus" in audit
    assert "ValueError: one segment" in Section(page, "problems").text
    assert "test_resnet, plain : coarse maps" in Section(page, "method").text


@pytest.mark.parametrize("entry", [{}, {"metric": "auc", "largest": None}, {"largest": 0, "model": "gone"}])
def test_an_audit_may_lack_anything(entry: dict[str, Any]) -> None:
    data = RunData(synthetic.record(audit=[entry]), synthetic.scores(images=2))
    assert "</html>" in render_page(analyse(data, Resampling(resamples=5)), [])


# --- gallery and pairs ----------------------------------------------------------------------------------------------


def test_a_gallery_comes_back_from_its_arrays(tmp_path: Path) -> None:
    whole = synthetic.gallery(images=4, size=16)
    rows_of = {("lap", "lime"): np.array([1, 3])}
    maps = {**whole.maps, ("lap", "lime"): whole.maps["lap", "lime"][[1, 3]]}
    gallery = Gallery(whole.images, whole.masks, whole.ids, whole.labels, maps, rows_of)
    np.savez_compressed(tmp_path / "gallery.npz", **gallery.to_arrays())
    with np.load(tmp_path / "gallery.npz", allow_pickle=False) as content:
        again = Gallery.from_arrays(dict(content))
    assert again.ids == gallery.ids
    assert again.image_ids("lap", "lime") == {"test-0001", "test-0003"}
    assert again.image_ids("lap", "lap") == set(gallery.ids)
    assert again.shared_positions("lap") == [1, 3]
    assert again.shared_positions("plain") == [0, 1, 2, 3]
    np.testing.assert_allclose(again.map_of("lap", "lime", 3), maps["lap", "lime"][1], atol=2e-3)
    with pytest.raises(KeyError, match="no map of lime on lap"):
        again.map_of("lap", "lime", 0)
    assert again.positions("lap", "absent") == []


@pytest.mark.parametrize("scale", [1e6, 1e-7])
def test_maps_beyond_half_precision_keep_their_picture(scale: float) -> None:
    whole = synthetic.gallery(images=2, size=16)
    maps = {("lap", "lap"): np.abs(whole.maps["lap", "lap"]) * np.float32(scale)}
    again = Gallery.from_arrays(Gallery(whole.images, whole.masks, whole.ids, whole.labels, maps).to_arrays())
    for image in range(2):
        kept, given = again.maps["lap", "lap"][image], maps["lap", "lap"][image]
        np.testing.assert_allclose(kept / kept.max(), given / given.max(), atol=1e-3)


def test_the_images_the_report_wants_are_those_it_shows() -> None:
    data = full(images=16)
    wanted = images_to_keep(RunData(data.record, data.scores))
    assert set(wanted) == {("lap", name) for name in ("lap", "grad_cam", "integrated_gradients", "lime", "shap")}
    assert all(len(ids) == 3 for (_, name), ids in wanted.items() if name != "lap")
    ids = sorted({image for images in wanted.values() for image in images})
    size = synthetic.gallery(images=len(ids), size=16)
    maps = {pair: size.maps[pair][: len(images)] for pair, images in wanted.items()}
    places = {pair: np.array([ids.index(image) for image in images]) for pair, images in wanted.items()}
    kept = Gallery(size.images, size.masks, ids, size.labels, maps, places)
    found = analyse(RunData(data.record, data.scores, kept), Resampling(resamples=20)).examples
    assert len(found) == 12
    by_pair = {other: sorted(e.rank for e in found if e.explainer == other) for other in {e.explainer for e in found}}
    count = found[0].images
    assert all(spots == [1, (count + 1) // 2, count] for spots in by_pair.values())


def test_pairs_show_scores_and_places(findings: RunAnalysis, page: str) -> None:
    gallery = Section(page, "gallery").text
    assert "LAP (own) against Grad-CAM, test_resnet with LAP" in gallery
    example = next(e for e in findings.examples if e.role == "best")
    assert f"(image {example.rank} of {example.images})" in gallery
    assert example.image in findings.data.gallery.ids  # type: ignore[union-attr]


def test_a_strip_has_three_tiles_and_hatches_empty_maps(findings: RunAnalysis) -> None:
    example = next(e for e in findings.examples if e.explainer == "lime")
    picture = Image.open(io.BytesIO(strip(findings.data, example, "lap")))
    factor = round(TILE / 32)
    assert picture.size == (3 * 32 * factor + 2 * 4, 32 * factor)
    assert len(strip(findings.data, example, "lap")) < 40_000


def test_runs_without_gallery_have_no_pairs() -> None:
    found = analyse(RunData(synthetic.record(), synthetic.scores(images=4)), Resampling(resamples=10))
    assert found.examples == []
    assert "Best, median and worst" not in render_page(found, [])


# --- files ----------------------------------------------------------------------------------------------------------


def test_svg_carries_the_letters_it_uses(findings: RunAnalysis) -> None:
    text = style.render(ranks_figure(findings), "svg").decode()
    fonts = re.findall(r"font-weight:(\d+);src:url\(data:font/woff;base64,([^)]+)\)", text)
    assert [weight for weight, _ in fonts] == ["400", "700"]
    font = TTFont(io.BytesIO(base64.b64decode(fonts[0][1])))
    assert {ord(letter) for letter in "LAP (own)Grad-CAM"} <= set(font.getBestCmap())
    assert len(font.getBestCmap()) < 80


def test_pdf_embeds_its_fonts(findings: RunAnalysis) -> None:
    content = style.render(ranks_figure(findings), "pdf")
    assert b"/FontFile2" in content
    assert b"/Type3" not in content


def test_every_form_repeats_byte_for_byte(findings: RunAnalysis) -> None:
    for form in ("png", "svg", "pdf"):
        first, second = (style.render(ranks_figure(findings), form) for _ in range(2))
        assert first == second


def test_the_page_darkens_its_figures_and_the_files_do_not(findings: RunAnalysis) -> None:
    dark_of = {str(colour): colour.dark for colour in palette.FIGURES}
    figures = make_figure_set(findings, forms=())
    assert len(figures) > 8
    for figure in figures:
        svg = figure.wide["svg"].decode()
        used = {match.lower() for match in re.findall(r"(?:fill|stroke): (#[0-9a-fA-F]{6})", svg)}
        assert used <= set(dark_of), figure.name
        assert "prefers-color-scheme" not in svg
        light, dark = vector.for_page(svg.encode()).decode().split("@media (prefers-color-scheme:dark)")
        variables = dict(re.findall(r"--([\w-]+):(#[0-9a-f]{6})", light))
        assert set(variables.values()) == used
        assert set(re.findall(r"var\(--([\w-]+)\)", light)) == set(variables)
        assert dict(re.findall(r"--([\w-]+):(#[0-9a-f]{6})", dark)) == {
            name: dark_of[value] for name, value in variables.items()
        }


def test_colours_can_be_told_by_name_and_those_of_figures_by_value() -> None:
    assert len({colour.name for colour in palette.FIGURES}) == len(set(palette.FIGURES)) == len(palette.FIGURES)
    assert len({colour.name for colour in palette.PAGE}) == len(palette.PAGE)


def test_the_pages_figures_are_smaller_and_draw_the_same(findings: RunAnalysis) -> None:
    svg = style.render(ranks_figure(findings), "svg")
    whole, small = ElementTree.fromstring(svg), ElementTree.fromstring(vector.for_page(svg))
    assert len(vector.for_page(svg)) < 0.6 * len(svg)
    for tag in ("path", "use", "text"):
        parts = [list(root.iter(f"{{http://www.w3.org/2000/svg}}{tag}")) for root in (whole, small)]
        assert len(parts[0]) == len(parts[1]) > 0
        assert [part.text for part in parts[0]] == [part.text for part in parts[1]]
        assert [str(p.get("d")).split() for p in parts[0]] == [str(p.get("d")).split() for p in parts[1]]
    assert "style" not in {name for element in small.iter() for name in element.attrib}


def test_tables_of_an_earlier_report_do_not_linger(findings: RunAnalysis, tmp_path: Path) -> None:
    files.write_tables(findings, tmp_path)
    assert (tmp_path / "ablations.csv").exists()
    again = files.write_tables(analyse(RunData(RunRecord(), pd.DataFrame())), tmp_path)
    assert not (tmp_path / "ablations.csv").exists()
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in again}
