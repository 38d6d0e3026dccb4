"""Draw the idea of redistribution: the contributions of one logit on each grid, with their sums.

A small network learns the embedded digits, and its redistribution from its own answers. For a few test images the
figure shows what the network's decision consists of: at the head, 7 x 7 cells, on two finer grids, and on the pixels.
Under each grid is its sum, which is the same everywhere and with the bias gives the logit. The first row of an image is
the map as attached, which is smooth upsampling, the second the map after training.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from torch import Tensor

import interp_core
from benchmarks.report.figures import palette, style
from benchmarks.store.atomic import write_atomically
from interp_core import Explanation, LapModel, Recipe
from interp_core.datasets import DigitsInScenes

SIDE, TRAIN, EPOCHS = 56, 1200, 6
NAME = "redistribution.png"
# Two stages of 28 x 28 and 14 x 14 cells; the last map has 7 x 7.
NETWORK: dict[str, Any] = {"num_classes": 10, "layers": [2, 2, 0, 0], "channels": [32, 96, 96, 96], "avg_down": False}
COLOURS = "RdBu_r"


@dataclass(frozen=True)
class Example:
    """One image with its explanations.

    Attributes:
        image: (H, W, 3) in [0, 1].
        label: its class.
        grids: signed contributions at the head, on finer grids and on the pixels, one list for each row.
        bias: part of the logit that belongs to no position.
    """

    image: np.ndarray
    label: str
    grids: tuple[tuple[np.ndarray, ...], ...]
    bias: float


def run(output: Path, epochs: int = EPOCHS, images: int = 2, seed: int = 0) -> list[Path]:
    """Train, explain and draw.

    Args:
        output: folder for the figure.
        epochs: of the network; the redistribution gets as many.
        images: number of test images.
        seed: of both trainings.

    Returns:
        The figure's path.
    """
    output.mkdir(parents=True, exist_ok=True)
    figure = redistribution_figure(make_examples(epochs, images, seed))
    return [write_atomically(output / NAME, style.render(figure, "png"))]


def make_examples(epochs: int, count: int, seed: int) -> list[Example]:
    """Train a network and its redistribution, and explain the first test images it answers correctly."""
    data = DigitsInScenes(image_size=SIDE, train=TRAIN, val=10, test=40)
    train, test = data.load("train"), data.load("test")
    images, targets = _to_tensor(train.images), torch.from_numpy(train.targets)
    mean, std = (statistic((0, 2, 3), keepdim=True) for statistic in (images.mean, images.std))
    torch.manual_seed(seed)
    lap = interp_core.attach(timm.create_model("test_resnet", **NETWORK), image_size=SIDE, cell=2)
    normalised = (images - mean) / std
    recipe = Recipe(epochs=epochs, batch_size=32, shift=2, seed=seed)
    interp_core.fit(lap.backbone, normalised, targets, recipe=recipe)
    pictures, labels = _to_tensor(test.images), torch.from_numpy(test.targets)
    is_correct = lap.eval()((pictures - mean) / std).argmax(1) == labels
    chosen = is_correct.nonzero()[:count, 0]
    inputs = (pictures[chosen] - mean) / std
    before = lap.explain(inputs)
    fit_redistribution(lap, normalised, Recipe(mode="frozen", epochs=epochs, batch_size=32, shift=2, seed=seed))
    after = lap.explain(inputs)
    return [
        Example(
            pictures[index].permute(1, 2, 0).numpy(),
            str(int(labels[index])),
            (_grids_of(before, i), _grids_of(after, i)),
            float(after.bias[i]),
        )
        for i, index in enumerate(chosen.tolist())
    ]


def fit_redistribution(lap: LapModel, images: Tensor, recipe: Recipe) -> None:
    """Train the redistribution from the network's own answers."""
    with torch.no_grad():
        answers = torch.cat([lap(batch).argmax(1) for batch in images.split(64)])
    interp_core.fit(lap, images, answers, recipe=recipe)


@style.use_style
def redistribution_figure(examples: Sequence[Example]) -> Figure:
    """Draw two rows per example: the grids as attached, and after training.

    Each grid has the colours of its own largest value. Red counts for the class, blue against it.
    """
    columns = 1 + len(examples[0].grids[0])
    side = style.WIDE / (columns + 0.55)
    rows = 2 * len(examples)
    figure = Figure((style.WIDE, rows * (side + 0.4) + 0.3))
    panels = figure.subplots(rows, columns, squeeze=False)
    figure.subplots_adjust(0.085, 0.05, 0.995, 0.94, 0.1, 0.28)
    for index, example in enumerate(examples):
        for row, (name, grids) in enumerate(zip(("as attached", "trained"), example.grids, strict=True)):
            axes = panels[2 * index + row]
            axes[0].set_ylabel(name, fontsize=7)
            _draw_image(axes[0], example)
            _draw_grids(axes[1:], grids, example.bias)
    for axes, title in zip(panels[0], _titles(examples[0]), strict=True):
        axes.set_title(title, loc="center", fontsize=7.5, fontweight="normal", pad=4)
    return figure


def _titles(example: Example) -> list[str]:
    *grids, pixels = example.grids[0]
    sizes = [f"{grid.shape[0]} × {grid.shape[1]} cells" for grid in grids]
    return ["image", f"head, {sizes[0]}", *sizes[1:], f"{pixels.shape[0]} × {pixels.shape[1]} pixels"]


def _draw_image(axes: Axes, example: Example) -> None:
    axes.imshow(example.image, interpolation="nearest")
    _hide_frame(axes)
    axes.set_xlabel(f"class {example.label}", fontsize=7, labelpad=3)


def _draw_grids(panels: Sequence[Axes], grids: Sequence[np.ndarray], bias: float) -> None:
    for number, (axes, grid) in enumerate(zip(panels, grids, strict=True)):
        high = float(np.abs(grid).max()) or 1.0
        axes.imshow(grid, cmap=COLOURS, vmin=-high, vmax=high, interpolation="nearest")
        _hide_frame(axes)
        total = float(grid.sum(dtype=np.float64))
        axes.set_xlabel(f"sum {_signed(total)}\nwith bias {_signed(total + bias)}", fontsize=7, labelpad=3)
        if number:
            arrow = {"arrowstyle": "->", "color": palette.FAINT_INK, "linewidth": 0.9}
            axes.annotate(
                "", (-0.01, 0.5), (-0.1, 0.5), xycoords="axes fraction", textcoords="axes fraction", arrowprops=arrow
            )


def _hide_frame(axes: Axes) -> None:
    axes.set_xticks([])
    axes.set_yticks([])
    axes.spines[:].set_visible(False)


def _signed(value: float) -> str:
    return f"{value:+.2f}".replace("-", "−")


def _grids_of(explanation: Explanation, index: int) -> tuple[np.ndarray, ...]:
    maps = [*(level.contributions for level in reversed(explanation.levels)), explanation.map]
    return tuple(grid[index, 0].double().numpy(force=True) for grid in maps)


def _to_tensor(images: np.ndarray) -> Tensor:
    """Convert images (N, 3, H, W) as uint8 to float in [0, 1]."""
    return torch.from_numpy(images).float() / 255
