"""The page has everything in it, loads nothing, and works in a browser."""

from __future__ import annotations

import html
import json
import re
from pathlib import Path
from typing import Any

import pytest
from helpers.browser import CHROMIUM, NO_BROWSER, evaluate, run_browser
from helpers.diagnoses import diagnosis, finding

from benchmarks.diagnosis.amending.config import AmendConfig
from benchmarks.diagnosis.output.page import amend_choice, caption, render_page, write_page

pytestmark = pytest.mark.slow
needs_browser = pytest.mark.skipif(CHROMIUM is None, reason=NO_BROWSER)
PHONE, DESK = 390, 1280
LONG = "a_name_without_any_space_" * 12


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("diagnosis")
    write_page(diagnosis(folder), folder)
    return folder


@pytest.fixture(scope="module")
def page(folder: Path) -> str:
    return (folder / "index.html").read_text(encoding="utf-8")


def test_nothing_is_loaded_from_outside(page: str) -> None:
    policy = re.findall(r'http-equiv="Content-Security-Policy" content="(.*?)"', page)
    assert "default-src 'none'" in policy[0]
    sources = re.findall(r'(?:src|href)="(.*?)"', page)
    assert sources
    assert all(source.startswith(("data:image/", "#")) for source in sources)
    assert "http://" not in page
    assert "https://" not in page


def test_all_findings_and_checks_are_there(page: str) -> None:
    for item in diagnosis().findings:
        assert f'id="finding-{item.number}"' in page
        assert html.escape(item.title) in page
    for check in diagnosis().checks:
        assert f'id="check-{check.name}"' in page
        assert html.escape(check.sentence) in page
    assert page.count("data:image/") == 4 + 2 + 1 + 1  # findings, check, summary
    assert "cannot be read" not in page
    assert "isic/broken" in page
    assert "83.0" in page


def test_names_are_escaped(tmp_path: Path) -> None:
    bad = "<script>alert(1)</script>\"'"
    item = finding(title=bad, key=bad, images=(bad,), terms=({"name": bad, "x": bad},), details={bad: bad}, check=bad)
    page = render_page(diagnosis(findings=(item,), unreadable={bad: bad}, network={"name": bad}), tmp_path)
    assert page.count("<script>") == 1


@pytest.mark.parametrize("fields", [{}, {"checks": ()}, {"accuracy": None, "data": {}, "network": {}, "classes": ()}])
def test_an_empty_diagnosis_has_a_page(fields: dict[str, Any], tmp_path: Path) -> None:
    page = render_page(diagnosis(findings=(), **fields), tmp_path)
    assert page.startswith("<!doctype html>")
    assert "data-choice=" not in page


def test_a_missing_picture_is_said(tmp_path: Path) -> None:
    page = render_page(diagnosis(findings=(finding(pictures=("pictures/gone.png",)),)), tmp_path)
    assert "pictures/gone.png cannot be read" in page


@pytest.mark.parametrize(
    ("name", "prefix", "expected"),
    [
        ("pictures/a-1-before_after-0.png", "a-1", "Before after 0"),
        ("check-x.png", "check-", "X"),
        ("x/a.png", "b", "A"),
    ],
)
def test_captions(name: str, prefix: str, expected: str) -> None:
    assert caption(name, prefix) == expected


@needs_browser
@pytest.mark.parametrize("width", [PHONE, 768, DESK])
def test_nothing_sticks_out(width: int, tmp_path: Path) -> None:
    wide = finding(title=LONG, classes=(LONG,), images=(LONG,), details={"name": LONG}, terms=({"name": LONG},))
    text = render_page(diagnosis(tmp_path, findings=(*diagnosis(tmp_path).findings, wide)), tmp_path)
    question = """(document.querySelectorAll("details").forEach((d) => { d.open = true; }), {
        inner: innerWidth, scroll: document.documentElement.scrollWidth,
        out: Array.from(document.querySelectorAll("body *:not(.scroll *, .strip *, pre *)"))
            .filter((e) => e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.tagName) })"""
    layout = evaluate(text, tmp_path, question, width)
    assert layout == {"inner": width, "scroll": width, "out": []}


@needs_browser
def test_ticks_make_the_configuration(page: str, folder: Path, tmp_path: Path) -> None:
    question = """(() => {
        const boxes = document.querySelectorAll("[data-choice]"), button = document.getElementById("download");
        const downloads = [], state = () => [document.getElementById("count").textContent, button.disabled];
        HTMLAnchorElement.prototype.click = function () { downloads.push([this.download, this.href.slice(0, 5)]); };
        const before = state();
        boxes[0].click(); boxes[1].click(); boxes[2].click(); boxes[1].click();
        button.click();
        return {before, after: state(), text: amendConfiguration(), downloads};
    })()"""
    result = evaluate(page, tmp_path, question, DESK)
    assert result["before"][1] is True
    assert result["after"] == ["2 findings ticked", False]
    assert result["downloads"] == [["amend.json", "blob:"]]
    config = AmendConfig.model_validate_json(result["text"])
    chosen = [diagnosis(folder).findings[index] for index in (0, 2)]
    assert [choice.model_dump(mode="json") for choice in config.amend] == [amend_choice(item) for item in chosen]
    assert config.findings == folder / "findings.json"


@needs_browser
def test_an_address_ticks_findings(folder: Path, tmp_path: Path) -> None:
    dom = run_browser(tmp_path, "--dump-dom", f"{(folder / 'index.html').as_uri()}#tick=1,2")
    (text,) = re.findall(r'<pre id="configuration".*?>(.*?)</pre>', dom, re.DOTALL)
    assert [choice["finding"] for choice in json.loads(html.unescape(text))["amend"]] == [1, 2]


@needs_browser
def test_the_keyboard_reaches_everything(page: str, tmp_path: Path) -> None:
    question = """(document.querySelectorAll("details").forEach((d) => { d.open = true; }),
        Array.from(document.querySelectorAll("a, summary, .scroll, .strip, [data-choice], pre:not([hidden])"))
        .map((e) => { e.focus(); return document.activeElement === e; }))"""
    reached = evaluate(page, tmp_path, question, DESK)
    assert len(reached) > 20
    assert all(reached)


@needs_browser
def test_text_has_contrast(page: str, tmp_path: Path) -> None:
    question = """(() => {
        const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(Number).map((v) => {
            v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        const behind = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
            if (!/, 0\\)$/.test(c)) return c; } return "rgb(255, 255, 255)"; };
        return Array.from(document.querySelectorAll("p, li, td, th, a, b, small, summary, figcaption, dd, dt, .badge"))
            .map((e) => { const a = light(getComputedStyle(e).color), b = light(behind(e));
                return [e.className, e.tagName, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]; })
            .filter(([, , ratio]) => ratio < 4.5);
    })()"""
    assert evaluate(page, tmp_path, question, DESK) == []


@needs_browser
def test_without_the_script_only_the_ticks_are_missing(page: str, tmp_path: Path) -> None:
    bare = re.sub(r"<script>.*?</script>", "", page, flags=re.DOTALL)
    question = """[document.getElementById("bar").hidden, document.querySelectorAll("article").length,
        Array.from(document.querySelectorAll(".tick")).filter((e) => e.offsetParent).length,
        Array.from(document.images).every((i) => i.complete && i.naturalWidth > 0)]"""
    assert evaluate(bare, tmp_path, question, DESK) == [True, 8, 0, True]
