"""The page in a real browser: nothing sticks out on a phone, the script sorts, the dark is dark, nothing is refused."""

from __future__ import annotations

import base64
import hashlib
import html
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers import runs as synthetic
from PIL import Image

from benchmarks.report import RunData, analyse
from benchmarks.report.figures.figure_set import make_figure_set
from benchmarks.report.page import render_page
from benchmarks.statistics import Resampling
from benchmarks.store.record import RunRecord

CHROMIUM = shutil.which("chromium") or shutil.which("chromium-browser") or shutil.which("google-chrome")
pytestmark = [pytest.mark.slow, pytest.mark.skipif(CHROMIUM is None, reason="no Chromium on this machine")]
PHONE, DESK = 390, 1280
DARK = "--blink-settings=preferredColorScheme=0"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    meta = synthetic.meta()
    meta["dataset"]["areas"] = synthetic.areas(16)
    scores = synthetic.transformed(synthetic.scores(16))
    scores = scores[scores["metric"].isin(["mass", "auc", "pf_diff", "fc", "seconds", "forwards"])]
    analysis = analyse(
        RunData(RunRecord.model_validate(meta), scores, synthetic.gallery(images=3, size=32)), Resampling(resamples=200)
    )
    target = tmp_path_factory.mktemp("page") / "report.html"
    target.write_text(render_page(analysis, make_figure_set(analysis, forms=())), encoding="utf-8")
    return target


def run_browser(folder: Path, *arguments: str) -> str:
    command = [
        str(CHROMIUM), "--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--no-first-run",
        f"--user-data-dir={folder / 'profile'}", "--virtual-time-budget=4000", *arguments,
    ]  # fmt: skip
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=True).stdout


def evaluate(page: Path, folder: Path, question: str, width: int, *arguments: str) -> Any:
    """Evaluate a JavaScript expression on the page in a frame of this width.

    The page's policy is kept, and the script's hash is added to it. A frame is needed, because the browser's own window
    is never narrower than 500 pixels.
    """
    script = f"window.addEventListener('load', () => {{ parent.document.title = JSON.stringify({question}); }});"
    allowed = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    text = page.read_text(encoding="utf-8").replace("script-src ", f"script-src 'sha256-{allowed}' ")
    text = text.replace("</body>", f"<script>{script}</script></body>")
    head = '<!doctype html><meta charset="utf-8"><meta name="color-scheme" content="light dark"><title></title>'
    frame = f'<iframe style="border:0" width="{width}" height="900" srcdoc="{html.escape(text)}"></iframe>'
    probe = folder / "probe.html"
    probe.write_text(head + frame, encoding="utf-8")
    dom = run_browser(folder, "--window-size=1400,1000", *arguments, "--dump-dom", probe.as_uri())
    return json.loads(html.unescape(re.findall(r"<title>(.*?)</title>", dom, re.DOTALL)[0]))


def screenshot(page: Path, folder: Path, width: int, *arguments: str) -> np.ndarray:
    target = folder / f"shot{width}.png"
    run_browser(folder, f"--window-size={width},2000", *arguments, f"--screenshot={target}", page.as_uri())
    return np.asarray(Image.open(target).convert("RGB"))


@pytest.mark.parametrize("width", [PHONE, 768, DESK])
def test_nothing_sticks_out(page: Path, tmp_path: Path, width: int) -> None:
    question = """document.querySelectorAll("details").forEach((d) => { d.open = true; }) || {
        seen: innerWidth, scroll: document.documentElement.scrollWidth,
        out: Array.from(document.querySelectorAll("section *:not(.scroll *):not(pre *)"))
            .filter((e) => e.getBoundingClientRect().right > innerWidth + 1).map((e) => e.tagName)
    }"""
    layout = evaluate(page, tmp_path, question, width)
    assert layout["seen"] == width
    assert layout["scroll"] <= width
    assert layout["out"] == []


def test_cards_fit_on_a_phone_without_scrolling(page: Path, tmp_path: Path) -> None:
    question = "Array.from(document.querySelectorAll('.cards .scroll')).map((e) => e.scrollWidth - e.clientWidth)"
    overhang = evaluate(page, tmp_path, question, PHONE)
    assert overhang
    assert max(overhang) <= 0


def test_print_unfolds_everything_and_folds_it_again(page: Path, tmp_path: Path) -> None:
    question = """(() => {
        const folded = () => document.querySelectorAll("details:not([open])").length, before = folded();
        dispatchEvent(new Event("beforeprint"));
        const printed = folded();
        dispatchEvent(new Event("afterprint"));
        return [before, printed, folded()];
    })()"""
    before, printed, after = evaluate(page, tmp_path, question, DESK)
    assert before == after > 8
    assert printed == 0


def test_an_anchor_unfolds_its_section(page: Path, tmp_path: Path) -> None:
    for anchor in ("cost", "provenance"):
        dom = run_browser(tmp_path, "--dump-dom", f"{page.as_uri()}#{anchor}")
        opened = re.findall(r'<section id="(\w+)"><details class="fold" open', dom)
        assert anchor in opened
        assert {"cost", "provenance"} - {anchor} - set(opened)


def test_phones_get_the_narrow_figures_and_desks_the_wide(page: Path, tmp_path: Path) -> None:
    question = """Array.from(document.querySelectorAll("picture")).map((p) => {
        const image = p.querySelector("img"), narrow = p.querySelector("source").srcset;
        return [image.naturalWidth, image.currentSrc === narrow, image.currentSrc === image.src]; })"""
    phone, desk = (evaluate(page, tmp_path, question, width) for width in (PHONE, DESK))
    assert len(phone) == len(desk) > 6
    assert all(width > 0 and narrow for width, narrow, _ in phone)
    assert all(width > 0 and wide for width, _, wide in desk)


def test_every_picture_is_drawn(page: Path, tmp_path: Path) -> None:
    question = """(document.querySelectorAll("details").forEach((d) => { d.open = true; }),
        Array.from(document.images).map((i) => i.complete && i.naturalWidth > 0))"""
    drawn = evaluate(page, tmp_path, question, DESK)
    assert len(drawn) > 12
    assert all(drawn)


def test_a_click_sorts_and_the_unknown_stays_last(page: Path, tmp_path: Path) -> None:
    question = """(() => {
        const table = document.querySelector("#leaderboard table.sortable");
        const column = () => Array.from(table.tBodies[0].rows).map((row) => row.cells[1].dataset.v);
        const head = table.tHead.rows[0].cells[1], before = column();
        head.querySelector("button").click();
        const up = column(), first = head.getAttribute("aria-sort");
        head.querySelector("button").click();
        return {before, up, down: column(), first, second: head.getAttribute("aria-sort")};
    })()"""
    layout = evaluate(page, tmp_path, question, DESK)
    values = [float(value) for value in layout["up"] if value != "nan"]
    assert (layout["first"], layout["second"]) == ("ascending", "descending")
    assert values == sorted(values)
    assert len(values) == len(layout["before"]) - 1
    assert layout["up"][-1] == layout["down"][-1] == "nan"
    assert [float(value) for value in layout["down"][:-1]] == values[::-1]


def test_dark_mode_is_dark_figures_too(page: Path, tmp_path: Path) -> None:
    light, dark = screenshot(page, tmp_path, DESK), screenshot(page, tmp_path, DESK, DARK)
    assert light.mean() > 200
    assert dark.mean() < 70
    # no large bright card is left: figures turn dark with the page
    assert (dark.min(-1) > 230).mean() < 0.02


def test_text_has_contrast_in_both_modes(page: Path, tmp_path: Path) -> None:
    question = """(() => {
        const light = (c) => { const [r, g, b] = c.match(/[\\d.]+/g).slice(0, 3).map(Number).map((v) => {
            v /= 255; return v <= 0.03928 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4; });
            return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
        const behind = (e) => { for (; e; e = e.parentElement) { const c = getComputedStyle(e).backgroundColor;
            if (!/, 0\\)$/.test(c)) return c; } return "rgb(255, 255, 255)"; };
        return Array.from(document.querySelectorAll("p, li, td, th, a, summary, figcaption, small, dd, dt"))
            .map((e) => { const a = light(getComputedStyle(e).color), b = light(behind(e));
                return [e.tagName, (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05)]; })
            .filter(([, ratio]) => ratio < 4.5);
    })()"""
    assert evaluate(page, tmp_path, question, DESK) == []
    assert evaluate(page, tmp_path, question, DESK, DARK) == []


def test_without_the_script_all_is_there(page: Path, tmp_path: Path) -> None:
    bare = tmp_path / "bare.html"
    bare.write_text(
        re.sub(r"<script>.*?</script>", "", page.read_text(encoding="utf-8"), flags=re.DOTALL), encoding="utf-8"
    )
    question = (
        "[document.querySelectorAll('th button').length, document.querySelectorAll('#leaderboard tbody tr').length]"
    )
    assert evaluate(bare, tmp_path, question, DESK) == [0, 19]
