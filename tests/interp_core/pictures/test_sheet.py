"""The sheet: what stands on it, that nothing overlaps, and that it needs no global state."""

from __future__ import annotations

import io
import itertools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest
from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.text import Text
from matplotlib.transforms import Bbox
from PIL import Image

from interp_core.errors import ContractError
from interp_core.pictures import sheet as picture
from interp_core.pictures.png import encode_png
from interp_core.pictures.sheet import Panel, caption, sheet
from interp_core.pictures.top_regions import TopRegion

LEVELS = (("head", 2), ("blocks.3.0.conv_dw", 4), ("blocks.1", 8))
SCORED = LEVELS[:2]


def make_panel(seed: int = 0, *, height: int = 32, width: int = 32, **changes: Any) -> Panel:
    rng = np.random.default_rng(seed)
    panel = Panel(
        title=caption(7, 12.3456, 0.98765, "lesser panda, red panda, panda, bear cat, Ailurus fulgens"),
        image=rng.random((height, width, 3)),
        map=rng.normal(size=(height, width)),
        grids=tuple((name, rng.normal(size=(side, side))) for name, side in LEVELS),
        bias=-123.456,
        scores=tuple((name, rng.random((side, side))) for name, side in SCORED),
        regions=(TopRegion(2, 3, 10, 12, 0.31, 1.0, (4, 4)), TopRegion(20, 20, 30, 28, 0.2, 0.9, (22, 22))),
    )
    return replace(panel, **changes)


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def boxes(figure: Figure) -> dict[str, Bbox]:
    """Place of every text on the drawn figure, in pixels."""
    canvas = FigureCanvasAgg(figure)
    canvas.draw()
    texts = [text for text in figure.findobj(Text) if text.get_text().strip() and text.get_visible()]
    return {
        f"{number} {text.get_text()}": text.get_window_extent(canvas.get_renderer())
        for number, text in enumerate(texts)
    }


def shown(axes: Any) -> np.ndarray:
    return np.asarray(axes.images[0].get_array())


def test_caption_gives_class_logit_and_probability() -> None:
    assert caption(3, -1.5, 0.25) == "class 3: logit −1.50, probability 0.250"
    assert caption(3, 14.0, 0.9999, "leopard") == "class 3, leopard: logit +14.00, probability 1.000"
    long = caption(7, 12.0, 0.5, "a name, " * 30)
    assert long.endswith("…: logit +12.00, probability 0.500")
    assert len(long) < 90


def test_a_row_holds_every_map_in_order() -> None:
    panel = make_panel()
    figure = sheet([panel])
    pictures = [axes for axes in figure.axes if axes.images]
    assert len(pictures) == 2 + len(LEVELS) + len(SCORED)
    np.testing.assert_array_equal(shown(pictures[0]), panel.image)
    np.testing.assert_array_equal(shown(pictures[1]), picture.overlay(panel.image, panel.map.clip(min=0)))
    for axes, (_, values) in zip(pictures[2:], (*panel.grids, *panel.scores), strict=True):
        np.testing.assert_array_equal(shown(axes), values)
        assert axes.images[0].get_interpolation() == "nearest"


def test_colour_scales_of_contributions_are_centred_and_those_of_scores_absolute() -> None:
    panel = make_panel()
    _, _, *limits = (axes.images[0].get_clim() for axes in sheet([panel]).axes if axes.images)
    largest = [np.abs(values).max() for _, values in panel.grids]
    assert limits == [*((-high, high) for high in largest), *[(0, 1)] * len(SCORED)]


@pytest.mark.slow
def test_the_sum_under_the_contributions_is_computed_from_them() -> None:
    grids = ("head", np.array([[1.25, -0.5], [2.0, 0.0]])), ("below", np.array([[1.0, 1.5]]))
    panel = make_panel(grids=grids, bias=-0.25)
    texts = words(sheet([panel]))
    assert "sum +2.75, with the\nbias −0.25: logit +2.50" in texts
    assert "sum +2.50, with the\nbias −0.25: logit +2.25" in texts
    assert {"sum +2.75", "sum +2.50"} <= set(words(sheet([replace(panel, bias=None)])))


def test_headings_name_levels_and_grids() -> None:
    texts = words(sheet([make_panel()]))
    for expected in ("32 × 32 pixels", "8 × 8 cells; red: for", "concept, head", "2 × 2 cells", "boxed: 51 % of it"):
        assert expected in texts
    assert {"parts, head", "parts, blocks…conv_dw", "parts, blocks.1", "concept, blocks…conv_dw"} <= set(texts)


@pytest.mark.slow
def test_regions_are_drawn_around_their_pixels() -> None:
    figure = sheet([make_panel()])
    over = [axes for axes in figure.axes if axes.images][1]
    rectangles = [patch for patch in over.patches if isinstance(patch, Rectangle)]
    assert [(p.get_x(), p.get_y(), p.get_width(), p.get_height()) for p in rectangles] == [
        (2.5, 1.5, 9, 8),
        (19.5, 19.5, 8, 10),
    ]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("height", "width", "levels", "rows"), [(32, 32, 3, 2), (20, 60, 3, 1), (60, 20, 1, 2), (300, 10, 6, 1)]
)
def test_nothing_overlaps_and_all_lies_inside(height: int, width: int, levels: int, rows: int) -> None:
    grids = tuple((f"stages.{i}.blocks.0.conv{i}", np.full((2, 3), 0.5)) for i in range(levels))
    panels = [make_panel(seed, height=height, width=width, grids=grids, scores=grids) for seed in range(rows + 1)]
    figure = sheet(panels, rows=rows)
    text_boxes = boxes(figure)
    for (first, first_box), (second, second_box) in itertools.combinations(text_boxes.items(), 2):
        assert not first_box.overlaps(second_box), f"{first!r} lies over {second!r}"
    for text, box in text_boxes.items():
        assert figure.bbox.contains(box.x0, box.y0), text
        assert figure.bbox.contains(box.x1, box.y1), text
        for axes in figure.axes:
            assert not axes.images or not axes.bbox.overlaps(box), f"{text!r} lies over a picture"
    for one_axes, other_axes in itertools.combinations(figure.axes, 2):
        assert not one_axes.bbox.overlaps(other_axes.bbox)


@pytest.mark.slow
def test_says_how_many_of_how_many_are_shown() -> None:
    panels = [make_panel(seed) for seed in range(3)]
    assert "2 of 3 images shown" in words(sheet(panels, rows=2))
    assert "3 of 50 images shown" in words(sheet(panels, total=50))
    assert not any("shown" in text for text in words(sheet(panels)))
    assert len([text for text in words(sheet(panels, rows=2)) if text.startswith("class 7")]) == 2


@pytest.mark.slow
@pytest.mark.parametrize("broken", ["map", "grids", "scores"])
def test_a_map_that_cannot_be_shown_is_marked_and_the_rest_drawn(broken: str) -> None:
    panel = make_panel()
    maps = panel.map if broken == "map" else getattr(panel, broken)[1][1]
    maps.flat[0] = np.nan
    figure = sheet([panel])
    assert words(figure).count("no map\n(NaN or infinite)") == 1
    assert len([axes for axes in figure.axes if axes.images]) == 1 + len(LEVELS) + len(SCORED)
    assert not any("nan" in text for text in words(figure))
    assert encode_png(figure)


@pytest.mark.slow
@pytest.mark.parametrize("level", [0.0, -1.0])
def test_maps_that_are_nowhere_positive_are_drawn_and_named(level: float) -> None:
    panel = make_panel(map=np.full((32, 32), level), grids=(("head", np.zeros((4, 4))),), bias=0.0, regions=())
    figure = sheet([panel])
    assert "nowhere above zero" in words(figure)
    assert "sum +0.00, with the\nbias +0.00: logit +0.00" in words(figure)
    assert encode_png(figure)


@pytest.mark.slow
def test_class_names_are_not_taken_for_formulas() -> None:
    name = r"5$ \frac{ 6$"
    figure = sheet([make_panel(title=caption(1, 2.0, 0.5, name))])
    assert f"class 1, {name}: logit +2.00, probability 0.500" in words(figure)
    assert encode_png(figure)


@pytest.mark.slow
def test_png_has_the_size_of_the_figure() -> None:
    figure = sheet([make_panel()])
    with Image.open(io.BytesIO(encode_png(figure))) as decoded:
        assert decoded.format == "PNG"
        assert decoded.size == tuple(int(side * figure.dpi) for side in figure.get_size_inches())


@pytest.mark.slow
def test_the_users_settings_neither_show_nor_change() -> None:
    plain = encode_png(sheet([make_panel()]))
    settings: Any = {
        "figure.facecolor": "black", "savefig.facecolor": "black", "savefig.bbox": "tight", "savefig.dpi": 30,
        "text.color": "red", "axes.facecolor": "black", "axes.grid": True, "image.origin": "lower",
        "image.cmap": "gray", "image.aspect": "auto", "image.interpolation": "bicubic", "xtick.labelcolor": "red",
        "font.size": 30, "axes.spines.top": False,
    }  # fmt: skip
    with mpl.rc_context(settings):
        before = dict(mpl.rcParams)
        assert encode_png(sheet([make_panel()])) == plain
        assert dict(mpl.rcParams) == before


@pytest.mark.slow
def test_draws_in_threads_and_leaves_pyplot_alone() -> None:
    import matplotlib.pyplot as plt

    panels = [make_panel(seed) for seed in range(4)]
    alone = [encode_png(sheet([panel])) for panel in panels]
    with ThreadPoolExecutor(4) as pool:
        assert list(pool.map(lambda panel: encode_png(sheet([panel])), panels)) == alone
    assert plt.get_fignums() == []


@pytest.mark.slow
def test_matplotlib_is_not_imported_before_something_is_drawn() -> None:
    import subprocess
    import sys

    code = (
        "import sys, interp_core.pictures.sheet, interp_core.pictures.top_regions; print('matplotlib' in sys.modules)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


@pytest.mark.parametrize(
    ("panels", "message"),
    [
        ([], "at least one panel"),
        ([make_panel(), make_panel(grids=())], "equally many grids and scores"),
        ([make_panel(), make_panel(scores=())], "equally many grids and scores"),
        ([make_panel(), make_panel(map=np.zeros((32, 31)))], "panel 1: image"),
        ([make_panel(grids=(("head", np.zeros((1, 4, 4))),))], "panel 0: contributions and scores"),
        ([make_panel(scores=(("head", np.zeros((0, 4))),))], "panel 0: contributions and scores"),
    ],
)
def test_refuses_panels_that_do_not_fit(panels: list[Panel], message: str) -> None:
    with pytest.raises(ContractError, match=message):
        sheet(panels)


def test_refuses_no_rows() -> None:
    with pytest.raises(ContractError, match="one row"):
        sheet([make_panel()], rows=0)
