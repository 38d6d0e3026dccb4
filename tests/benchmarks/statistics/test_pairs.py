from __future__ import annotations

import numpy as np
import pandas as pd
import pytest

from benchmarks.statistics import PAIR_COLUMNS, Resampling, pair_shares, summarise_pair

FAST = Resampling(resamples=200)


def columns(user: list[float], twin: list[float], empty: list[float] | None = None) -> dict[str, np.ndarray]:
    first, second = np.array(user), np.array(twin)
    return {
        "pair_user": first,
        "pair_twin": second,
        "pair_test": np.log2(first / second),
        "pair_empty": np.array(empty or [0.0] * len(user)),
    }


def table(pair: str, explainer: str, values: dict[str, np.ndarray], seed: int = 0) -> pd.DataFrame:
    ids = [f"{pair}/image/{i}" for i in range(len(values["pair_user"]))]
    names = {"model": "lap", "explainer": explainer, "seed": seed, "image_id": ids}
    return pd.concat([pd.DataFrame({**names, "metric": name, "value": v}) for name, v in values.items()])


def test_both_ratios_and_the_share_of_images_are_those_of_a_small_example() -> None:
    summary = summarise_pair(columns([0.8, 0.2, 0.1], [0.2, 0.1, 0.1]), FAST)
    assert summary["user"] == pytest.approx(1.1 / 3)
    assert summary["ratio"] == pytest.approx(2.0)
    assert summary["ratio_of_means"] == pytest.approx(1.1 / 0.4)
    assert summary["ahead"] == pytest.approx(2 / 3)
    assert (summary["empty"], summary["n"]) == (0, 3)
    for name in ("user", "twin", "ratio", "ratio_of_means", "ahead"):
        assert summary[f"{name}_low"] <= summary[name] <= summary[f"{name}_high"]


def test_equal_maps_have_a_ratio_of_one_and_are_never_ahead() -> None:
    summary = summarise_pair(columns([0.3, 0.1], [0.3, 0.1]), FAST)
    assert summary["ratio"] == summary["ratio_of_means"] == 1
    assert summary["ratio_of_means_low"] == summary["ratio_of_means_high"] == 1
    assert summary["ahead"] == 0


def test_a_map_without_a_share_is_counted_and_not_ahead() -> None:
    values = columns([0.5, 0.5], [0.25, 0.25], [0, 1])
    summary = summarise_pair(values, FAST)
    assert (summary["empty"], summary["ahead"]) == (1, 0.5)


def test_a_twin_without_any_share_has_no_ratio_of_means() -> None:
    values = {**columns([0.5, 0.5], [1.0, 1.0]), "pair_twin": np.zeros(2)}
    assert np.isnan(summarise_pair(values, FAST)["ratio_of_means"])


def test_pairs_are_told_apart_by_their_images_and_seeds_are_averaged() -> None:
    first, second = columns([0.4, 0.4], [0.2, 0.2]), columns([0.4, 0.4], [0.4, 0.4])
    scores = pd.concat(
        [
            table("tag", "lap", first),
            table("tag", "lap", first, seed=1),
            table("tag", "random", second),
            table("texture", "lap", second),
            pd.DataFrame(
                {"model": "lap", "explainer": "lap", "seed": 0, "image_id": "x", "metric": "auc", "value": [1]}
            ),
        ]
    )
    shares = pair_shares(scores, resampling=FAST)
    assert tuple(shares.columns) == PAIR_COLUMNS
    by_pair = shares.set_index(["pair", "explainer"])
    assert set(by_pair.index) == {("tag", "lap"), ("tag", "random"), ("texture", "lap")}
    assert by_pair.loc[("tag", "lap"), "ratio"] == pytest.approx(2)
    assert by_pair.loc[("tag", "lap"), "n"] == 2
    assert by_pair.loc[("texture", "lap"), "ratio"] == 1


def test_a_run_without_pairs_has_an_empty_table() -> None:
    empty = pd.DataFrame({name: [] for name in ("model", "explainer", "metric", "seed", "image_id", "value")})
    shares = pair_shares(empty.astype({"image_id": str}), resampling=FAST)
    assert shares.empty
    assert list(shares.columns) == list(PAIR_COLUMNS)
