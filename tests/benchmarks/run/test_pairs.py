from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd
import pytest

from benchmarks.config.run import RunConfig
from benchmarks.report import write_report
from benchmarks.run.engine import Engine, Outcome
from benchmarks.run.pairs import Proof
from benchmarks.statistics.analysis import analyse
from benchmarks.store.record import PairRecord
from benchmarks.store.run_folder import read_run

PAIR: dict[str, Any] = {
    "name": "texture", "cue": "texture", "model": "lap", "train": 64, "val": 10, "test": 120,
    "images": 3, "least_user": 0, "most_twin": 1,
}  # fmt: skip
METRICS = ["auc", "pair_test"]


@pytest.fixture
def paired(warm: Callable[..., RunConfig]) -> Callable[..., RunConfig]:
    """Return a function that configures a tiny run with one pair, some of whose fields are changed."""
    return lambda **changes: warm(metrics=METRICS, pairs=[PAIR | changes])


def pair_scores(outcome: Outcome) -> pd.DataFrame:
    table = read_run(outcome.folder).scores
    return table[table["metric"].str.startswith("pair_")].reset_index(drop=True)


@pytest.mark.slow
def test_a_pair_is_scored_like_any_metric_and_resumed(paired: Callable[..., RunConfig]) -> None:
    config = paired()
    outcome = Engine(config).run()
    data, table = read_run(outcome.folder), pair_scores(outcome)
    (record,) = data.record.pairs
    assert outcome.problems == []
    assert (record.name, record.model, record.seed, record.refused, record.held_out) == ("texture", "lap", 0, "", 120)
    assert set(table["explainer"]) == {"lap", "grad_cam", "random"}
    assert set(table["model"]) == {"lap"}
    assert table["image_id"].str.startswith("texture/digits-with-cue/texture/test/").all()
    assert table.groupby(["explainer", "metric"])["image_id"].nunique().eq(record.images).all()
    control = table[(table["explainer"] == "random") & (table["metric"] == "pair_test")]["value"]
    assert (control == 0).all()
    # Costs of the pair's explanations are in no table.
    assert not data.scores[data.scores["metric"] == "seconds"]["image_id"].str.startswith("texture").any()
    again = Engine(config).run()
    assert again.computed == 0
    pd.testing.assert_frame_equal(pair_scores(again), table)
    for path in (outcome.folder / "cells").glob("*-pair_test-*.parquet"):
        path.unlink()
    assert Engine(config).run().computed == 2 * 3
    pd.testing.assert_frame_equal(pair_scores(outcome), table)
    analysis = analyse(read_run(outcome.folder))
    assert set(analysis.pairs["pair"]) == {"texture"}
    assert "pair_test" in set(analysis.summary[analysis.summary["rank"].notna()]["metric"])
    assert "pair_test" not in set(analysis.sizes["metric"])
    written = write_report(read_run(outcome.folder), outcome.folder)
    assert any(path.name == "pairs.csv" for path in written)


@pytest.mark.slow
def test_a_pair_that_fails_its_proof_is_refused_in_words_and_not_scored(paired: Callable[..., RunConfig]) -> None:
    outcome = Engine(paired(least_user=1.0)).run()
    (record,) = read_run(outcome.folder).record.pairs
    assert "follows a swapped cue on" in record.refused
    assert record.images == 0
    assert [problem.where for problem in outcome.problems] == ["pair texture, seed 0"]
    assert outcome.problems[0].what.startswith("refused: the user")
    assert outcome.failed == 0
    assert pair_scores(outcome).empty


@pytest.mark.slow
def test_a_metric_of_pairs_without_pairs_is_left_out_in_words(warm: Callable[..., RunConfig]) -> None:
    outcome = Engine(warm(metrics=METRICS)).run()
    assert [problem.where for problem in outcome.problems] == ["pair_test"]
    assert pair_scores(outcome).empty


class TestProof:
    right, wrong = np.array([True] * 10), np.array([False] * 10)

    def describe(self, user_count: int, twin_count: int, **correct: np.ndarray) -> PairRecord:
        from benchmarks.config.pairs import PairConfig

        follows = {"user": np.arange(10) < user_count, "twin": np.arange(10) < twin_count}
        proof = Proof({"user": self.right, "twin": self.right, **correct}, follows)
        return proof.describe(PairRecord(), PairConfig(name="a", cue="tag", model="lap"), 5)

    def test_a_user_that_follows_and_a_twin_that_does_not(self) -> None:
        record = self.describe(9, 1)
        assert (record.user_follows, record.twin_follows, record.refused, record.images) == (0.9, 0.1, "", 5)

    def test_a_user_that_does_not_follow(self) -> None:
        record = self.describe(4, 0)
        assert "the user follows a swapped cue on 40%" in record.refused
        assert record.images == 0

    def test_a_twin_that_follows(self) -> None:
        assert "the twin follows a swapped cue on 30%" in self.describe(9, 3).refused

    def test_networks_that_are_never_right(self) -> None:
        assert self.describe(9, 0, user=self.wrong).refused
