"""Tables, page and figure of the medical study, from its stored scores alone.

The figure that is published shows maps and boxes without the X-rays, which are not ours to give away.
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
from benchmarks.report.figures.style import render, styled
from benchmarks.statistics import paired_differences
from benchmarks.store.atomic import atomic_file, write_atomically
from benchmarks.studies.xray.cluster_bootstrap import effective, mean_interval, wins, wins_interval
from benchmarks.studies.xray.names import CONTROLS, MAP_TITLES, METRICS, TITLES

REFERENCE = "lap"
# Arms in the figure, the other ones with LAP's own map.
DRAWN = ("lap", "lap_boxes", "lap_refined")
# Not drawn: they show the picture itself, or nothing.
UNKEPT = ("edges", "mask", "random")


def scores_by_image(answers: pd.DataFrame) -> dict[str, np.ndarray]:
    """Scores (seeds, images) of each arm, images in the order of `subjects`."""
    return {
        str(arm): rows.pivot_table(index="seed", columns="image", values="score").to_numpy()
        for arm, rows in answers.groupby("arm", sort=False)
    }


def subjects(answers: pd.DataFrame) -> tuple[np.ndarray, np.ndarray]:
    """Targets (n,) and persons (n,) of the images, by name."""
    known = answers.drop_duplicates("image").sort_values("image")
    return known["target"].to_numpy(), known["person"].to_numpy()


def auroc_table(answers: pd.DataFrame) -> pd.DataFrame:
    """AUROC of each arm: mean over seeds, interval over persons, lowest and highest seed, difference from plain."""
    targets, persons = subjects(answers)
    tables = {
        arm: np.mean([wins(row, targets) for row in scores], 0) for arm, scores in scores_by_image(answers).items()
    }
    lines = []
    for arm, scores in scores_by_image(answers).items():
        low, high = wins_interval(tables[arm], targets, persons)
        own = [wins(row, targets).mean() for row in scores]
        line = {"arm": arm, "auroc": tables[arm].mean(), "ci_low": low, "ci_high": high, "seeds": len(own),
                "lowest_seed": min(own), "highest_seed": max(own)}  # fmt: skip
        if "plain" in tables:
            difference = tables[arm] - tables["plain"]
            low, high = wins_interval(difference, targets, persons)
            line |= {"minus_plain": difference.mean(), "minus_plain_low": low, "minus_plain_high": high}
        lines.append(line)
    return pd.DataFrame(lines)


def map_table(maps: pd.DataFrame) -> pd.DataFrame:
    """Mean localisation of each arm, explainer and metric over images, of means over seeds; intervals over persons."""
    means = maps.groupby(["arm", "explainer", "image"], sort=False)[[*METRICS, "person", "area"]].mean().reset_index()
    lines = []
    for (arm, explainer), rows in means.groupby(["arm", "explainer"], sort=False):
        for metric in METRICS:
            values, persons = rows[metric].to_numpy(), rows["person"].to_numpy()
            low, high = mean_interval(values, persons)
            lines.append((arm, explainer, metric, values.mean(), low, high, len(values), len(np.unique(persons))))
    columns = ["arm", "explainer", "metric", "mean", "ci_low", "ci_high", "images", "persons"]
    return pd.DataFrame(lines, columns=columns)


def paired_table(maps: pd.DataFrame) -> pd.DataFrame:
    """LAP against every other explainer of its network, with persons and with images as the unit; Holm within each."""
    known = [{**vars(score), "family": "localisation"} for name in METRICS for score in metrics[name].scores]
    long = maps[maps["arm"] == REFERENCE].melt(
        ["explainer", "seed", "image", "person"], list(METRICS), "metric", "value"
    )
    long = long[long["explainer"] != "mask"].rename(columns={"image": "image_id"}).assign(model=REFERENCE)
    units = {"person": long.assign(image_id=long["person"]), "image": long}
    return pd.concat(
        [paired_differences(rows, known, REFERENCE).assign(unit=unit) for unit, rows in units.items()],
        ignore_index=True,
    )


def keep_shown(folder: Path, fold: int, arm: str, shown: Mapping[str, np.ndarray]) -> None:
    """Put the maps of a fold into the file that the figure is made from; of arms but LAP's first only its own map."""
    path = folder / "medical_shown.npz"
    there: dict[str, np.ndarray] = dict(np.load(path)) if path.is_file() else {}
    own = {name: values for name, values in shown.items() if name not in UNKEPT}
    other = {arm: shown["lap"], "masks": shown["masks"], "rows": shown["rows"]}
    kept = {f"{fold}/{name}": values for name, values in (own if arm == REFERENCE else other).items()}
    there |= {k: v.astype(np.float16) if v.dtype.kind == "f" else v for k, v in kept.items()}
    with atomic_file(path) as temporary, temporary.open("wb") as file:
        np.savez_compressed(file, **there)  # type: ignore[arg-type]


def title(explainer: str) -> str:
    """Of an explainer, in tables and figures."""
    return MAP_TITLES.get(explainer) or explainers[explainer].title


@styled
def figure(shown: Mapping[str, np.ndarray], images: Tensor | None = None) -> Figure:
    """Maps of the first positive image of each fold, a row an image, boxes outlined.

    Args:
        shown: "fold/explainer" to maps (n, 1, H, W), and "fold/masks" to boxes likewise.
        images: all X-rays (N, 3, H, W) in [0, 1], to be shown beside; None to leave them out.
    """
    names = list(dict.fromkeys(key.partition("/")[2] for key in shown))
    names = sorted((n for n in names if n not in ("masks", "rows")), key=lambda n: (n in CONTROLS, n not in DRAWN))
    kept = sorted({key.partition("/")[0] for key in shown})
    columns = [*([] if images is None else [None]), *names]
    made = Figure(figsize=(1.0 * len(columns) + 0.1, 1.04 * len(kept) + 0.3), layout="constrained")
    grid = made.subplots(len(kept), len(columns), squeeze=False)
    for row, fold in zip(grid, kept, strict=True):
        for axes, name in zip(row, columns, strict=True):
            if name is None:
                assert images is not None
                axes.imshow(images[int(shown[f"{fold}/rows"][0]), 0], cmap="gray")
            else:
                axes.imshow(_shades(shown[f"{fold}/{name}"][0, 0]), cmap="viridis", vmin=0, vmax=1)
            axes.contour(
                shown[f"{fold}/masks"][0, 0], levels=[0.5], colors="white" if name else "#E69F00", linewidths=0.9
            )
            axes.set(xticks=[], yticks=[])
    for axes, name in zip(grid[0], columns, strict=True):
        axes.set_title("X-ray" if name is None else title(name).replace(" ", "\n", 1), fontsize=7)
    return made


def _shades(values: np.ndarray) -> np.ndarray:
    """Positive part of a map (H, W) in units of its 99th percentile."""
    positive = np.maximum(values.astype(np.float32), 0)
    return positive / max(float(np.quantile(positive, 0.99)), 1e-12)


def figure_with_images(folder: Path, path: Path, images: Tensor) -> None:
    """The figure with the X-rays beside the maps."""
    write_atomically(path, render(figure(_shown(folder), images), "png"))


def _shown(folder: Path) -> dict[str, np.ndarray]:
    return dict(np.load(folder / "medical_shown.npz"))


def write(folder: Path) -> None:
    """All tables, the page and the figure of what lies in `folder`."""
    answers, maps, trainings = (pd.read_csv(folder / f"medical_{n}.csv") for n in ("answers", "maps", "trainings"))
    found = {"auroc": auroc_table(answers), "localisation": map_table(maps)}
    if REFERENCE in set(maps["arm"]):
        found["paired"] = paired_table(maps)
    for name, table in found.items():
        write_atomically(folder / f"medical_{name}.csv", table.to_csv(index=False, float_format="%.4g"))
    write_atomically(folder / "medical.md", page(answers, maps, trainings, found))
    if (folder / "medical_shown.npz").is_file():
        write_atomically(folder / "medical_maps.png", render(figure(_shown(folder)), "png"))


def page(answers: pd.DataFrame, maps: pd.DataFrame, trainings: pd.DataFrame, found: dict[str, pd.DataFrame]) -> str:
    """Markdown: what the images are, how well they are told apart, where the maps lie, and what that can show."""
    return (
        "\n\n".join(
            [
                "# Medical: chest X-rays, labels of images alone",
                _about(answers, trainings),
                "## Ill or not",
                _auroc_lines(found["auroc"]),
                "## Where",
                _where(maps, found),
                "## What this can and cannot show",
                _limits(answers, found),
            ]
        )
        + "\n"
    )


def _about(answers: pd.DataFrame, trainings: pd.DataFrame) -> str:
    targets, persons = subjects(answers)
    positive = persons[targets == 1]
    most = np.sort(np.unique(positive, return_counts=True)[1])[::-1]
    repetitions, seconds = trainings["seed"].nunique(), trainings["train_seconds"].median()
    return (
        f"{len(targets)} chest X-rays of {len(np.unique(persons))} persons, {len(positive)} with lung opacity; these "
        f"are of {len(most)} persons, {most[0]} of one and {most[1]} of another, and weigh as "
        f"{effective(positive):.1f} persons with equally many images would. RSNA calls every image a patient; persons "
        f"are NIH's. Folds part persons, {trainings['fold'].nunique()} folds, {repetitions} repetitions that part them "
        "anew; every image is judged once a repetition. A small residual network from random weights; plain and LAP "
        f"share recipe and folds; {seconds:.0f} s a training on one CPU core, others at work beside it. Intervals are "
        "95 %, by drawing persons with all their images."
    )


def _auroc_lines(table: pd.DataFrame) -> str:
    rows = ["| arm | AUROC | repetitions | difference from plain |", "|---|---|---|---|"]
    for line in table.to_dict("records"):
        own = f"{line['lowest_seed']:.3f} to {line['highest_seed']:.3f}"
        difference = (
            "" if line["arm"] == "plain" or "minus_plain" not in line else _with_interval(line, "minus_plain", True)
        )
        rows.append(f"| {TITLES[line['arm']]} | {_with_interval(line, 'auroc')} | {own} | {difference} |")
    return "\n".join(rows)


def _with_interval(line: Mapping[Any, Any], name: str, signed: bool = False) -> str:
    form = "+.3f" if signed else ".3f"
    low, high = (
        (line["ci_low"], line["ci_high"]) if name in ("auroc", "mean") else (line[f"{name}_low"], line[f"{name}_high"])
    )
    return f"{line[name]:{form}} ({low:{form}} to {high:{form}})"


def _where(maps: pd.DataFrame, found: dict[str, pd.DataFrame]) -> str:
    table = found["localisation"]
    area = maps.drop_duplicates("image")["area"].mean()
    heads = [metrics[name].title for name in METRICS]
    rows = [f"| network | explainer | {' | '.join(heads)} |", f"|---|---|{'---|' * len(METRICS)}"]
    for (arm, explainer), lines in table.groupby(["arm", "explainer"], sort=False):
        cells = [
            _with_interval(line, "mean") for line in lines.set_index("metric").loc[list(METRICS)].to_dict("records")
        ]
        rows.append(f"| {TITLES[str(arm)]} | {title(str(explainer))} | {' | '.join(cells)} |")
    rows.append(f"| | chance: share of the image in boxes | {area:.3f} | {area:.3f} | {area:.3f} | 0.500 |")
    said = (
        "Maps of Lung Opacity on all positive images, whatever the network said of them, against the radiologists' "
        "boxes. Only the second LAP arm has seen any box in training."
    )
    parts = [said, "\n".join(rows)]
    if "paired" in found:
        parts.append(_paired_lines(found["paired"]))
    return "\n\n".join(parts)


def _paired_lines(table: pd.DataFrame) -> str:
    table = table[table["unit"] == "person"]
    heads = [metrics[name].title for name in METRICS]
    rows = [f"| LAP minus | {' | '.join(heads)} |", f"|---|{'---|' * len(METRICS)}"]
    for explainer in dict.fromkeys(maps_first(table["explainer"])):
        lines = table[table["explainer"] == explainer].set_index("metric").loc[list(METRICS)].to_dict("records")
        rows.append(f"| {title(explainer)} | {' | '.join(_paired_cell(line) for line in lines)} |")
    return (
        "The same network, persons as the unit (means over their images and the repetitions), Wilcoxon's signed-rank p "
        "after Holm over the table in brackets:\n\n" + "\n".join(rows)
    )


def maps_first(names: pd.Series) -> list[str]:
    """Explainers, controls last."""
    return sorted(names, key=lambda name: (name in CONTROLS, name))


def _paired_cell(line: Mapping[Any, Any]) -> str:
    return f"{line['difference']:+.3f} [{line['p_holm']:.2g}]"


def _limits(answers: pd.DataFrame, found: dict[str, pd.DataFrame]) -> str:
    targets, persons = subjects(answers)
    auroc = found["auroc"].set_index("arm").to_dict("index")
    width = auroc.get(REFERENCE, next(iter(auroc.values())))
    lines = [
        f"* Not how good LAP is on chest X-rays. An AUROC that may lie anywhere between {width['ci_low']:.2f} and "
        f"{width['ci_high']:.2f} ranks no method, and images of 64 pixels hide what radiologists look for.",
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
    ]  # fmt: skip
    leak = auroc.get("plain_by_file")
    if leak is not None and "plain" in auroc:
        lines.insert(2, f"* Folds that part files and not persons would have claimed {leak['auroc']:.3f} in place of "
                        f"{auroc['plain']['auroc']:.3f} for the same plain network.")  # fmt: skip
    return "\n".join(lines)
