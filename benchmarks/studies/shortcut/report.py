"""The control experiment as a table in markdown and a figure, from its stored lines."""

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
from benchmarks.studies.shortcut.arms import Arm, arms
from interp_core.errors import StoreError

LEVEL = 0.95
COLUMNS = (
    "arm", "told of", "accuracy %", "to plain, clean", "without tags %", "follows %", "on the tag %", "x area",
    "contributions %", "step",
)  # fmt: skip
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
CLEAN = "plain_clean"  # what arms are compared with
COLOURS = {"plain": "0.35", "lap": "tab:blue"}
RIVAL = "tab:orange"


def write(path: Path, command: str) -> list[Path]:
    """Write the table and the figure beside the lines.

    Args:
        path: of the lines, a CSV; costs lie beside it.
        command: that made them.

    Raises:
        StoreError: there are no lines.
    """
    if not path.is_file():
        raise StoreError(f"{path} is not there: train first, without --report")
    lines = pd.read_csv(path, dtype={"commit": str})
    beside = path.with_name(f"{path.stem}_cost.csv")
    costs = pd.read_csv(beside).set_index("arm") if beside.is_file() else pd.DataFrame()
    table = write_atomically(path.with_suffix(".md"), markdown(lines, costs, command))
    picture = path.with_suffix(".png")
    with atomic_file(picture) as temporary:
        figure(lines).savefig(temporary, dpi=150, bbox_inches="tight")
    return [table, picture]


def markdown(lines: pd.DataFrame, costs: pd.DataFrame, command: str) -> str:
    """The table; arms in their own order."""
    data, seeds = lines.data.iloc[0], lines.seed.nunique()
    command = f"{command} --data {data}"
    head = HEAD.format(data=data, command=command, seeds=seeds, level=LEVEL, area=lines.tag_area.mean())
    rows = [f"| {' | '.join(COLUMNS)} |", f"|{'---|' * len(COLUMNS)}"]
    return head + "\n".join(rows + [_row(arm, lines, costs) for arm in present(lines)]) + "\n"


def present(lines: pd.DataFrame) -> list[Arm]:
    """The arms that lines are of, in their own order."""
    return [arm for arm in arms() if arm.name in set(lines.arm)]


def half_interval(values: Sequence[float] | np.ndarray) -> float:
    """Half the t-interval of the mean of independent values; NaN of fewer than two."""
    known = np.asarray(values, dtype=float)
    if len(known) < 2:
        return float("nan")
    return float(stats.t.ppf((1 + LEVEL) / 2, len(known) - 1) * known.std(ddof=1) / np.sqrt(len(known)))


def behind(lines: pd.DataFrame, name: str, reference: str = CLEAN) -> np.ndarray:
    """Accuracy of an arm minus that of the reference, seed by seed, for seeds that both have."""
    wide = lines.pivot_table(index="seed", columns="arm", values="accuracy")
    if reference not in wide or name not in wide:
        return np.empty(0)
    return (wide[name] - wide[reference]).dropna().to_numpy()


def _row(arm: Arm, lines: pd.DataFrame, costs: pd.DataFrame) -> str:
    own = lines[lines.arm == arm.name]
    known = {"irrelevant": "tag", "object": "object"}.get(arm.told or "")
    apart = "" if arm.name == CLEAN else _percent(behind(lines, arm.name), sign=True)
    cells = [
        arm.title, _told(own, known), _percent(own.accuracy), apart,
        _percent(own.accuracy_clean), "" if arm.clean else _percent(own.follows), _percent(own.tag_map),
        f"{own.tag_map.mean() / own.tag_area.mean():.1f}", _percent(own.get("tag_contributions", ())),
        _cost(arm.name, costs),
    ]  # fmt: skip
    return f"| {' | '.join(cells)} |"


def _told(own: pd.DataFrame, known: str | None) -> str:
    if known is None:
        return ""
    iou = float(own["found_iou"].mean()) if "found_iou" in own else float("nan")
    return f"{known}, {int(own.told.iloc[0])} images" + ("" if np.isnan(iou) else f"; found in all (IoU {iou:.2f})")


def _percent(values: Any, *, sign: bool = False) -> str:
    known = pd.Series(values, dtype=float).dropna().to_numpy() * 100
    if len(known) == 0:
        return ""
    half = half_interval(known)
    mean = f"{known.mean():+.1f}" if sign else f"{known.mean():.1f}"
    return mean if np.isnan(half) else f"{mean} ± {half:.1f}"


def _cost(name: str, costs: pd.DataFrame) -> str:
    if name not in costs.index:
        return "1" if name == "plain" else ""
    line = costs.loc[name]
    return f"{line.ratio:.2f} [{line.q1:.2f}, {line.q3:.2f}]"


def figure(lines: pd.DataFrame) -> Figure:
    """Accuracy against the share of the map on the tag, one point an arm, one small point a seed."""
    found = Figure(figsize=(9, 5.5))
    axes = found.add_subplot()
    floor = 1e-4
    for number, arm in enumerate(present(lines), start=1):
        own = lines[lines.arm == arm.name]
        colour = COLOURS.get(arm.of, RIVAL)
        shares = own.tag_map.clip(lower=floor) * 100
        axes.scatter(shares, own.accuracy * 100, s=10, color=colour, alpha=0.5, linewidths=0)
        at = (max(own.tag_map.mean(), floor) * 100, own.accuracy.mean() * 100)
        axes.scatter(*at, s=150, color=colour, marker="s" if arm.told == "object" else "o", zorder=3)
        axes.annotate(str(number), at, color="white", ha="center", va="center", fontsize=7, zorder=4)
        axes.scatter([], [], color=colour, marker="s" if arm.told == "object" else "o", label=f"{number}  {arm.title}")
    _decorate(axes, lines)
    return found


def _decorate(axes: Axes, lines: pd.DataFrame) -> None:
    axes.axvline(lines.tag_area.mean() * 100, color="0.7", linewidth=1, linestyle=":")
    note: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "va": "top", "fontsize": 7, "color": "0.5"}
    axes.text(lines.tag_area.mean() * 100, 0.99, " area of the tag", **note)
    clean = lines[lines.arm == CLEAN].accuracy
    if len(clean):
        axes.axhline(clean.mean() * 100, color="0.7", linewidth=1, linestyle="--")
    axes.set_xscale("log")
    axes.set_xlabel("share of the map on the tag, % (log scale)")
    axes.set_ylabel("accuracy where the tag is random, %")
    axes.set_title(f"{lines.data.iloc[0]}: the better, the further up and left", fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=7, frameon=False)
