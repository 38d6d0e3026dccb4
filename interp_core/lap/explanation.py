"""Explanations: contributions of positions to a logit, from the records of one forward pass.

At the head, without gradients where it is linear,

    R_L(p) = A(p) (W_k . X(:, p))          sums to logit_k - b_k

and `interp_core.lap.redistribution` carries R down to finer grids and to the pixels, so that contributions + bias =
logit on every grid. Heads with hidden layers use the first-order term of the head. Its remainder is in `bias`.

Limit: R says through which positions the logit came, given the features there. The features themselves depend on more
of the image than their cell.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from interp_core.lap.export_gradient import unroll_gradient
from interp_core.lap.odds import class_probabilities
from interp_core.lap.recording import ConceptRecord
from interp_core.pictures.top_regions import TopRegion, top_regions

if TYPE_CHECKING:
    from matplotlib.figure import Figure

SHOWN_TARGETS = 5  # in the text of an explanation


@dataclass(frozen=True, repr=False)
class LevelMaps:
    """Maps of one level.

    Attributes:
        name: the level's module in the backbone; "head" for the global pooling.
        contributions: part of the target's logit through each position, signed, (N, 1, h, w).
        attention: weights inside each window of the level's pooling or gate, >= 0, sum 1 per window, (N, 1, h, w);
            None where the level has no gate.
        names: names of the J concepts.
        record: scores of the level, trained or not.
        trained: whether training has given the scores a meaning.
    """

    name: str
    contributions: Tensor
    attention: Tensor | None = None
    names: tuple[str, ...] = ()
    record: ConceptRecord | None = None
    # A tensor, read on demand, since a compiled pass cannot branch on it.
    trained: Tensor | bool = False

    def __repr__(self) -> str:
        rows, columns = self.contributions.shape[-2:]
        return f"LevelMaps({self.name!r}, {rows} × {columns} cells)"

    @property
    def scores(self) -> Tensor | None:
        """Aggregated concept score S in [0, 1], (N, 1, h, w); at the head the target class' own concept map.

        None where nothing trained the level's scorer.
        """
        return self.record.scores if self.record is not None and bool(self.trained) else None

    @property
    def concepts(self) -> Tensor | None:
        """Concept maps in [0, 1], (N, J, h, w); at the head the target class' own.

        None where nothing trained the level's scorer.
        """
        return self.record.concepts if self.record is not None and bool(self.trained) else None


@dataclass(frozen=True, repr=False)
class Explanation:
    """Explanation of one class per image by a LAP model.

    Attributes:
        map: (N, 1, H, W) float32, signed contributions of the pixels. Their sum + bias = logit.
        targets: (N,) explained classes.
        logits: (N, K) of the same forward pass.
        bias: (N,) part of the target logit that belongs to no position: the classifier's bias where the head is
            linear, else the remainder of the first-order term.
        levels: maps of all levels, finest first, the head last.
        images: (N, C, H, W) explained; a reference, not a copy.
        refined: (N, 1, H, W) float32 >= 0, the map of the decoders where LAP is attached with `refine`. It is learned
            beside the decision and no part of it; see `interp_core.lap.refine`.
        stepped: (N, 1, H, W) float32, where steps were requested: the values of `map` in an order that gradient steps
            on the image have improved. Its sum is that of `map`, but its parts are no exact parts of the decision; see
            `interp_core.lap.steps`.
    """

    map: Tensor
    targets: Tensor
    logits: Tensor
    bias: Tensor
    levels: tuple[LevelMaps, ...]
    images: Tensor
    refined: Tensor | None = None
    stepped: Tensor | None = None

    def __repr__(self) -> str:
        count, _, rows, columns = self.map.shape
        images = f"{count} image{'s' if count != 1 else ''} of {rows} × {columns} pixels"
        return f"Explanation({images}, {_name_targets(self.targets)}, {len(self.levels)} levels)"

    @property
    def head(self) -> LevelMaps:
        """Maps of the head."""
        return self.levels[-1]

    @property
    def contributions(self) -> Tensor:
        """Signed contributions on the finest grid of cells, (N, 1, h, w).

        Their sum + bias = logit of the target.
        """
        return self.levels[0].contributions

    @property
    def concept(self) -> Tensor:
        """Concept map of the target on the head's grid, in [0, 1]."""
        assert self.head.scores is not None
        return self.head.scores

    @property
    def gap(self) -> float:
        """Largest |sum of contributions + bias - logit|, relative to the largest |logit|.

        Over images, levels and pixels; 0 up to rounding.
        """
        target_logits = self.logits.gather(1, self.targets[:, None])[:, 0].double()
        grids = [self.map, *(level.contributions for level in self.levels)]
        sums = torch.stack([grid.double().sum((1, 2, 3)) for grid in grids])
        scale = target_logits.abs().max().clamp(min=torch.finfo(torch.float32).tiny)
        return float((sums + self.bias.double() - target_logits).abs().max() / scale)

    def regions(self, share: float = 0.5, most: int = 5) -> list[list[TopRegion]]:
        """Return boxes around the highest pixels that hold `share` of each map's positive part.

        See `interp_core.pictures.top_regions`.
        """
        return top_regions(self.map.clamp(min=0), share=share, most=most)

    def sheet(self, rows: int = 4, classes: Sequence[str] | None = None) -> Figure:
        """Draw all maps of the first `rows` images as a matplotlib figure.

        Args:
            rows: largest number of images.
            classes: names of the K classes.
        """
        from interp_core.pictures import sheet

        count = min(rows, len(self.map))
        pictures, regions = sheet.to_display(self.images[:count]), top_regions(self.map[:count].clamp(min=0))
        probabilities = class_probabilities(self.logits.float())
        panels = []
        for i in range(count):
            k = int(self.targets[i])
            name = classes[k] if classes else None
            panels.append(
                sheet.Panel(
                    sheet.caption(k, float(self.logits[i, k]), float(probabilities[i, k]), name),
                    pictures[i],
                    _array(self.map[i, 0]),
                    tuple((level.name, _array(level.contributions[i, 0])) for level in reversed(self.levels)),
                    float(self.bias[i]),
                    tuple((lv.name, _array(lv.scores[i, 0])) for lv in reversed(self.levels) if lv.scores is not None),
                    tuple(regions[i]),
                )
            )
        return sheet.sheet(panels, rows=rows, total=len(self.map))

    def save(self, folder: str | Path, names: Sequence[str] | None = None) -> list[Path]:
        """Write one picture per image, the positive part of its map over the image.

        Pictures have the image's size.

        Args:
            folder: created if missing.
            names: file names without suffix; "0", "1", ... by default.

        Raises:
            ContractError: the number of names differs from that of images.
            StoreError: the folder or a file cannot be written.
        """
        from interp_core.pictures.sheet import save_overlays, to_display

        names = names or [str(i) for i in range(len(self.map))]
        return save_overlays(Path(folder), to_display(self.images), self.map.clamp(min=0), names)

    def _repr_png_(self) -> bytes:
        from interp_core.pictures.png import encode_png

        return encode_png(self.sheet())


def _name_targets(targets: Tensor) -> str:
    """Name the explained classes; the first few of many."""
    numbers = [str(index) for index in targets[:SHOWN_TARGETS].tolist()]
    more = ", ..." if len(targets) > SHOWN_TARGETS else ""
    return f"class{'es' if len(targets) != 1 else ''} {', '.join(numbers)}{more}"


def _array(maps: Tensor) -> NDArray[np.float32]:
    array: NDArray[np.float32] = maps.float().numpy(force=True)
    return array


def head_contributions(activations: Tensor, gate: Tensor) -> Tensor:
    """Compute contributions C(p) = A(p) (W_k . X(:, p)).

    From activations W_k . X and the gate |W| A, all (N, 1, h, w).
    """
    return activations * gate / (gate.shape[-2] * gate.shape[-1])


def first_order(
    gated: Tensor, head: Callable[[Tensor], Tensor], choose: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Compute logits and first-order contributions of a head that is not linear.

    One pass through the head gives both.

    C(p) = sum_c X_c(p) d logit / d X_c(p).

    Args:
        gated: X, (N, C, h, w).
        head: from X to logits (N, K), the only part that is differentiated.
        choose: from logits to class indices (N,).

    Returns:
        Logits (N, K), chosen classes (N,), contributions (N, 1, h, w).
    """

    def logits_and_contributions(maps: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        with torch.inference_mode(False), torch.enable_grad():
            # A copy, since tensors made in inference mode cannot be differentiated and a head may write on its input.
            # It is contiguous in an export, where ONNX cannot express the strides of channels-last pooling.
            memory_format = torch.contiguous_format if torch.compiler.is_compiling() else torch.preserve_format
            leaf = maps.detach().clone(memory_format=memory_format).requires_grad_()
            logits = head(leaf * 1)
            classes = choose(logits.detach()).clone()
            (gradient,) = torch.autograd.grad(logits.gather(1, classes[:, None]).sum(), leaf)
        return logits.detach(), classes, (gradient * maps).sum(1, keepdim=True)

    if torch.compiler.is_dynamo_compiling():
        return _first_order_compiled(gated, head, choose)
    if torch.compiler.is_compiling():
        logits, classes, contributions = unroll_gradient(logits_and_contributions, gated)
        return logits, classes, contributions
    return logits_and_contributions(gated)


def _first_order_compiled(
    gated: Tensor, head: Callable[[Tensor], Tensor], choose: Callable[[Tensor], Tensor]
) -> tuple[Tensor, Tensor, Tensor]:
    """Do the same as `first_order` in a form that torch.compile can trace."""
    logits, pull = torch.func.vjp(lambda x: head(x * 1), gated)  # type: ignore[misc]
    classes = choose(logits)
    (gradient,) = pull(torch.zeros_like(logits).scatter(1, classes[:, None], 1.0))
    return logits, classes, (gradient * gated).sum(1, keepdim=True)
