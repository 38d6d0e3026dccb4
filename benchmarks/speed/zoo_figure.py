"""Draw the dot plot of the zoo: one line per network, one dot per kind of cost, limits as vertical lines."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from matplotlib import rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from benchmarks.speed.zoo_rows import LIMITS, ZooResults, ZooRow
from interp_core.pictures.png import encode_png

# Colours that colour-blind readers can distinguish, as in the report. Shapes repeat the distinction.
STYLES = {
    "forward": ("#0072B2", "o"),
    "explain": ("#D55E00", "s"),
    "training step": ("#009E73", "^"),
    "forward memory": ("#56B4E9", "D"),
    "training memory": ("#CC79A7", "v"),
}
PANELS = {"time": ("forward", "explain", "training step"), "peak memory": ("forward memory", "training memory")}
RC_PARAMS: Any = {"font.size": 7.5, "font.family": "sans-serif", "axes.titlesize": 8, "axes.spines.top": False}
RC_PARAMS |= {"axes.spines.right": False, "axes.titlelocation": "left", "ytick.major.size": 0, "legend.frameon": False}
DPI = 200


def zoo_figure(results: ZooResults) -> Figure:
    """Draw one row of panels per variant, networks by their forward ratio with the highest on top."""
    variants = results.variants()
    nets = _sort_networks(results)
    with rc_context(RC_PARAMS):
        figure = Figure((7.2, 0.7 + len(variants) * (0.7 + 0.19 * max(4, len(nets)))), layout="constrained")
        grid = figure.subplots(len(variants), len(PANELS), squeeze=False, sharey=True, width_ratios=(3, 2))
        for panels, variant in zip(grid, variants, strict=True):
            for axes, (title, kinds) in zip(panels, PANELS.items(), strict=True):
                _draw_panel(axes, results, variant, kinds, nets)
                axes.set_title(f"{title}, {variant}")
        handles = [
            Line2D([], [], color=c, marker=m, markersize=4, linestyle="none", label=k) for k, (c, m) in STYLES.items()
        ]
        figure.supxlabel("with LAP / plain; bars: quartiles; dashed: asked of the median", fontsize=7.5)
        figure.legend(handles=handles, loc="outside upper center", ncols=len(STYLES), handletextpad=0.1)
    return figure


def zoo_png(results: ZooResults) -> bytes:
    """Render the figure as PNG, reproducible to the byte."""
    with rc_context(RC_PARAMS):
        figure = zoo_figure(results)
        figure.set_dpi(DPI)
        return encode_png(figure)


def _sort_networks(results: ZooResults) -> list[str]:
    """Sort networks by the ratio of their forward passes in the first variant, or of any cost without those."""
    rows: Sequence[ZooRow] = results.select(results.variants()[0], "forward") or results.rows
    ratios = {row.net: row.ratio for row in rows}
    return sorted(dict.fromkeys(row.net for row in results.rows), key=lambda net: ratios.get(net, 0.0))


def _draw_panel(axes: Axes, results: ZooResults, variant: str, kinds: Sequence[str], nets: list[str]) -> None:
    heights = {net: float(position) for position, net in enumerate(nets)}
    axes.axvline(1.0, color="#8A8A8A", linewidth=0.6, zorder=0)
    for position, kind in enumerate(kinds):
        colour, marker = STYLES[kind]
        rows = results.select(variant, kind)
        ys = np.array([heights[row.net] for row in rows]) + 0.22 * ((len(kinds) - 1) / 2 - position)
        axes.hlines(ys, [row.q1 for row in rows], [row.q3 for row in rows], color=colour, linewidth=0.7, alpha=0.6)
        axes.plot([row.ratio for row in rows], ys, marker, color=colour, markersize=2.8, linestyle="none")
    limits = {LIMITS[kind].median: STYLES[kind][0] for kind in kinds}
    for limit, colour in limits.items():
        axes.axvline(limit, color=colour, linewidth=0.8, linestyle=(0, (4, 3)), zorder=0)
    ratios = [1.0, *limits, *(row.ratio for kind in kinds for row in results.select(variant, kind))]
    margin = 0.06 * (max(ratios) - min(ratios))
    # Limits from the ratios, since quartiles of a disturbed comparison may be far out.
    axes.set_xlim(min(ratios) - margin, max(ratios) + margin)
    axes.set_yticks(list(heights.values()), nets)
    axes.set_ylim(-0.7, len(nets) - 0.3)
    axes.grid(axis="y", color="#EEEEEE", linewidth=0.5)
    axes.set_axisbelow(True)
