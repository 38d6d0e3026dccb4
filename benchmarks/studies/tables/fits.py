"""Combine several fits of LAP on one frozen network with external explainers that were computed once.

Command: `interp-bench study fits results/method/pets results/method/pets_fits`. A frozen network gives the same answers
whatever LAP was fitted to, so the maps of an external explainer and their scores are the same for every fit. The first
folder is a run of all explainers on one fit. The others are runs of LAP and at least one external explainer on the same
images, in which each seed is another fit. The scores of that external explainer must agree in a seed that both runs
have, otherwise nothing is written. LAP's scores of the first run are replaced by those of the others. The tables are
written into tables/ of the last folder, or of --into.

A head that was fitted again (`interp-bench study linear-probe`) differs slightly on another machine. --alike then sets
the largest difference of a score. The error message names the largest one.

Known limit: random numbers of external explainers and metrics were drawn once. With `draws`, the seed of the first run,
the fits are judged with the same random numbers; without it each fit has others. LAP's scores are means over the fits.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from benchmarks.report.files import write_tables
from benchmarks.statistics.analysis import analyse
from benchmarks.store.record import ModelRecord
from benchmarks.store.run_data import RunData
from benchmarks.store.run_folder import read_run
from interp_core.errors import InterpError

ALIKE = 1e-5
KEYS = ["explainer", "metric", "seed", "image_id"]  # with another seed some metrics draw other numbers


def combine(every: RunData, fits: Sequence[RunData], alike: float = ALIKE) -> RunData:
    """Replace the maps of the network itself in a run by those of other runs, each fit as a seed.

    Args:
        every: run of all explainers.
        fits: runs of LAP's explainers and some external ones, on the same network, images and metrics.
        alike: largest difference of a score of an external explainer.

    Raises:
        InterpError: the runs are of different images, or an external explainer was scored differently.
    """
    infos = [info for run in fits for info in run.explainers.values()]
    of_the_fit = {info.name for info in infos if not info.external and not info.control}
    scores: list[pd.DataFrame] = []
    models: list[ModelRecord] = []
    for fit in fits:
        check_alike(every, fit, alike)
        table = fit.plain_scores
        for seed, rows in table[table["explainer"].isin(of_the_fit)].groupby("seed"):
            seed_models = [model for model in fit.record.models if model.seed == seed]
            models += [model.model_copy(update={"seed": len(scores)}) for model in seed_models]
            scores.append(rows.assign(seed=len(scores)))
    external = every.all_scores[~every.all_scores["explainer"].isin(of_the_fit)]
    record = every.record.model_copy(update={"models": models, "seeds": list(range(len(scores)))})
    return replace(every, record=record, scores=pd.concat([*scores, external], ignore_index=True), gallery=None)


def check_alike(every: RunData, fits: RunData, alike: float) -> None:
    """Check that two runs have the same images and agree on an external explainer in a common seed.

    Raises:
        InterpError: they do not, or have no external explainer in common.
    """
    images = [set(run.plain_scores["image_id"]) for run in (every, fits)]
    if images[0] != images[1]:
        raise InterpError(f"the runs are of {len(images[0])} and {len(images[1])} images, and not of the same")
    both = _external_scores(every, fits).merge(_external_scores(fits, fits), on=KEYS, suffixes=("_every", "_fits"))
    if both.empty:
        raise InterpError(
            "the runs share no external explainer in one seed, so nothing shows that the network is the same"
        )
    both["difference"] = (both["value_every"] - both["value_fits"]).abs()
    worst = both.sort_values("difference", na_position="first").iloc[-1]
    if worst["difference"] > alike:
        raise InterpError(
            f"{worst['explainer']} has {worst['value_every']:.6g} in {worst['metric']} of {worst['image_id']} in one "
            f"run and {worst['value_fits']:.6g} in the other: this is not the same network, metric or setting"
        )


def _external_scores(run: RunData, fits: RunData) -> pd.DataFrame:
    """Return a run's scores of the external explainers of `fits`, without times."""
    external = [name for name, info in fits.explainers.items() if info.external]
    costs = [name for name, info in run.metrics.items() if info.family == "cost"]
    scores = run.plain_scores
    return scores[scores["explainer"].isin(external) & ~scores["metric"].isin(costs)]


def run(every: Path, fits: Sequence[Path], into: Path | None = None, alike: float = ALIKE) -> list[Path]:
    """Write the tables of all fits and explainers.

    Args:
        every: folder of a run of all explainers on one fit.
        fits: folders of runs of LAP and an external explainer.
        into: folder for tables/; None for the last of `fits`.
        alike: largest difference of a score of an external explainer.

    Raises:
        InterpError: the runs do not belong together.
    """
    data = combine(read_run(every), [read_run(folder) for folder in fits], alike)
    folder = (into or fits[-1]) / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    return list(write_tables(analyse(data), folder))
