"""Dot plot of the zoo: a line for each network, a dot for each kind of cost, what was asked as vertical lines."""

from __future__ import annotations

import io
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

if TYPE_CHECKING:
    from benchmarks.speed.zoo_table import ZooMeasured, ZooRow

# Colours that readers with colour-blindness can tell apart, as in the report; shapes say it a second time.
LOOKS = {
    "forward": ("#0072B2", "o"),
    "explain": ("#D55E00", "s"),
    "training step": ("#009E73", "^"),
    "forward memory": ("#56B4E9", "D"),
    "training memory": ("#CC79A7", "v"),
}
PANELS = {"time": ("forward", "explain", "training step"), "peak memory": ("forward memory", "training memory")}
STYLE: Any = {"font.size": 7.5, "font.family": "sans-serif", "axes.titlesize": 8, "axes.spines.top": False}
STYLE |= {"axes.spines.right": False, "axes.titlelocation": "left", "ytick.major.size": 0, "legend.frameon": False}
DPI = 200


def zoo_figure(measured: ZooMeasured) -> Figure:
    """One row of panels a variant: time and peak memory; networks by their forward ratio, highest on top."""
    variants = measured.variants()
    nets = _order(measured)
    with rc_context(STYLE):
        figure = Figure((7.2, 0.7 + len(variants) * (0.7 + 0.19 * max(4, len(nets)))), layout="constrained")
        grid = figure.subplots(len(variants), len(PANELS), squeeze=False, sharey=True, width_ratios=(3, 2))
        for panels, variant in zip(grid, variants, strict=True):
            for axes, (title, kinds) in zip(panels, PANELS.items(), strict=True):
                _panel(axes, measured, variant, kinds, nets)
                axes.set_title(f"{title}, {variant}")
        handles = [
            Line2D([], [], color=c, marker=m, markersize=4, linestyle="none", label=k) for k, (c, m) in LOOKS.items()
        ]
        figure.supxlabel("with LAP / plain; bars: quartiles; dashed: asked of the median", fontsize=7.5)
        figure.legend(handles=handles, loc="outside upper center", ncols=len(LOOKS), handletextpad=0.1)
    return figure


def zoo_png(measured: ZooMeasured) -> bytes:
    """The figure as a PNG; the same figures give the same bytes."""
    buffer = io.BytesIO()
    with rc_context(STYLE):
        zoo_figure(measured).savefig(buffer, format="png", dpi=DPI, metadata={"Software": None})
    return buffer.getvalue()


def _order(measured: ZooMeasured) -> list[str]:
    """Networks from the lowest ratio to the highest, of forward passes in the first variant where they were timed."""
    rows: Sequence[ZooRow] = measured.of(measured.variants()[0], "forward") or measured.rows
    ratios = {row.net: row.ratio for row in rows}
    return sorted(dict.fromkeys(row.net for row in measured.rows), key=lambda net: ratios.get(net, 0.0))


def _panel(axes: Axes, measured: ZooMeasured, variant: str, kinds: Sequence[str], nets: list[str]) -> None:
    from benchmarks.speed.zoo_table import ASKED

    heights = {net: float(place) for place, net in enumerate(nets)}
    axes.axvline(1.0, color="#8A8A8A", linewidth=0.6, zorder=0)
    for place, kind in enumerate(kinds):
        colour, marker = LOOKS[kind]
        rows = measured.of(variant, kind)
        ys = np.array([heights[row.net] for row in rows]) + 0.22 * ((len(kinds) - 1) / 2 - place)
        axes.hlines(ys, [row.q1 for row in rows], [row.q3 for row in rows], color=colour, linewidth=0.7, alpha=0.6)
        axes.plot([row.ratio for row in rows], ys, marker, color=colour, markersize=2.8, linestyle="none")
    limits = {ASKED[kind].median: LOOKS[kind][0] for kind in kinds}
    for limit, colour in limits.items():
        axes.axvline(limit, color=colour, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    ratios = [1.0, *limits, *(row.ratio for kind in kinds for row in measured.of(variant, kind))]
    margin = 0.06 * (max(ratios) - min(ratios))
    # By the ratios: quartiles of a disturbed comparison may reach far out.
    axes.set_xlim(min(ratios) - margin, max(ratios) + margin)
    axes.set_yticks(list(heights.values()), nets)
    axes.set_ylim(-0.7, len(nets) - 0.3)
    axes.grid(axis="y", color="#EEEEEE", linewidth=0.5)
    axes.set_axisbelow(True)
