from __future__ import annotations

import numpy as np
import pytest
from helpers import runs as synthetic
from helpers.reports import full_run

from benchmarks.report import Gallery, RunData, analyse, images_to_keep
from benchmarks.statistics import Resampling
from benchmarks.statistics.analysis import find_own_explainer

pytestmark = pytest.mark.slow


def test_the_images_the_report_wants_are_those_it_shows() -> None:
    data = full_run(images=16)
    wanted = images_to_keep(RunData(data.record, data.scores))
    assert set(wanted) == {("lap", name) for name in ("lap", "grad_cam", "integrated_gradients", "lime", "shap")}
    assert all(len(ids) == 3 for (_, name), ids in wanted.items() if name != "lap")
    ids = sorted({image for images in wanted.values() for image in images})
    size = synthetic.gallery(images=len(ids), size=16)
    maps = {pair: size.maps[pair][: len(images)] for pair, images in wanted.items()}
    places = {pair: np.array([ids.index(image) for image in images]) for pair, images in wanted.items()}
    kept = Gallery(size.images, size.masks, ids, size.labels, maps, places)
    analysis = analyse(RunData(data.record, data.scores, kept), Resampling(resamples=20)).examples
    assert len(analysis) == 12
    by_pair = {
        other: sorted(e.rank for e in analysis if e.explainer == other) for other in {e.explainer for e in analysis}
    }
    count = analysis[0].images
    assert all(spots == [1, (count + 1) // 2, count] for spots in by_pair.values())


@pytest.mark.parametrize(("kind", "left_out", "expected"), [
    ("amortised", "", "lap"),  # runs from before the decoders' map had a name of its own
    ("intrinsic", "lap", None),
    ("intrinsic", "", "lap"),
])  # fmt: skip
def test_the_run_is_about_lap_where_it_has_scores(kind: str, left_out: str, expected: str | None) -> None:
    scores = synthetic.scores(images=2)
    data = RunData(synthetic.with_kinds({"lap": kind}), scores[scores["explainer"] != left_out])
    assert find_own_explainer(data) == expected
