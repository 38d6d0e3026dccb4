"""Several fits of LAP on one frozen network, beside external explainers that were computed once.

    python -m benchmarks.studies.tables.fits results/method/pets results/method/pets_fits

The network answers alike whatever LAP on it was fitted to, so what an external explainer says of it, and how that is
judged, is the same for every fit. The first folder is a run of all explainers on one fit; the others are runs of LAP
and at least one external explainer on the same images, each seed of which is another fit. That external explainer must
have come out alike in a seed that both have, or nothing is written. LAP's scores of the first run are replaced by those
of the others; tables/ of the last folder, or of --into, are made of it all.

A head that was fitted again (`probe`) comes out a little otherwise on another machine: --alike then says by how much
scores may differ, of which the message names the largest.

Limit: what external explainers and metrics draw at random was drawn once. `draws`, the seed of the first run, has the
fits judged by the same draws; without it each fit has draws of its own. LAP's scores are means over the fits.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import pandas as pd

from benchmarks.report.files import write_tables
from benchmarks.statistics.analysis import analyse
from benchmarks.store.record import ModelRecord
from benchmarks.store.run_data import RunData
from benchmarks.store.run_folder import read_run

ALIKE = 1e-5
KEYS = ["explainer", "metric", "seed", "image_id"]  # of another seed, some metrics draw otherwise


def joined(every: RunData, fits: Sequence[RunData], alike: float = ALIKE) -> RunData:
    """The first run with the intrinsic explainers of the others in place of its own, those of each fit as a seed.

    Args:
        every: of all explainers.
        fits: of the intrinsic one and some external ones, on the same network, images and metrics.
        alike: most that a score of an external explainer may differ.

    Raises:
        SystemExit: the runs are not of the same images, or an external explainer was not scored alike.
    """
    intrinsic = {name for run in fits for name, info in run.explainers.items() if info.kind == "intrinsic"}
    own: list[pd.DataFrame] = []
    models: list[ModelRecord] = []
    for fit in fits:
        check_alike(every, fit, alike)
        for seed, rows in fit.plain_scores[fit.plain_scores["explainer"].isin(intrinsic)].groupby("seed"):
            models += [model.model_copy(update={"seed": len(own)}) for model in fit.record.models if model.seed == seed]
            own.append(rows.assign(seed=len(own)))
    rest = every.all_scores[~every.all_scores["explainer"].isin(intrinsic)]
    record = every.record.model_copy(update={"models": models, "seeds": list(range(len(own)))})
    return replace(every, record=record, scores=pd.concat([*own, rest], ignore_index=True), gallery=None)


def check_alike(every: RunData, fits: RunData, alike: float) -> None:
    """Whether both runs are of the same images and, in a seed that both have, say the same of an external explainer.

    Raises:
        SystemExit: they are not or do not, or they share none.
    """
    images = [set(run.plain_scores["image_id"]) for run in (every, fits)]
    if images[0] != images[1]:
        raise SystemExit(f"the runs are of {len(images[0])} and {len(images[1])} images, and not of the same")
    external = [name for name, info in fits.explainers.items() if info.kind == "external"]
    timed = [name for name, info in every.metrics.items() if info.family == "cost"]
    tables = [
        run.plain_scores[run.plain_scores["explainer"].isin(external) & ~run.plain_scores["metric"].isin(timed)]
        for run in (every, fits)
    ]
    both = tables[0].merge(tables[1], on=KEYS, suffixes=("_every", "_fits"))
    if both.empty:
        raise SystemExit(
            "the runs share no external explainer in one seed, so nothing shows that the network is the same"
        )
    both["apart"] = (both["value_every"] - both["value_fits"]).abs()
    worst = both.sort_values("apart", na_position="first").iloc[-1]
    if worst["apart"] > alike:
        raise SystemExit(
            f"{worst['explainer']} has {worst['value_every']:.6g} in {worst['metric']} of {worst['image_id']} in one "
            f"run and {worst['value_fits']:.6g} in the other: this is not the same network, metric or setting"
        )


def main(arguments: Sequence[str] | None = None) -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("every", type=Path, help="folder of a run of all explainers on one fit")
    parser.add_argument("fits", type=Path, nargs="+", help="folders of runs of LAP and an external explainer")
    parser.add_argument("--into", type=Path, help="folder whose tables/ is written; by default the last one's")
    parser.add_argument("--alike", type=float, default=ALIKE, help="most that an external explainer's score may differ")
    given = parser.parse_args(arguments)
    data = joined(read_run(given.every), [read_run(folder) for folder in given.fits], given.alike)
    folder = (given.into or given.fits[-1]) / "tables"
    folder.mkdir(parents=True, exist_ok=True)
    for path in write_tables(analyse(data), folder):
        print(path)


if __name__ == "__main__":
    main()
