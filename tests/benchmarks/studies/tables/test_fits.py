"""Fits of LAP beside external explainers that were computed once: what replaces what, and what is refused."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from helpers.runs import run

from benchmarks.statistics import Resampling
from benchmarks.statistics.analysis import analyse
from benchmarks.store.run_data import RunData
from benchmarks.studies.tables import fits
from benchmarks.studies.tables.fits import ALIKE, combine
from interp_core.errors import InterpError

pytestmark = pytest.mark.slow


def one_network() -> RunData:
    """Of all explainers on one network."""
    data = run()
    return replace(data, scores=data.scores[data.scores["model"] == "lap"], gallery=None)


def fit(every: RunData, gain: float = 0.1) -> RunData:
    """Better by `gain`, LAP and Grad-CAM alone; Grad-CAM as it was, but for the time it took."""
    lap_scores = every.scores[every.scores["explainer"] == "lap"]
    external = every.scores[every.scores["explainer"] == "grad_cam"].copy()
    external.loc[external["metric"] == "seconds", "value"] += 1.0
    return replace(every, scores=pd.concat([lap_scores.assign(value=lap_scores["value"] + gain), external]))


def test_lap_is_that_of_the_fits_and_the_rest_stays() -> None:
    every = one_network()
    both = combine(every, [fit(every), fit(every, 0.3)])
    assert both.record.seeds == [0, 1]
    before, after = (data.all_scores.groupby(["explainer", "metric"])["value"].mean() for data in (every, both))
    assert set(after.index) == set(before.index)
    assert after["lap", "mass"] == pytest.approx(before["lap", "mass"] + 0.2)
    others = [key for key in before.index if key[0] != "lap"]
    assert np.allclose(before[others], after[others], equal_nan=True)
    assert sorted(both.plain_scores.query("explainer == 'lap'")["seed"].unique()) == [0, 1]


def test_each_seed_of_a_run_is_a_fit() -> None:
    every = one_network()
    first, second = fit(every), fit(every, 0.3)
    second.scores.loc[second.scores["explainer"] == "lap", "seed"] = 1
    both = replace(first, scores=pd.concat([first.scores, second.scores]).drop_duplicates(ignore_index=True))
    by_seed, by_run = combine(every, [both, fit(every, 0.5)]), combine(every, [first, second, fit(every, 0.5)])
    assert by_seed.record.seeds == [0, 1, 2]
    means = [
        run.plain_scores.query("explainer == 'lap'").groupby(["metric", "seed"])["value"].mean()
        for run in (by_seed, by_run)
    ]
    pd.testing.assert_series_equal(*means)


def test_tables_can_be_made_of_both() -> None:
    every = one_network()
    ranks = [analyse(data, Resampling(resamples=20)).ranks.set_index("explainer")["mean_rank_all"] for data in
             (every, combine(every, [fit(every, -0.5)]))]  # fmt: skip
    assert ranks[1]["lap"] > ranks[0]["lap"]


def test_another_network_is_refused() -> None:
    every = one_network()
    changed = fit(every)
    changed.scores.loc[(changed.scores["explainer"] == "grad_cam") & (changed.scores["metric"] == "auc"), "value"] += (
        3 * ALIKE
    )
    with pytest.raises(InterpError, match=r"grad_cam has .* in auc of test-.* not the same network"):
        combine(every, [fit(every), changed])
    assert combine(every, [fit(every), changed], 4 * ALIKE).record.seeds == [0, 1]


def test_without_an_external_explainer_nothing_is_shown() -> None:
    every = one_network()
    changed = fit(every)
    with pytest.raises(InterpError, match="share no external explainer"):
        combine(every, [replace(changed, scores=changed.scores[changed.scores["explainer"] == "lap"])])


def test_seeds_are_not_mixed_up() -> None:
    every = one_network()
    changed = fit(every)
    with pytest.raises(InterpError, match="no external explainer in one seed"):
        combine(every, [replace(changed, scores=changed.scores.assign(seed=1))])


def test_other_images_are_refused() -> None:
    every = one_network()
    changed = fit(every)
    with pytest.raises(InterpError, match="48 and 47 images"):
        combine(every, [replace(changed, scores=changed.scores[changed.scores["image_id"] != "test-0001"])])


def test_tables_are_written_from_stored_runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    every = one_network()
    runs = {Path("every"): every, Path("one"): fit(every), Path("two"): fit(every)}
    monkeypatch.setattr(fits, "read_run", runs.__getitem__)
    fits.run(Path("every"), [Path("one"), Path("two")], tmp_path / "made")
    summary = pd.read_csv(tmp_path / "made" / "tables" / "summary.csv").set_index(["explainer", "metric"])
    assert summary.loc[("lap", "mass"), "seeds"] == 2
    assert summary.loc[("lap", "mass"), "n"] == summary.loc[("lime", "mass"), "n"]
