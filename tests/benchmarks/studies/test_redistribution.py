"""The figure of the idea: what it shows is what the network has, on a network that has hardly learned."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image

from benchmarks.studies import redistribution
from benchmarks.studies.redistribution import Example, make_examples, redistribution_figure, run

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def examples() -> list[Example]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(redistribution, "TRAIN", 200)
        return make_examples(epochs=2, count=1, seed=0)


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


def test_each_grid_has_the_sum_of_the_head(examples: list[Example]) -> None:
    (example,) = examples
    for grids in example.grids:
        assert [grid.shape for grid in grids] == [(7, 7), (14, 14), (28, 28), (56, 56)]
        scale = np.abs(grids[0]).sum()
        assert [grid.sum() for grid in grids] == pytest.approx([grids[0].sum()] * 4, abs=1e-5 * scale)
    attached, trained = example.grids
    np.testing.assert_array_equal(attached[0], trained[0])
    assert not np.allclose(attached[-1], trained[-1], rtol=1e-4, atol=0)


def test_the_figure_prints_the_sums(examples: list[Example]) -> None:
    figure = redistribution_figure(examples)
    texts = words(figure)
    total = float(examples[0].grids[0][0].sum())
    expected = f"sum {total:+.2f}\nwith bias {total + examples[0].bias:+.2f}".replace("-", "\N{MINUS SIGN}")
    assert texts.count(expected) == 8
    assert {"as attached", "trained", "head, 7 × 7 cells", "14 × 14 cells", "56 × 56 pixels"} <= set(texts)


def test_the_file_is_written(examples: list[Example], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redistribution, "make_examples", lambda *_: examples)
    (path,) = run(tmp_path / "new")
    with Image.open(path) as picture:
        assert picture.format == "PNG"
        assert min(picture.size) > 300
