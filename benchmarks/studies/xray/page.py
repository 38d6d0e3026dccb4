"""Write tables, page and figure of the X-ray study from its stored scores alone.

The published figure shows maps and boxes without the X-rays, which we may not publish.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.figure import Figure
from torch import Tensor

from baselines import explainers
from benchmarks.metrics import metrics
from benchmarks.report.figures.style import render, use_style
from benchmarks.statistics import paired_differences
from benchmarks.store.atomic import atomic_file, write_atomically
from benchmarks.store.markdown import markdown_table
from benchmarks.studies.xray.cluster_bootstrap import effective_persons, mean_interval, wins, wins_interval

METRICS = ("relevance_mass_accuracy", "relevance_rank_accuracy", "pointing_game", "auc")
CONTROLS = ("random", "centre_gaussian", "edges", "box_prior", "mask")
TITLES = {
    "plain": "plain",
    "lap": "LAP, labels alone",
    "lap_boxes": "LAP, labels and 10 boxes",
    "plain_by_file": "plain, folds part files",
    "lap_refined": "LAP, labels alone, refined",
}
MAP_TITLES = {"box_prior": "Mean training box", "lap_boxes": "LAP, 10 boxes", "lap_refined": "LAP, refined"}
REFERENCE = "lap"
# Arms in the figure: the reference with all its explainers, the others with LAP's map.
FIGURE_ARMS = ("lap", "lap_boxes", "lap_refined")
# Not in the figure: their maps show the X-ray itself, or nothing.
NOT_DRAWN = ("edges", "mask", "random")


def scores_by_image(answers: pd.DataFrame) -> dict[str, np.ndarray]:
    """Return scores (seeds, images) of each arm, images in the order of `subjects`."""
    return {
        str(arm): rows.pivot_table(index="seed", columns="image", values="score").to_numpy()
        for arm, rows in answers.groupby("arm", sort=False)
    }


def subjects(answers: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Return targets (n,) and persons (n,) of the images, sorted by name."""
    images = answers.drop_duplicates("image").sort_values("image")
    return images["target"].to_numpy(), images["person"].to_numpy()


def auroc_table(answers: pd.DataFrame) -> pd.DataFrame:
    """Compute the AUROC of each arm.

    Columns hold the mean over seeds, its interval over persons, the lowest and highest seed, and the difference from
    the plain network.
    """
    targets, persons = subjects(answers)
    tables = {
        arm: np.mean([wins(row, targets) for row in scores], 0) for arm, scores in scores_by_image(answers).items()
    }
    lines = []
    for arm, scores in scores_by_image(answers).items():
        low, high = wins_interval(tables[arm], targets, persons)
        by_seed = [wins(row, targets).mean() for row in scores]
        interval = {"auroc": tables[arm].mean(), "ci_low": low, "ci_high": high}
        seeds = {"seeds": len(by_seed), "lowest_seed": min(by_seed), "highest_seed": max(by_seed)}
        line = {"arm": arm, **interval, **seeds}
        if "plain" in tables:
            difference = tables[arm] - tables["plain"]
            low, high = wins_interval(difference, targets, persons)
            line |= {"minus_plain": difference.mean(), "minus_plain_low": low, "minus_plain_high": high}
        lines.append(line)
    return pd.DataFrame(lines)


def map_table(maps: pd.DataFrame) -> pd.DataFrame:
    """Compute the mean localisation of each arm, explainer and metric, with intervals over persons.

    Means are over images, of means over seeds.
    """
    means = maps.groupby(["arm", "explainer", "image"], sort=False)[[*METRICS, "person", "area"]].mean().reset_index()
    lines = []
    for (arm, explainer), rows in means.groupby(["arm", "explainer"], sort=False):
        for metric in METRICS:
            values, persons = rows[metric].to_numpy(), rows["person"].to_numpy()
            low, high = mean_interval(values, persons)
            lines.append((arm, explainer, metric, values.mean(), low, high, len(values), len(np.unique(persons))))
    columns = ["arm", "explainer", "metric", "mean", "ci_low", "ci_high", "images", "persons"]
    return pd.DataFrame(lines, columns=columns)


def paired_differences_table(maps: pd.DataFrame) -> pd.DataFrame:
    """Compare LAP with every other explainer of its network, with persons and with images as the unit.

    P-values are adjusted by Holm within each unit.
    """
    scores = [{**vars(score), "family": "localisation"} for name in METRICS for score in metrics[name].scores]
    long = maps[maps["arm"] == REFERENCE].melt(
        ["explainer", "seed", "image", "person"], list(METRICS), "metric", "value"
    )
    long = long[long["explainer"] != "mask"].rename(columns={"image": "image_id"}).assign(model=REFERENCE)
    units = {"person": long.assign(image_id=long["person"]), "image": long}
    return pd.concat(
        [paired_differences(rows, scores, REFERENCE).assign(unit=unit) for unit, rows in units.items()],
        ignore_index=True,
    )


def store_examples(folder: Path, fold: int, arm: str, examples: Mapping[str, np.ndarray]) -> None:
    """Add the maps of a fold to the file that the figure is drawn from.

    Of the reference arm all explainers are stored, of other arms only the map of the decoders, or else LAP's own.
    """
    path = folder / "medical_shown.npz"
    stored: dict[str, np.ndarray] = dict(np.load(path)) if path.is_file() else {}
    if arm == REFERENCE:
        arrays = {name: values for name, values in examples.items() if name not in NOT_DRAWN}
    else:
        maps = examples["lap_refined"] if "lap_refined" in examples else examples["lap"]
        arrays = {arm: maps, "masks": examples["masks"], "rows": examples["rows"]}
    for name, values in arrays.items():
        stored[f"{fold}/{name}"] = values.astype(np.float16) if values.dtype.kind == "f" else values
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **stored)  # type: ignore[arg-type]


def title_of(explainer: str) -> str:
    """Return the title of an explainer in tables and figures."""
    return MAP_TITLES.get(explainer) or explainers[explainer].title


@use_style
def draw_examples(examples: Mapping[str, np.ndarray], images: Tensor | None = None) -> Figure:
    """Draw the maps of the first positive image of each fold, one row per image, with outlined boxes.

    Args:
        examples: "fold/explainer" to maps (n, 1, H, W), and "fold/masks" to boxes of the same shape.
        images: all X-rays (N, 3, H, W) in [0, 1] to show beside the maps; None to leave them out.
    """
    names = [name for name in dict.fromkeys(key.partition("/")[2] for key in examples) if name not in ("masks", "rows")]
    names = sorted(names, key=lambda name: (name in CONTROLS, name not in FIGURE_ARMS))
    folds = sorted({key.partition("/")[0] for key in examples})
    columns = [*([] if images is None else [None]), *names]
    figure = Figure(figsize=(1.0 * len(columns) + 0.1, 1.04 * len(folds) + 0.3), layout="constrained")
    grid = figure.subplots(len(folds), len(columns), squeeze=False)
    for row, fold in zip(grid, folds, strict=True):
        for axes, name in zip(row, columns, strict=True):
            if name is None:
                assert images is not None
                axes.imshow(images[int(examples[f"{fold}/rows"][0]), 0], cmap="gray")
            else:
                axes.imshow(_scale(examples[f"{fold}/{name}"][0, 0]), cmap="viridis", vmin=0, vmax=1)
            axes.contour(
                examples[f"{fold}/masks"][0, 0], levels=[0.5], colors="white" if name else "#E69F00", linewidths=0.9
            )
            axes.set(xticks=[], yticks=[])
    for axes, name in zip(grid[0], columns, strict=True):
        axes.set_title("X-ray" if name is None else title_of(name).replace(" ", "\n", 1), fontsize=7)
    return figure


def _scale(values: np.ndarray) -> np.ndarray:
    """Divide the positive part of a map (H, W) by its 99th percentile."""
    positive = np.maximum(values.astype(np.float32), 0)
    return positive / max(float(np.quantile(positive, 0.99)), 1e-12)


def write_figure_with_images(folder: Path, path: Path, images: Tensor) -> Path:
    """Write the figure with the X-rays beside the maps to `path`."""
    return write_atomically(path, render(draw_examples(_read_examples(folder), images), "png"))


def _read_examples(folder: Path) -> dict[str, np.ndarray]:
    return dict(np.load(folder / "medical_shown.npz"))


def write_page(folder: Path) -> list[Path]:
    """Write all tables, the page and the figure of the scores in `folder`."""
    answers, maps, trainings = (pd.read_csv(folder / f"medical_{n}.csv") for n in ("answers", "maps", "trainings"))
    tables = {"auroc": auroc_table(answers), "localisation": map_table(maps)}
    if REFERENCE in set(maps["arm"]):
        tables["paired"] = paired_differences_table(maps)
    paths = [
        write_atomically(folder / f"medical_{name}.csv", table.to_csv(index=False, float_format="%.4g"))
        for name, table in tables.items()
    ]
    paths.append(write_atomically(folder / "medical.md", to_markdown(answers, maps, trainings, tables)))
    if (folder / "medical_shown.npz").is_file():
        figure = draw_examples(_read_examples(folder))
        paths.append(write_atomically(folder / "medical_maps.png", render(figure, "png")))
    return paths


def to_markdown(
    answers: pd.DataFrame, maps: pd.DataFrame, trainings: pd.DataFrame, tables: Mapping[str, pd.DataFrame]
) -> str:
    """Format images, AUROC, localisation and the limits of the study.

    Args:
        answers: scores of the judged images.
        maps: scores of the maps.
        trainings: one row per training.
        tables: "auroc", "localisation" and, if the reference arm was trained, "paired".
    """
    sections = [
        "# Medical: chest X-rays, labels of images alone",
        _format_images(answers, trainings),
        "## Ill or not",
        _format_auroc(tables["auroc"]),
        "## Where",
        _format_localisation(maps, tables),
        "## What this can and cannot show",
        _format_limits(answers, tables["auroc"]),
    ]
    return "\n\n".join(sections) + "\n"


def _format_images(answers: pd.DataFrame, trainings: pd.DataFrame) -> str:
    targets, persons = subjects(answers)
    positive = persons[targets == 1]
    counts = np.sort(np.unique(positive, return_counts=True)[1])[::-1]
    repetitions, seconds = trainings["seed"].nunique(), trainings["train_seconds"].median()
    return (
        f"{len(targets)} chest X-rays of {len(np.unique(persons))} persons, {len(positive)} with lung opacity; these "
        f"are of {len(counts)} persons, {counts[0]} of one and {counts[1]} of another, and weigh as "
        f"{effective_persons(positive):.1f} persons with equally many images would. RSNA calls every image a patient; "
        f"persons are NIH's. Folds part persons, {trainings['fold'].nunique()} folds, {repetitions} repetitions that "
        "part them anew; every image is judged once a repetition. A small residual network from random weights; plain "
        f"and LAP share recipe and folds; {seconds:.0f} s a training on one CPU core, others at work beside it. "
        "Intervals are 95 %, by drawing persons with all their images."
    )


def _format_auroc(table: pd.DataFrame) -> str:
    cells = [
        {
            "arm": TITLES[row["arm"]],
            "AUROC": _format_interval(row, "auroc"),
            "repetitions": f"{row['lowest_seed']:.3f} to {row['highest_seed']:.3f}",
            "difference from plain": (
                "" if row["arm"] == "plain" or "minus_plain" not in row else _format_interval(row, "minus_plain", "+")
            ),
        }
        for row in table.to_dict("records")
    ]
    return markdown_table(pd.DataFrame(cells))


def _format_interval(row: Mapping[Any, Any], name: str, sign: str = "") -> str:
    prefix = "ci" if name in ("auroc", "mean") else name
    return f"{row[name]:{sign}.3f} ({row[f'{prefix}_low']:{sign}.3f} to {row[f'{prefix}_high']:{sign}.3f})"


def _format_localisation(maps: pd.DataFrame, tables: Mapping[str, pd.DataFrame]) -> str:
    chance = f"{maps.drop_duplicates('image')['area'].mean():.3f}"
    cells = [
        [TITLES[str(arm)], title_of(str(explainer)), *(_format_interval(row, "mean") for row in _by_metric(rows))]
        for (arm, explainer), rows in tables["localisation"].groupby(["arm", "explainer"], sort=False)
    ]
    cells.append(["", "chance: share of the image in boxes", chance, chance, chance, "0.500"])
    columns = ["network", "explainer", *(metrics[name].title for name in METRICS)]
    text = (
        "Maps of Lung Opacity on all positive images, whatever the network said of them, against the radiologists' "
        "boxes. Only the second LAP arm has seen any box in training."
    )
    sections = [text, markdown_table(pd.DataFrame(cells, columns=columns))]
    if "paired" in tables:
        sections.append(_format_paired(tables["paired"]))
    return "\n\n".join(sections)


def _format_paired(table: pd.DataFrame) -> str:
    table = table[table["unit"] == "person"]
    cells = [
        [title_of(str(name)), *(f"{row['difference']:+.3f} [{row['p_holm']:.2g}]" for row in _by_metric(rows))]
        for name, rows in sorted(table.groupby("explainer"), key=lambda group: (group[0] in CONTROLS, str(group[0])))
    ]
    columns = ["LAP minus", *(metrics[name].title for name in METRICS)]
    return (
        "The same network, persons as the unit (means over their images and the repetitions), Wilcoxon's signed-rank p "
        "after Holm over the table in brackets:\n\n" + markdown_table(pd.DataFrame(cells, columns=columns))
    )


def _by_metric(rows: pd.DataFrame) -> list[dict[Any, Any]]:
    """Return one record per metric, in the order of `METRICS`."""
    return rows.set_index("metric").loc[list(METRICS)].to_dict("records")


def _format_limits(answers: pd.DataFrame, auroc: pd.DataFrame) -> str:
    targets, persons = subjects(answers)
    arms = auroc.set_index("arm").to_dict("index")
    interval = arms.get(REFERENCE, next(iter(arms.values())))
    lines = [
        f"* Not how good LAP is on chest X-rays. An AUROC that may lie anywhere between {interval['ci_low']:.2f} and "
        f"{interval['ci_high']:.2f} ranks no method, and images of 64 pixels hide what radiologists look for.",
        "* Differences between explainers on the same images are paired and therefore sharper than their intervals "
        f"look; yet {len(np.unique(persons[targets == 1]))} persons stand behind them, and few of these give most of "
        "the images.",
        "* Boxes are coarse: all of a box counts as evidence, nothing outside does. A network may use other signs of "
        "illness, such as lines, tubes or the projection of a bedside image; maps that show these are right about the "
        "network and wrong by the boxes.",
        "* The mean training box knows where opacities usually lie and nothing of the image. A map that is not above "
        "it shows no more than that lungs were found.",
        "* That the method runs from files to tables on real X-rays, from labels alone, is shown. Whether it helps a "
        "reader needs the 26,684 images of the challenge, images of full size, and persons kept apart.",
    ]
    by_file = arms.get("plain_by_file")
    if by_file is not None and "plain" in arms:
        text = f"* Folds that part files and not persons would have claimed {by_file['auroc']:.3f} in place of "
        lines.insert(2, f"{text}{arms['plain']['auroc']:.3f} for the same plain network.")
    return "\n".join(lines)
