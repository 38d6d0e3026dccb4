"""Run the recorded forward pass that all knowledge terms of a training step share.

Beyond `MAX_ALL_CLASSES` classes only the present ones and the `LIKELY_ABSENT` most likely absent ones are columns of
the view, so that 1,000 classes cost no more than a handful.

Limit: where the head is not linear, contributions have a gradient through the attention only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from interp_core.backbone.geometry import CellGrid
from interp_core.backbone.linear_head import classifier_weights
from interp_core.errors import ContractError
from interp_core.knowledge.in_parts import logits_in_parts
from interp_core.knowledge.view import HEAD, REFINED, ModelAccess, View, column_of
from interp_core.lap.blocks import class_activations
from interp_core.lap.explanation import head_contributions
from interp_core.lap.model import LapModel, lap_within
from interp_core.lap.odds import is_sigmoid
from interp_core.lap.recording import Recording
from interp_core.lap.redistribution import MovedLevel
from interp_core.lap.wrappers import unwrap

MAX_ALL_CLASSES = 64
LIKELY_ABSENT = 10


def observe(
    model: nn.Module,
    images: Tensor,
    targets: Tensor | None,
    *,
    regions: Mapping[str, Tensor] | None = None,
    generator: torch.Generator | None = None,
    names: Sequence[str] = (),
    fast_logits: Callable[[Tensor], Tensor] | None = None,
    part: int | None = None,
) -> View:
    """Run the recorded pass of one training step.

    Args:
        model: a LAP model, which may be wrapped (parallel, compiled). A wrapper must hand on a second argument.
        images: (N, C, H, W).
        targets: (N,) class indices, or (N, K) floating point, 1.0 where a class is present; None for the class that
            the model itself predicts.
        regions: (N, 1, H, W) in [0, 1] by name; rows of NaN for images without a mask.
        generator: generator of random draws, on the CPU.
        names: names of the K classes, if terms use them.
        fast_logits: a faster equivalent of the model, from images to logits, for terms that run it on further images.
            Only for a model whose features do not learn.
        part: number of images whose graph terms hold at once in further passes; None for all. Only for a model whose
            rows do not depend on each other.

    Raises:
        ContractError: not a LAP model, or one whose pass cannot be recorded.
    """
    lap = lap_within(model)
    if lap is None:
        raise ContractError(f"knowledge terms need a LAP model, got {type(model).__name__}: attach LAP first")
    logits, record = _record_pass(model, lap, images)
    targets = logits.detach().argmax(1) if targets is None else targets
    labels = (targets if targets.ndim == 2 else F.one_hot(targets, logits.shape[1])).to(logits.dtype)
    classes = columns_of(logits, labels, most=None if targets.ndim == 2 else 1)
    concepts = {site.module: tuple(block.concepts) for site, block in zip(lap.sites, lap.gates, strict=True)}  # type: ignore[arg-type]
    passes = _FurtherPasses(unwrap(model, keep_compiled=True), lap, images, classes, fast_logits, part)
    return View(
        images,
        labels if classes is None else labels.gather(1, classes),
        _maps(lap, record, classes),
        classes,
        logits,
        multi_label=is_sigmoid(logits, targets.ndim == 2),
        below={name: _at_least_single(record.gates[name].concepts) for name in concepts},
        concepts=concepts,
        names=names,
        regions=regions or {},
        grids=_grids(lap, (images.shape[-2], images.shape[-1])),
        generator=generator,
        model=passes.access(record, logits),
    )


def _region(lap: LapModel, record: Recording, view: View, columns: Tensor) -> Tensor:
    """Compute refined maps in [0, 1], (N, 1, h, w) float32, of one column (N,) an image."""
    assert lap.refiner is not None
    scores: Tensor = lap.refiner.region(*_decoder_inputs(lap, record, view, columns))
    return scores.float().sigmoid()


def _effects(lap: LapModel, record: Recording, view: View, columns: Tensor) -> Tensor:
    """Compute effects (N, 1, h, w) float32 of one column (N,) an image."""
    assert lap.refiner is not None
    effects: Tensor = lap.refiner.effects(*_decoder_inputs(lap, record, view, columns))
    return effects.float()


def _decoder_inputs(lap: LapModel, record: Recording, view: View, columns: Tensor) -> tuple[Any, ...]:
    maps, contributions = column_of(view.maps, columns), column_of(view.contributions, columns)
    return lap.decoder_inputs(record, view.classes_of(columns), contributions, maps)


def _redistribute(
    lap: LapModel, record: Recording, view: View, columns: Tensor, contributions: Tensor
) -> tuple[list[MovedLevel], Tensor]:
    """Return contributions of one column (n,) of each of the first n images on all levels and on the pixels.

    Contributions are constant. Otherwise a network could put its map in order by changing its features.
    """
    size = view.images.shape[-2], view.images.shape[-1]
    constant = contributions.detach()
    levels = lap.redistribute(record, view.classes_of(columns), constant, size)
    return levels, lap.to_pixels(levels[0].contributions if levels else constant, view.images[: len(columns)])


@dataclass(frozen=True)
class _FurtherPasses:
    """Further passes of the model of a view."""

    model: nn.Module
    lap: LapModel
    images: Tensor
    classes: Tensor | None
    fast_logits: Callable[[Tensor], Tensor] | None = None
    part: int | None = None

    def access(self, record: Recording, logits: Tensor) -> ModelAccess:
        """Collect the functions of the model, for the pass that was recorded."""
        return ModelAccess(
            forward_again=self.forward_again,
            contributions=partial(self.contributions, record, logits),
            activations=partial(_activations, self.lap, record, self.classes) if self.lap.info.linear_head else None,
            region=None if self.lap.refiner is None else partial(_region, self.lap, record),
            effects=None if self.lap.refiner is None else partial(_effects, self.lap, record),
            redistribute=partial(_redistribute, self.lap, record),
            part=self.part,
        )

    def forward_again(self, images: Tensor, needs_maps: bool, learn: bool) -> tuple[Tensor, Tensor | None]:
        """Return logits (n, K) and, if needed, concept maps (n, m, h, w) of other versions of the first n images."""
        with freeze_norm_statistics(self.lap), nullcontext() if learn else constant_parameters(self.lap):
            if self.fast_logits is not None and not needs_maps:
                return _at_least_single(logits_in_parts(self.fast_logits, images, self.part)), None
            if not needs_maps:
                return _at_least_single(self.model(images)), None
            logits, record = _record_pass(self.model, self.lap, images)
        return logits, _maps(self.lap, record, None if self.classes is None else self.classes[: len(images)])

    def contributions(self, record: Recording, logits: Tensor) -> Tensor:
        """Compute the contributions (N, m, h, w) of the columns."""
        if self.lap.info.linear_head or logits.requires_grad:
            return _contributions(self.lap, record, self.classes, logits)
        # Nothing is being learned, so the pass has no graph: the derivative needs its own.
        with freeze_norm_statistics(self.lap), torch.enable_grad():
            logits, record = _record_pass(self.model, self.lap, self.images)
            return _contributions(self.lap, record, self.classes, logits).detach()


def columns_of(logits: Tensor, labels: Tensor, most: int | None = None) -> Tensor | None:
    """Choose the classes of each image's columns, (N, m) int64, present ones first; None for all K where few.

    Args:
        logits: (N, K).
        labels: (N, K).
        most: largest number of present classes, if known.
    """
    if logits.shape[1] <= MAX_ALL_CLASSES:
        return None
    present = labels > 0
    count = (int(present.sum(1).max()) if most is None else most) + LIKELY_ABSENT
    rank = logits.detach().float().masked_fill(present, float("inf"))
    return rank.topk(min(count, logits.shape[1]), dim=1).indices


@contextmanager
def freeze_norm_statistics(model: nn.Module) -> Iterator[None]:
    """Disable updates of batch-norm running statistics.

    Batch norms still normalise by the statistics that they would use otherwise.
    """
    norms = [m for m in model.modules() if isinstance(m, nn.modules.batchnorm._NormBase)]
    tracking = [norm for norm in norms if norm.training and norm.track_running_stats]
    for norm in tracking:
        norm.track_running_stats = False
    try:
        yield
    finally:
        for norm in tracking:
            norm.track_running_stats = True


@contextmanager
def constant_parameters(model: nn.Module) -> Iterator[None]:
    """Run passes in which no parameter of the model gets a gradient."""
    learning = [parameter for parameter in model.parameters() if parameter.requires_grad]
    try:
        for parameter in learning:
            parameter.requires_grad_(False)
        yield
    finally:
        for parameter in learning:
            parameter.requires_grad_(True)


def _record_pass(model: nn.Module, lap: LapModel, images: Tensor) -> tuple[Tensor, Recording]:
    """Run the model and record its blocks, in the precision of the blocks' parameters."""
    record = Recording(all_concepts=lap.info.classes <= MAX_ALL_CLASSES)
    logits = model(images, record)
    head, dtype = record.head_record, lap.head.a.dtype
    # Replicas that run in threads each record a part of the batch.
    if head is None or len(head.features) != len(images):
        raise ContractError(
            f"the pass of {type(model).__name__} was not recorded: wrappers that use threads cannot train"
        )
    record.head_record = replace(head, features=head.features.to(dtype), hidden=head.hidden.to(dtype))
    return _at_least_single(logits), record


def _maps(lap: LapModel, record: Recording, classes: Tensor | None) -> Tensor:
    if classes is None:
        assert record.head.concepts is not None
        return _at_least_single(record.head.concepts)
    return _at_least_single(lap.head.target_maps(record.head, _weight(lap), classes)[0])


def _activations(lap: LapModel, record: Recording, classes: Tensor | None) -> Tensor:
    """Compute W_k . X of the columns of a linear head."""
    weight = _weight(lap)
    assert weight is not None
    return _at_least_single(class_activations(weight, record.head.features, classes))


def _contributions(lap: LapModel, record: Recording, classes: Tensor | None, logits: Tensor) -> Tensor:
    """Compute A (W_k . X) of the columns.

    Where the head is not linear it is gate * d logit_k / d gate, with the derivative detached.
    """
    features, gate, weight = record.head.features, record.head.gate, _weight(lap)
    if weight is not None:
        activations = class_activations(weight, features, classes)
        return _at_least_single(head_contributions(activations, _at_least_single(gate)))
    if not gate.requires_grad:
        raise ContractError(
            "contributions to a head that is not linear are a derivative: let some parameter require one, and do "
            "without torch.inference_mode"
        )
    columns = logits if classes is None else logits.gather(1, classes)
    slopes = [torch.autograd.grad(column.sum(), gate, retain_graph=True)[0] for column in columns.unbind(1)]
    return _at_least_single(gate) * torch.cat(slopes, 1)


def _weight(lap: LapModel) -> Tensor | None:
    weights = classifier_weights(lap.backbone, lap.info.partition) if lap.info.linear_head else None
    return None if weights is None else weights[0]


def _grids(lap: LapModel, size: tuple[int, int]) -> dict[str, CellGrid]:
    """Return the grid of each level for images of `size`."""
    below = {site.module: site.grid_of(size) for site in lap.sites}
    finest = {} if lap.refiner is None else {REFINED: lap.refined_grid_of(size)}
    return below | finest | {HEAD: lap.info.grid_of(size)}


def _at_least_single(values: Tensor) -> Tensor:
    """Convert half precision to float32, since shares and logarithms need it."""
    return values.float() if values.dtype in (torch.float16, torch.bfloat16) else values
