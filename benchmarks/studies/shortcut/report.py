"""Report the shortcut study as a table in Markdown and a figure, from its stored rows."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from scipy import stats

from benchmarks.store.atomic import atomic_file, write_atomically
from benchmarks.store.markdown import markdown_table
from benchmarks.studies.shortcut.arms import ARMS, ShortcutArm
from interp_core.errors import StoreError

LEVEL = 0.95
COLUMNS = (
    "arm",
    "told of",
    "accuracy %",
    "to plain, clean",
    "without tags %",
    "follows %",
    "on the tag %",
    "x area",
    "contributions %",
    "step",
)
HEAD = """# The designer is in control: {data}

Training seeds: {seeds}. Mean, and half the {level:.0%} t-interval over seeds; lines without an interval are of one
training. Made by `{command}`.

* accuracy: on test images whose tag is random; *without tags*: on the same images without.
* to plain, clean: difference of accuracy to the plain network trained without tags.
* told of: training images of which the arm knew the place; *found* from as many, in all (IoU with the tags).
* follows: test images with a disagreeing tag that are given the tag's class.
* on the tag: share of the map on the tag, where the tag agrees; the tag covers {area:.2%} of an image. The map is LAP's
  or the rival's own, else CAM (Grad-CAM but for a factor). *Contributions*: the same of LAP's positive contributions.
* step: time of a training step over that of the plain network, median of pairs timed in turn [quartiles].

"""
CLEAN = "plain_clean"  # reference of all arms
COLOURS = {"plain": "0.35", "lap": "tab:blue"}
RIVAL = "tab:orange"


def write_report(path: Path, command: str) -> list[Path]:
    """Write the table and the figure beside the rows.

    Args:
        path: of the rows, a CSV; costs lie beside it.
        command: that made them.

    Raises:
        StoreError: there are no rows.
    """
    if not path.is_file():
        raise StoreError(f"{path} does not exist: train first, without --report")
    rows = pd.read_csv(path, dtype={"commit": str})
    cost_path = path.with_name(f"{path.stem}_cost.csv")
    costs = pd.read_csv(cost_path).set_index("arm") if cost_path.is_file() else pd.DataFrame()
    table = write_atomically(path.with_suffix(".md"), to_markdown(rows, costs, command))
    picture = path.with_suffix(".png")
    with atomic_file(picture) as temporary:
        draw(rows).savefig(temporary, dpi=150, bbox_inches="tight")
    return [table, picture]


def to_markdown(rows: pd.DataFrame, costs: pd.DataFrame, command: str) -> str:
    """Format the table, arms in the order of `ARMS`.

    Args:
        rows: one per arm and seed.
        costs: of a training step, by arm.
        command: that made the rows.
    """
    data, seeds = rows.data.iloc[0], rows.seed.nunique()
    command = f"{command} --data {data}"
    head = HEAD.format(data=data, command=command, seeds=seeds, level=LEVEL, area=rows.tag_area.mean())
    cells = [_cells(arm, rows, costs) for arm in arms_in(rows)]
    return head + markdown_table(pd.DataFrame(cells, columns=COLUMNS)) + "\n"


def arms_in(rows: pd.DataFrame) -> list[ShortcutArm]:
    """Return the arms that have rows, in the order of `ARMS`."""
    return [arm for arm in ARMS if arm.name in set(rows.arm)]


def half_interval(values: Sequence[float] | np.ndarray) -> float:
    """Return half the t-interval of the mean of independent values, NaN for fewer than two."""
    sample = np.asarray(values, dtype=float)
    if len(sample) < 2:
        return float("nan")
    return float(stats.t.ppf((1 + LEVEL) / 2, len(sample) - 1) * sample.std(ddof=1) / np.sqrt(len(sample)))


def accuracy_gap(rows: pd.DataFrame, name: str, reference: str = CLEAN, column: str = "accuracy") -> np.ndarray:
    """Return the accuracy of an arm minus that of the reference, for the seeds that both have."""
    wide = rows.pivot_table(index="seed", columns="arm", values=column)
    if reference not in wide or name not in wide:
        return np.empty(0)
    return (wide[name] - wide[reference]).dropna().to_numpy()


def _cells(arm: ShortcutArm, rows: pd.DataFrame, costs: pd.DataFrame) -> list[str]:
    arm_rows = rows[rows.arm == arm.name]
    return [
        arm.title,
        _format_region(arm, arm_rows),
        format_percent(arm_rows.accuracy),
        "" if arm.name == CLEAN else format_percent(accuracy_gap(rows, arm.name), sign=True),
        format_percent(arm_rows.accuracy_clean),
        "" if arm.clean else format_percent(arm_rows.follows),
        format_percent(arm_rows.tag_map),
        f"{arm_rows.tag_map.mean() / arm_rows.tag_area.mean():.1f}",
        format_percent(arm_rows.get("tag_contributions", ())),
        _format_cost(arm.name, costs),
    ]


def _format_region(arm: ShortcutArm, rows: pd.DataFrame) -> str:
    """Format the known region, its number of images and how well a detector found it."""
    if arm.region is None:
        return ""
    region = {"irrelevant": "tag", "object": "object"}[arm.region]
    iou = float(rows["found_iou"].mean()) if "found_iou" in rows else float("nan")
    return f"{region}, {int(rows.told.iloc[0])} images" + ("" if np.isnan(iou) else f"; found in all (IoU {iou:.2f})")


def format_percent(values: Any, *, sign: bool = False) -> str:
    """Format mean and half interval of shares in percent."""
    percent = pd.Series(values, dtype=float).dropna().to_numpy() * 100
    if len(percent) == 0:
        return ""
    half = half_interval(percent)
    mean = f"{percent.mean():+.1f}" if sign else f"{percent.mean():.1f}"
    return mean if np.isnan(half) else f"{mean} ± {half:.1f}"


def _format_cost(name: str, costs: pd.DataFrame) -> str:
    if name not in costs.index:
        return "1" if name == "plain" else ""
    row = costs.loc[name]
    return f"{row.ratio:.2f} [{row.q1:.2f}, {row.q3:.2f}]"


def draw(rows: pd.DataFrame) -> Figure:
    """Plot accuracy against the share of the map on the tag, one point per arm and one small point per seed."""
    figure = Figure(figsize=(9, 5.5))
    axes = figure.add_subplot()
    floor = 1e-4
    for number, arm in enumerate(arms_in(rows), start=1):
        arm_rows = rows[rows.arm == arm.name]
        colour = COLOURS.get(arm.method, RIVAL)
        shares = arm_rows.tag_map.clip(lower=floor) * 100
        axes.scatter(shares, arm_rows.accuracy * 100, s=10, color=colour, alpha=0.5, linewidths=0)
        centre = (max(arm_rows.tag_map.mean(), floor) * 100, arm_rows.accuracy.mean() * 100)
        axes.scatter(*centre, s=150, color=colour, marker="s" if arm.region == "object" else "o", zorder=3)
        axes.annotate(str(number), centre, color="white", ha="center", va="center", fontsize=7, zorder=4)
        axes.scatter(
            [], [], color=colour, marker="s" if arm.region == "object" else "o", label=f"{number}  {arm.title}"
        )
    _decorate(axes, rows)
    return figure


def _decorate(axes: Axes, rows: pd.DataFrame) -> None:
    axes.axvline(rows.tag_area.mean() * 100, color="0.7", linewidth=1, linestyle=":")
    note: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "va": "top", "fontsize": 7, "color": "0.5"}
    axes.text(rows.tag_area.mean() * 100, 0.99, " area of the tag", **note)
    clean = rows[rows.arm == CLEAN].accuracy
    if len(clean):
        axes.axhline(clean.mean() * 100, color="0.7", linewidth=1, linestyle="--")
    axes.set_xscale("log")
    axes.set_xlabel("share of the map on the tag, % (log scale)")
    axes.set_ylabel("accuracy where the tag is random, %")
    axes.set_title(f"{rows.data.iloc[0]}: the better, the further up and left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=7, frameon=False)
