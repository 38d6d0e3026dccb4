from __future__ import annotations

import numpy as np
import pandas as pd
import pytest
from helpers.scores import UP
from scipy import stats

from benchmarks.statistics import (
    Resampling,
    bootstrap_ci,
    hierarchical_ci,
    paired_differences,
    summarise,
    to_wide,
)
from benchmarks.statistics.intervals import draws, resample_means
from benchmarks.statistics.scores import blocks


def simulate(rng: np.random.Generator, seeds: int, images: int, of_seed: float, of_image: float) -> np.ndarray:
    """Simulate scores (seeds, images) with effects of seed and image, and noise; the true mean is 0."""
    effects = of_seed * rng.standard_normal((seeds, 1)) + of_image * rng.standard_normal((1, images))
    return effects + 0.3 * rng.standard_normal((seeds, images))


def table(block: np.ndarray, explainer: str = "e") -> pd.DataFrame:
    rows = [("m", explainer, "up", s, f"{i:03d}", value) for s, row in enumerate(block) for i, value in enumerate(row)]
    return pd.DataFrame(rows, columns=["model", "explainer", "metric", "seed", "image_id", "value"])


def test_one_seed_is_the_bootstrap_of_its_images() -> None:
    values = np.random.default_rng(0).random(25)
    assert hierarchical_ci(values[None], Resampling(seed=4)) == bootstrap_ci(values, Resampling(seed=4))
    gone = np.stack([values, np.full(25, np.nan)])
    assert hierarchical_ci(gone, Resampling(seed=4)) == bootstrap_ci(values, Resampling(seed=4))


def test_the_table_says_what_is_resampled() -> None:
    block = simulate(np.random.default_rng(1), 4, 20, 1.0, 1.0)
    single, both = (summarise(table(scores), [UP]).iloc[0] for scores in (block[:1], block))
    assert (single["seeds"], single["resampled"]) == (1, "images")
    assert (single["ci_low"], single["ci_high"]) == bootstrap_ci(block[0])
    assert (both["seeds"], both["resampled"]) == (4, "seeds and images")
    assert (both["ci_low"], both["ci_high"]) == hierarchical_ci(block)
    assert both["mean"] == pytest.approx(block.mean())


def test_draws_are_with_replacement_and_repeat() -> None:
    seeds, images = draws(3, 10, 500, 7)
    assert (seeds.sum(1) == 3).all()
    assert (images.sum(1) == 10).all()
    assert images.max() > 1
    draws.cache_clear()
    assert (draws(3, 10, 500, 7)[1] == images).all()


def test_resampled_means_by_hand() -> None:
    block = np.array([[1.0, 2.0, np.nan], [3.0, 5.0, 7.0]])
    seeds, images = draws(2, 3, 20, 0)
    means = resample_means(block, 20, 0)
    for r in range(20):
        rows = np.repeat([0, 1], seeds[r].astype(int))
        columns = np.repeat([0, 1, 2], images[r].astype(int))
        sample = block[np.ix_(rows, columns)]
        expected = np.nan if np.isnan(sample).all() else np.nanmean(sample)
        assert means[r] == pytest.approx(expected, nan_ok=True)


@pytest.mark.slow
def test_its_spread_is_that_of_theory() -> None:
    # variance of the crossed bootstrap: seed part (S-1)/S^2 s^2, image part (n-1)/n^2 s^2 (Owen 2007)
    rng = np.random.default_rng(3)
    seeds, images = rng.standard_normal(12), rng.standard_normal(300)
    means = resample_means(seeds[:, None] + images[None], 8000, 0)
    expected = seeds.var() / 12 + images.var() / 300
    assert means.var() == pytest.approx(expected, rel=0.06)


@pytest.mark.slow
@pytest.mark.parametrize(("of_seed", "of_image"), [(1.0, 1.0), (0.05, 1.0)])
def test_coverage_on_simulated_runs(of_seed: float, of_image: float) -> None:
    # 12 seeds, 30 images: what ignores the seeds, or draws images anew within each, covers too little
    rng = np.random.default_rng(5)
    runs, hit = 200, {"both": 0, "images": 0, "own": 0}
    for _ in range(runs):
        block = simulate(rng, 12, 30, of_seed, of_image)
        intervals = {
            "both": hierarchical_ci(block, resampling=Resampling(resamples=400)),
            "images": bootstrap_ci(block.mean(0), resampling=Resampling(resamples=400)),
            "own": hierarchical_ci(block, resampling=Resampling(resamples=400), shared=False),
        }
        for name, (low, high) in intervals.items():
            hit[name] += low <= 0 <= high
    # 95 % less the known shortness of 12 seeds, give or take three standard errors of 200 runs
    assert 0.87 <= hit["both"] / runs <= 1
    assert hit["own"] < hit["both"]
    if of_seed == 1.0:
        assert hit["images"] / runs < 0.85
    else:
        assert hit["own"] / runs < 0.8


def test_seeds_that_share_no_image_draw_their_own() -> None:
    block = np.full((2, 8), np.nan)
    block[0, :4], block[1, 4:] = [0, 1, 0, 1], [10, 11, 10, 11]
    assert hierarchical_ci(block) == hierarchical_ci(block, shared=False)
    low, high = hierarchical_ci(block)
    assert low < 1
    assert high > 10


@pytest.mark.parametrize("block", [np.full((2, 3), np.nan), np.array([[1.0], [2.0]])])
def test_too_little_has_no_interval(block: np.ndarray) -> None:
    assert np.isnan(hierarchical_ci(block)).all()


@pytest.mark.slow
def test_seeds_are_paired_with_themselves() -> None:
    # the second explainer lacks one seed and the order of seeds must not matter
    block = simulate(np.random.default_rng(2), 3, 12, 5.0, 1.0)
    both = pd.concat([table(block + 0.1, "own"), table(block, "other").query("seed != 1")])
    row = paired_differences(both.sample(frac=1, random_state=0), [UP], "own").iloc[0]
    assert row["difference"] == pytest.approx(0.1)
    assert row["ci_low"] == pytest.approx(0.1)
    assert row["verdict"] == "ahead"


def test_wide_tables_keep_what_is_all_nan_and_are_made_once() -> None:
    wide = to_wide(table(np.array([[np.nan, np.nan], [1.0, 2.0]])))
    assert to_wide(wide) is wide
    (block,) = blocks(wide).values()
    np.testing.assert_array_equal(block, [[np.nan, np.nan], [1.0, 2.0]])


def test_interval_of_equal_values_is_the_value() -> None:
    assert bootstrap_ci([0.3] * 7) == (0.3, 0.3)


def test_interval_is_scipys_percentile_interval() -> None:
    values = np.random.default_rng(3).normal(size=40)
    expected = stats.bootstrap(
        (values,), np.mean, n_resamples=2000, method="percentile", rng=np.random.default_rng(5)
    ).confidence_interval
    assert bootstrap_ci(values, Resampling(seed=5)) == pytest.approx((expected.low, expected.high))


@pytest.mark.slow
def test_interval_agrees_with_the_normal_theory_on_many_values() -> None:
    values = np.random.default_rng(0).normal(size=2000)
    half = 1.96 * values.std() / np.sqrt(len(values))
    assert bootstrap_ci(values) == pytest.approx((values.mean() - half, values.mean() + half), abs=0.01)


def test_interval_widens_with_the_level_and_repeats_with_the_seed() -> None:
    values = np.random.default_rng(1).random(30)
    low, high = bootstrap_ci(values, Resampling(0.9))
    wider = bootstrap_ci(values, Resampling(0.99))
    assert wider[0] < low < values.mean() < high < wider[1]
    assert bootstrap_ci(values, Resampling(0.9)) == (low, high)
    assert bootstrap_ci(values, Resampling(0.9, seed=1)) != (low, high)


def test_interval_drops_nan() -> None:
    values = [0.1, 0.4, np.nan, 0.9, np.nan]
    assert bootstrap_ci(values) == bootstrap_ci([0.1, 0.4, 0.9])


@pytest.mark.parametrize("values", [[], [0.5], [0.5, np.nan], [np.nan, np.nan]])
def test_interval_of_fewer_than_two_values_is_nan(values: list[float]) -> None:
    assert np.isnan(bootstrap_ci(values)).all()
