"""Compare networks by their own maps: LAP and its rivals, or LAP without one of its parts.

Command: `interp-bench study networks results/method-rivals`. Reads the stored scores of a run and writes
tables/side_by_side.csv and .md into its folder. A network's map is LAP's, or the one by which a rival explains itself,
else Grad-CAM. Ranks are over networks, by the mean over images and trainings. rank_low and rank_high are the lowest and
highest mean rank when only the trainings of one seed are compared.

Known limits: a metric that queries the network compares networks here, not maps alone, and the score of a confident
network falls more steeply; accuracy is shown beside. Times are of the machine that trained.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from benchmarks.store.atomic import write_atomically
from benchmarks.store.markdown import markdown_table
from benchmarks.store.record import ModelRecord, RunRecord
from benchmarks.store.run_folder import read_run

MAP_EXPLAINERS = ("lap", "intrinsic", "grad_cam")  # a network's map is from the first of these that it has
COST = ("forwards", "backwards")


def select_maps(scores: pd.DataFrame) -> pd.DataFrame:
    """Return the scores of each network's own map.

    Args:
        scores: columns model, explainer, metric, seed, image_id and value.
    """
    explainers = scores.groupby("model")["explainer"].unique()
    of_model = {
        model: next((name for name in MAP_EXPLAINERS if name in names), None) for model, names in explainers.items()
    }
    return scores[scores["explainer"] == scores["model"].map(of_model)]


def compare_networks(scores: pd.DataFrame, record: RunRecord) -> pd.DataFrame:
    """Build one row per network: map, accuracy, cost of a step, mean rank and the mean of every ranked metric.

    The cost of a step is relative to the first network's.

    Args:
        scores: of all maps.
        record: of the run.
    """
    maps = select_maps(scores)
    means = maps.pivot_table("value", "model", "metric", aggfunc="mean")
    ranked = {metric.name: metric.direction for metric in record.metrics if metric.ranked}
    ranked = {name: direction for name, direction in ranked.items() if name in means and direction != "none"}
    by_seed = pd.DataFrame({seed: _mean_ranks(rows, ranked) for seed, rows in maps.groupby("seed")})
    table = pd.DataFrame(
        {
            "map": maps.groupby("model")["explainer"].first(),
            "trainings": maps.groupby("model")["seed"].nunique(),
            "accuracy": _mean_by_model(record, lambda model: model.test_accuracy),
            "step": _relative_steps(record),
            "train_seconds": _mean_by_model(record, lambda model: model.train_seconds),
            "mean_rank": _mean_ranks(maps, ranked),
            "rank_low": by_seed.min(axis=1),
            "rank_high": by_seed.max(axis=1),
            **{name: means[name] for name in COST if name in means},
            **{name: means[name] for name in ranked},
        }
    )
    return table.loc[means.index].sort_values("mean_rank")


def _mean_ranks(maps: pd.DataFrame, directions: Mapping[str, str]) -> pd.Series:
    """Average each network's rank among the networks in `maps` over the metrics of `directions`."""
    means = maps.pivot_table("value", "model", "metric", aggfunc="mean")[list(directions)]
    signs = pd.Series({name: 1.0 if direction == "lower" else -1.0 for name, direction in directions.items()})
    return (means * signs).rank().mean(axis=1)


def _mean_by_model(record: RunRecord, value: Callable[[ModelRecord], Any]) -> pd.Series:
    """Average a value of every training over the trainings of each network."""
    names = dict.fromkeys(model.name for model in record.models)
    return pd.Series({name: np.mean([value(model) for model in record.models if model.name == name]) for name in names})


def _relative_steps(record: RunRecord) -> pd.Series:
    """Return the seconds of a step of the first stage over those of the first network that was trained."""
    seconds = _mean_by_model(record, lambda model: model.stages[0].step_seconds if model.stages else np.nan)
    return seconds / seconds.iloc[0]


def to_markdown(table: pd.DataFrame, record: RunRecord) -> str:
    """Format the table with the best value of each metric in bold."""
    directions = {metric.name: metric.direction for metric in record.metrics}
    metrics = [name for name in table if directions.get(str(name)) in ("higher", "lower")]
    best = {name: table[name].max() if directions[str(name)] == "higher" else table[name].min() for name in metrics}

    titles = {explainer.name: explainer.title for explainer in record.explainers}

    def format_cell(name: str, value: Any) -> str:
        if name == "map":
            return titles.get(value, value)
        if not isinstance(value, float):
            return str(value)
        text = f"{value:.1%}" if name == "accuracy" else f"{value:.0f}" if name == "train_seconds" else f"{value:.3g}"
        return f"**{text}**" if name in best and value == best[name] else text

    names = [str(name) for name in table]
    rows = [
        [model, *(format_cell(name, value) for name, value in zip(names, values, strict=True))]
        for model, *values in table.itertuples()
    ]
    introduction = (
        "Each by LAP's map, by what a rival says of itself, or else by Grad-CAM. Step and ranks are over networks."
    )
    text = markdown_table(pd.DataFrame(rows, columns=["network", *names]), names)
    return "\n".join([f"# {record.name}: networks side by side", "", introduction, "", text, ""])


def run(folder: Path) -> list[Path]:
    """Write the comparison of the networks of a run into its folder."""
    data = read_run(folder)
    table = compare_networks(data.scores, data.record)
    path = folder / "tables" / "side_by_side.csv"
    return [
        write_atomically(path, table.to_csv(float_format="%.6g")),
        write_atomically(path.with_suffix(".md"), to_markdown(table, data.record)),
    ]
