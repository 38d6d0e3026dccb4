"""Networks side by side, each judged by its own map: LAP and its rivals, or LAP without one of its parts.

    python -m benchmarks.studies.tables.networks results/method-rivals

Reads a run's stored scores alone; writes tables/side_by_side.csv and .md into its folder. A network's map is LAP's, or
what a rival says of itself, else Grad-CAM. Ranks are over networks, by the mean over images and trainings; rank_low and
rank_high are the least and greatest of the mean ranks that the trainings of one seed have among themselves.

Limits: a metric that asks the network compares networks here, not maps alone, and a network that is sure of itself
falls deeper; accuracy stands beside. Times are of the machine that trained.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.store.atomic import write_atomically
from benchmarks.store.record import ModelRecord, RunRecord
from benchmarks.store.run_folder import read_run

OWN = ("lap", "intrinsic", "grad_cam")  # the first that a network has is its map
COST = ("forwards", "backwards")


def own_scores(scores: pd.DataFrame) -> pd.DataFrame:
    """Scores of each network's own map; `scores` has the columns model, explainer, metric, seed, image_id, value."""
    found = scores.groupby("model")["explainer"].unique()
    chosen = {model: next((name for name in OWN if name in names), None) for model, names in found.items()}
    return scores[scores["explainer"] == scores["model"].map(chosen)]


def side_by_side(scores: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """One row a network: its map, accuracy and step over the first network's, mean rank, every ranked metric's mean.

    Args:
        scores: of all maps.
        record: of the run.
    """
    own = own_scores(scores)
    means = own.pivot_table("value", "model", "metric", aggfunc="mean")
    ranked = {metric.name: metric.direction for metric in record.metrics if metric.ranked and metric.name in means}
    ranked = {name: direction for name, direction in ranked.items() if direction != "none"}
    by_seed = pd.DataFrame({seed: _mean_ranks(part, ranked) for seed, part in own.groupby("seed")})
    table = pd.DataFrame(
        {
            "map": own.groupby("model")["explainer"].first(),
            "trainings": own.groupby("model")["seed"].nunique(),
            "accuracy": _by_model(record, lambda model: model.test_accuracy),
            "step": _steps(record),
            "train_seconds": _by_model(record, lambda model: model.train_seconds),
            "mean_rank": _mean_ranks(own, ranked),
            "rank_low": by_seed.min(axis=1),
            "rank_high": by_seed.max(axis=1),
            **{name: means[name] for name in COST if name in means},
            **{name: means[name] for name in ranked},
        }
    )
    return table.loc[means.index].sort_values("mean_rank")


def _mean_ranks(own: pd.DataFrame, directions: Mapping[str, str]) -> pd.Series:
    """Mean over the metrics of `directions` of each network's rank among the networks in `own`."""
    means = own.pivot_table("value", "model", "metric", aggfunc="mean")[list(directions)]
    signs = pd.Series({name: 1.0 if direction == "lower" else -1.0 for name, direction in directions.items()})
    return (means * signs).rank().mean(axis=1)


def _by_model(record: RunRecord, value: Callable[[ModelRecord], Any]) -> pd.Series:
    return pd.Series({name: np.mean([value(model) for model in own]) for name, own in _models(record).items()})


def _steps(record: RunRecord) -> pd.Series:
    """Seconds of a step of the first stage over those of the first network that was trained."""
    seconds = _by_model(record, lambda model: model.stages[0].step_seconds if model.stages else np.nan)
    return seconds / seconds.iloc[0]


def _models(record: RunRecord) -> dict[str, list[ModelRecord]]:
    names = dict.fromkeys(model.name for model in record.models)
    return {name: [model for model in record.models if model.name == name] for name in names}


def markdown(table: pd.DataFrame, record: RunRecord) -> str:
    """The table for people, the best of each metric in bold."""
    directions = {metric.name: metric.direction for metric in record.metrics}
    columns = [name for name in table if directions.get(str(name)) in ("higher", "lower")]
    best = {name: table[name].max() if directions[str(name)] == "higher" else table[name].min() for name in columns}

    def cell(name: str, value: Any) -> str:
        if not isinstance(value, float):
            return str(value)
        text = f"{value:.1%}" if name == "accuracy" else f"{value:.0f}" if name == "train_seconds" else f"{value:.3g}"
        return f"**{text}**" if name in best and value == best[name] else text

    names = [str(name) for name in table]
    rows = [[model, *(cell(name, value) for name, value in zip(names, row, strict=True))]
            for model, *row in table.itertuples()]  # fmt: skip
    lines = [["network", *names], ["---", *("---:" for _ in names)], *rows]
    about = "Each by its own map: LAP's, what a rival says of itself, else Grad-CAM. Step and ranks are over networks."
    table_lines = (f"| {' | '.join(line)} |" for line in lines)
    return "\n".join([f"# {record.name}: networks side by side", "", about, "", *table_lines, ""])


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("run", type=Path, help="folder of a run")
    folder = parser.parse_args(arguments).run
    run = read_run(folder)
    table = side_by_side(run.scores, run.record)
    place = folder / "tables" / "side_by_side.csv"
    place.parent.mkdir(exist_ok=True)
    write_atomically(place, table.to_csv(float_format="%.6g"))
    print(write_atomically(place.with_suffix(".md"), markdown(table, run.record)))


if __name__ == "__main__":
    main()
