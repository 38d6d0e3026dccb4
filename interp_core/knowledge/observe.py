"""The one recorded pass that all knowledge terms of a training step share.

Limits: beyond `FEW` classes only the present ones and the `LIKELY` most likely absent ones are columns, so that 1,000
classes cost no more than a handful. Where the head is not linear, evidence is in the graph through the attention alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interp_core.backbone.inspect import classifier_weights
from interp_core.errors import ContractError
from interp_core.knowledge.view import HEAD, REFINED, Grid, View, column_of
from interp_core.lap.blocks import select
from interp_core.lap.explanation import head_contributions
from interp_core.lap.model import LapModel, lap_within
from interp_core.lap.recording import Recording, recording
from interp_core.lap.refine import region_and_effects

FEW = 64  # classes up to which every class is a column
LIKELY = 10  # absent classes beside the present ones where there are more


def seen(
    model: nn.Module,
    images: Tensor,
    targets: Tensor | None,
    *,
    regions: Mapping[str, Tensor] | None = None,
    generator: torch.Generator | None = None,
    names: Sequence[str] = (),
    quick: Callable[[Tensor], Tensor] | None = None,
) -> View:
    """Make the recorded pass of one training step.

    Args:
        model: a LAP model, which may be wrapped (parallel, compiled).
        images: (N, C, H, W).
        targets: (N,) class indices, or (N, K) floating point, 1.0 where a class is present; None for the classes that
            the model itself finds likeliest.
        regions: (N, 1, H, W) in [0, 1] by name; rows of NaN for images that have none.
        generator: of random draws, on the CPU.
        names: of the K classes, where terms shall be able to name them.
        quick: the same function of a model that does not learn, from images to logits, for terms that look at further
            images.

    Raises:
        ContractError: not a LAP model, or one whose pass cannot be recorded.
    """
    lap = lap_within(model)
    if lap is None:
        raise ContractError(f"knowledge terms need a LAP model, got {type(model).__name__}: attach LAP first")
    logits, record = _recorded(model, lap, images)
    targets = logits.detach().argmax(1) if targets is None else targets
    labels = (targets if targets.ndim == 2 else F.one_hot(targets, logits.shape[1])).to(logits.dtype)
    classes = columns_of(logits, labels, most=None if targets.ndim == 2 else 1)
    concepts = {site.module: tuple(block.concepts) for site, block in zip(lap.sites, lap.gates, strict=True)}  # type: ignore[arg-type]
    passes = _Passes(_unwrapped(model), lap, images, classes, quick)
    return View(
        images,
        labels if classes is None else labels.gather(1, classes),
        _maps(lap, record, classes),
        classes,
        logits,
        several=targets.ndim == 2,
        below={name: _full(record.gates[name].concepts) for name in concepts},
        concepts=concepts,
        names=names,
        regions=regions or {},
        grids=_grids(lap),
        generator=generator,
        contribute=lambda: passes.contributions(record, logits),
        activate=partial(_activations, lap, record, classes) if lap.info.linear_head else None,
        again=passes.again,
        refine=None if lap.refiner is None else partial(_refined, lap, record),
    )


def _refined(lap: LapModel, record: Recording, view: View, columns: Tensor) -> tuple[Tensor, Tensor]:
    """Refined maps in [0, 1] and effects, (N, 1, h, w) each, of one column (N,) an image."""
    maps, parts = column_of(view.maps, columns), column_of(view.evidence, columns)
    return region_and_effects(lap.refined(record, view.classes_of(columns), parts, maps))


@dataclass(frozen=True)
class _Passes:
    """Further passes of the model a view came from."""

    model: nn.Module
    lap: LapModel
    images: Tensor
    classes: Tensor | None
    quick: Callable[[Tensor], Tensor] | None = None

    def again(self, images: Tensor, look: bool) -> tuple[Tensor, Tensor | None]:
        """Logits (n, K) and, to `look`, concept maps (n, m, h, w) of other pictures of the first n images."""
        if self.quick is not None and not look:
            return _full(self.quick(images)), None
        with untracked(self.lap):
            if not look:
                return _full(self.model(images)), None
            logits, record = _recorded(self.model, self.lap, images)
        return logits, _maps(self.lap, record, None if self.classes is None else self.classes[: len(images)])

    def contributions(self, record: Recording, logits: Tensor) -> Tensor:
        """Contributions (N, m, h, w) of the columns."""
        if self.lap.info.linear_head or logits.requires_grad:
            return _contributions(self.lap, record, self.classes, logits)
        with untracked(self.lap), torch.enable_grad():  # nothing is being learned: the derivative needs its own pass
            again, own = _recorded(self.model, self.lap, self.images)
            return _contributions(self.lap, own, self.classes, again).detach()


def columns_of(logits: Tensor, labels: Tensor, most: int | None = None) -> Tensor | None:
    """The classes each image's columns are of, (N, m) int64, present ones first; None for all K where they are few.

    Args:
        logits: (N, K).
        labels: (N, K).
        most: largest number of present classes, where it is known.
    """
    if logits.shape[1] <= FEW:
        return None
    present = labels > 0
    count = (int(present.sum(1).max()) if most is None else most) + LIKELY
    rank = logits.detach().float().masked_fill(present, float("inf"))
    return rank.topk(min(count, logits.shape[1]), dim=1).indices


@contextmanager
def untracked(model: nn.Module) -> Iterator[None]:
    """Batch norms use the statistics they would use, and their running statistics stay as they are."""
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    moved = [norm for norm in norms if norm.training and norm.track_running_stats]
    for norm in moved:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in moved:
            norm.track_running_stats = True


def _unwrapped(model: nn.Module) -> nn.Module:
    """Without what a parallel wrapper does once a step; compiled code stays."""
    inner = getattr(model, "module", None)
    return _unwrapped(inner) if isinstance(inner, nn.Module) else model


def _recorded(model: nn.Module, lap: LapModel, images: Tensor) -> tuple[Tensor, Recording]:
    """Logits, and what the blocks saw, in the precision of the blocks' own parameters."""
    with recording(all_concepts=lap.info.classes <= FEW) as record:
        logits = model(images)
    if record.features is None or record.hidden is None or record.head_gate is None:
        raise ContractError(f"the pass of {type(model).__name__} was not seen: wrappers that use threads cannot train")
    dtype = lap.head.a.dtype
    record.features, record.hidden = record.features.to(dtype), record.hidden.to(dtype)
    return _full(logits), record


def _maps(lap: LapModel, record: Recording, classes: Tensor | None) -> Tensor:
    if classes is None:
        assert record.concepts is not None
        return _full(record.concepts)
    return _full(lap.head.target_maps(record, _weight(lap), classes)[0])


def _activations(lap: LapModel, record: Recording, classes: Tensor | None) -> Tensor:
    """W_k . X of the columns of a linear head."""
    weight = _weight(lap)
    assert record.features is not None
    assert weight is not None
    return _full(select(weight, record.features, classes))


def _contributions(lap: LapModel, record: Recording, classes: Tensor | None, logits: Tensor) -> Tensor:
    """A (W_k . X) of the columns; where the head is not linear gate * d logit_k / d gate, the derivative held fixed."""
    features, gate, weight = record.features, record.head_gate, _weight(lap)
    assert features is not None
    assert gate is not None
    if weight is not None:
        return _full(head_contributions(select(weight, features, classes), _full(gate)))
    if not gate.requires_grad:
        raise ContractError(
            "evidence of a head that is not linear is a derivative: let some parameter require one, and do without "
            "torch.inference_mode"
        )
    wanted = logits if classes is None else logits.gather(1, classes)
    slopes = [torch.autograd.grad(one.sum(), gate, retain_graph=True)[0] for one in wanted.unbind(1)]
    return _full(gate) * torch.cat(slopes, 1)


def _weight(lap: LapModel) -> Tensor | None:
    found = classifier_weights(lap.backbone, lap.info.split) if lap.info.linear_head else None
    return None if found is None else found[0]


def _grids(lap: LapModel) -> dict[str, Grid]:
    """Cells of levels below the head are taken to tile the image."""
    below = {site.module: Grid((site.reduction - 1) / 2, site.reduction) for site in lap.sites}
    finest = {} if lap.refiner is None else {REFINED: Grid(*lap.refined_grid)}
    return below | finest | {HEAD: Grid(lap.info.first, lap.info.reduction)}


def _full(values: Tensor) -> Tensor:
    """In single precision at least, since shares and logarithms want it."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
