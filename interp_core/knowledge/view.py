"""The view of one training step that knowledge terms read: maps in the graph, labels and access to the model.

`View.subjects` resolves a term's field `of` into maps, level by level. `View.sample_class` draws one present class an
image, the same for all terms of a step.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from interp_core.backbone.geometry import CellGrid, resize
from interp_core.errors import ContractError, UnknownNameError
from interp_core.knowledge.in_parts import values_in_parts
from interp_core.lap.redistribution import MovedLevel

HEAD = "head"
REFINED = "refined"

Of = str | int | tuple[str | int, ...]


@dataclass(frozen=True)
class Subject:
    """The classes or concepts of one level that a term is about.

    Attributes:
        level: "head", or the name of a level below.
        grid: position of its cells in the image.
        maps: concept maps I in [0, 1], (N, m, h, w).
        present: (N, m) 1.0 where the term is about the class or concept and the image shows it.
        absent: (N, m) 1.0 where the term is about the class or concept and the image does not show it.
    """

    level: str
    grid: CellGrid
    maps: Tensor
    present: Tensor
    absent: Tensor


@dataclass(frozen=True)
class SampledClass:
    """One present class of each image.

    Attributes:
        column: (N,) index of the class among the view's columns.
        present: (N,) 1.0 where the image shows such a class, else 0.0.
    """

    column: Tensor
    present: Tensor


@dataclass(frozen=True)
class MovedClass:
    """One present class of each image, with its contributions on all grids.

    Attributes:
        column: (N,) index of the class among the view's columns.
        present: (N,) 1.0 where the image shows such a class, else 0.0.
        contributions: at the head, (N, 1, h, w).
        levels: of the levels below the head, finest first, in the graph.
        map: contributions of the pixels, (N, 1, H, W), in the graph.
    """

    column: Tensor
    present: Tensor
    contributions: Tensor
    levels: Sequence[MovedLevel]
    map: Tensor


@dataclass(frozen=True)
class ModelAccess:
    """Functions of the model behind a view. A function that is None is not available.

    Attributes:
        forward_again: runs another pass, from images (n, C, H, W), whether maps are needed and whether the model learns
            from the pass, to logits (n, K) and concept maps (n, m, h, w), or None.
        contributions: computes signed contributions A (W_k . X) of the columns, (N, m, h, w), in the graph.
        activations: computes signed W_k . X of the columns, (N, m, h, w), in the graph. None where the head is not
            linear.
        region: computes refined maps M in [0, 1], (N, 1, h', w'), of one column (N,) an image. None where the model
            does not refine.
        effects: computes effects of the same shape. None where the model does not refine.
        redistribute: carries the contributions (n, 1, h, w) of one column (n,) of each of the first n images to all
            levels, finest first, and to the pixels (n, 1, H, W).
        part: number of images whose graph further passes hold at once; None for all. See `interp_core.knowledge.
            in_parts`.
    """

    forward_again: Callable[[Tensor, bool, bool], tuple[Tensor, Tensor | None]] | None = None
    contributions: Callable[[], Tensor] | None = None
    activations: Callable[[], Tensor] | None = None
    region: Callable[[View, Tensor], Tensor] | None = None
    effects: Callable[[View, Tensor], Tensor] | None = None
    redistribute: Callable[[View, Tensor, Tensor], tuple[Sequence[MovedLevel], Tensor]] | None = None
    part: int | None = None


NO_MODEL = ModelAccess()  # `view_of` passes it, since torch.compile cannot trace the default factory


@dataclass
class View:
    """Tensors of one training step and access to the model, for knowledge terms.

    Attributes:
        images: (N, C, H, W) as the network took them.
        labels: (N, m) 1.0 where the class of that column is present.
        maps: (N, m, h, w) concept maps I in [0, 1] at the head, in the graph.
        classes: (N, m) int64, the class of each column; None where the columns are all K classes in order.
        logits: (N, K).
        multi_label: whether an image may show several classes, each with its own sigmoid.
        below: concept maps (N, J, h, w) of the levels below the head, finest first, by name of level.
        concepts: names of their J concepts, by name of level.
        names: names of the K classes; empty if unknown.
        regions: (N, 1, H, W) in [0, 1] by name; rows of NaN for images without a mask.
        grids: position of each level's cells; the head is "head", refined maps are "refined".
        generator: generator of random draws, on the CPU; None for torch's default.
        model: access to the model for terms that need more than its maps.
    """

    images: Tensor
    labels: Tensor
    maps: Tensor
    classes: Tensor | None
    logits: Tensor
    multi_label: bool = False
    below: Mapping[str, Tensor] = field(default_factory=dict)
    concepts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    names: Sequence[str] = ()
    regions: Mapping[str, Tensor] = field(default_factory=dict)
    grids: Mapping[str, CellGrid] = field(default_factory=dict)
    generator: torch.Generator | None = None
    model: ModelAccess = field(default_factory=ModelAccess)
    _samples: dict[Of, SampledClass] = field(default_factory=dict, repr=False)
    _moved: dict[tuple[Of, int | None], MovedClass] = field(default_factory=dict, repr=False)
    _finest: dict[Of, Tensor] = field(default_factory=dict, repr=False)
    _effects: dict[Of, Tensor] = field(default_factory=dict, repr=False)

    @cached_property
    def contributions(self) -> Tensor:
        """Signed contributions A (W_k . X) of the columns, (N, m, h, w), in the graph; computed on first use.

        Raises:
            ContractError: the view was made without a model.
        """
        if self.model.contributions is None:
            raise _no_model()
        return self.model.contributions()

    @cached_property
    def activations(self) -> Tensor:
        """Signed W_k . X of the columns, before attention weighs them, (N, m, h, w), in the graph.

        Equal to the contributions where the head is not linear.

        Raises:
            ContractError: the view was made without a model.
        """
        return self.contributions if self.model.activations is None else self.model.activations()

    def logits_of(self, images: Tensor, learn: bool = True) -> Tensor:
        """Return logits (n, K) of other images by another pass.

        The model stays in its mode, and running statistics do not change.

        Args:
            images: (n, C, H, W).
            learn: whether gradient reaches the model's parameters; otherwise it reaches the images only.

        Raises:
            ContractError: the view was made without a model.
        """
        return self._forward_again(images, maps=False, learn=learn)[0]

    def values_of(self, images: Tensor, function: Callable[[Tensor, slice], Tensor]) -> Tensor:
        """Compute one number an image, (n,), from the logits of other images, in parts where all do not fit.

        Gradient reaches the images only, not the model's parameters.

        Args:
            images: (n, C, H, W).
            function: from the logits of some images and their rows among all to one number an image. Each number must
                depend on the logits of its own image alone.

        Raises:
            ContractError: the view was made without a model.
        """

        def numbers(part: Tensor, rows: slice) -> Tensor:
            return function(self.logits_of(part, learn=False), rows)

        return values_in_parts(numbers, images, self.model.part)

    def maps_of(self, images: Tensor) -> Tensor:
        """Return concept maps (n, m, h, w) of changed versions of the first n images by another pass.

        The columns are those of the first n images. The model stays in its mode, and running statistics do not change.

        Raises:
            ContractError: the view was made without a model.
        """
        maps = self._forward_again(images, maps=True)[1]
        assert maps is not None
        return maps

    def subjects(self, of: Of = "all", shown_by: Of | None = None) -> list[Subject]:
        """Resolve `of`, level by level.

        Args:
            of: "all" classes; a class by index or name; a concept of a level below the head by name, "level:concept"
                where several levels have it; or a tuple of these.
            shown_by: classes that show the concept. By default the class of the same name; a concept that no class is
                named after counts as shown by every image.

        Raises:
            UnknownNameError: there is no such class or concept.
        """
        selectors = of if isinstance(of, tuple) else (of,)
        # A loop, not a comprehension: torch.compile cannot trace a comprehension that reads `self`.
        classes, below = [], []
        for selector in selectors:
            index = None if selector == "all" else self._class_index(selector)
            if index is not None:
                classes.append(index)
            elif selector != "all":
                below += self._subjects_below(str(selector), shown_by)
        has_all = "all" in selectors
        return ([self._head_subject(None if has_all else classes)] if has_all or classes else []) + below

    def head(self, of: Of = "all") -> Subject:
        """Resolve `of` among the classes.

        Raises:
            ContractError: it names a concept below the head, on which no logit depends directly.
        """
        subjects = self.subjects(of)
        if len(subjects) != 1 or subjects[0].level != HEAD:
            raise ContractError(f"this term is about the decision for a class, and {of!r} names a concept below it")
        return subjects[0]

    def sample_columns(self, subject: Subject) -> tuple[Tensor, Tensor]:
        """Draw one present column of each image, (N,) int64, with 1.0 where the image has one, (N,).

        Within one step the draw is the same for all terms with the same `of`.
        """
        is_present = subject.present > 0
        return (self._noise * is_present).argmax(1), is_present.any(1).to(subject.maps.dtype)

    def sample_class(self, of: Of = "all") -> SampledClass:
        """Draw one present class of each image among `of`, the same throughout a step.

        Raises:
            ContractError: see `head`.
        """
        if of not in self._samples:
            self._samples[of] = SampledClass(*self.sample_columns(self.head(of)))
        return self._samples[of]

    @property
    def finest_level(self) -> str:
        """Level of `finest_maps`: "refined" where the model refines, else "head"."""
        return HEAD if self.model.region is None else REFINED

    def finest_maps(self, of: Of = "all") -> Tensor:
        """Return maps in [0, 1] of the class that `sample_class` draws, (N, 1, h, w), in the graph.

        They are refined maps where the model refines, else concept maps. They are computed once.
        """
        if of not in self._finest:
            column, region = self.sample_class(of).column, self.model.region
            self._finest[of] = column_of(self.maps, column) if region is None else region(self, column)
        return self._finest[of]

    def effects(self, of: Of = "all") -> Tensor | None:
        """Return the predicted loss of the logit where a patch is removed, (N, 1, h, w), in the graph.

        It is that of the class that `sample_class` draws, see `interp_core.lap.refine`, and computed once. None where
        the model does not refine.
        """
        if self.model.effects is None:
            return None
        if of not in self._effects:
            self._effects[of] = self.model.effects(self, self.sample_class(of).column)
        return self._effects[of]

    def move_class(self, of: Of = "all", count: int | None = None) -> MovedClass:
        """Draw the class that `sample_class` draws, with its contributions on all grids.

        Args:
            of: see `subjects`.
            count: number of images, the first of the batch; None for all. Others cost nothing.

        Raises:
            ContractError: see `head`, or the view was made without a model.
        """
        key = of, count
        if key not in self._moved:
            if self.model.redistribute is None:
                raise _no_model()
            column, present = (values[:count] for values in self.sample_columns(self.head(of)))
            contributions = column_of(self.contributions[:count], column)
            levels, maps = self.model.redistribute(self, column, contributions)
            self._moved[key] = MovedClass(column, present, contributions, levels, maps)
        return self._moved[key]

    def classes_of(self, columns: Tensor) -> Tensor:
        """Return the class (N,) of each image's column (N,)."""
        return columns if self.classes is None else self.classes.gather(1, columns[:, None])[:, 0]

    def region(self, name: str) -> Tensor:
        """Return the masks (N, 1, H, W) of a region; rows of NaN for images without one.

        Raises:
            UnknownNameError: no such region.
        """
        if name not in self.regions:
            raise UnknownNameError("region", name, self.regions)
        return self.regions[name]

    def to_image_grid(self, maps: Tensor, level: str = HEAD) -> Tensor:
        """Resize maps of a level (N, m, h, w) to input resolution (N, m, H, W)."""
        grid = self.grids.get(level, CellGrid())
        return resize(maps, self.images.shape[-2], self.images.shape[-1], grid)

    @cached_property
    def _noise(self) -> Tensor:
        noise = torch.rand(self.labels.shape, generator=self.generator)
        return (noise + 1e-3).to(self.labels.device, non_blocking=True)

    def _forward_again(self, images: Tensor, *, maps: bool, learn: bool = True) -> tuple[Tensor, Tensor | None]:
        if self.model.forward_again is None:
            raise _no_model()
        return self.model.forward_again(images, maps, learn)

    def _class_index(self, selector: str | int) -> int | None:
        """Return the index of a class, or None for a name that no class has.

        Raises:
            UnknownNameError: an index out of range.
        """
        if isinstance(selector, str):
            return list(self.names).index(selector) if selector in self.names else None
        if not 0 <= selector < self.logits.shape[1]:
            raise UnknownNameError("class", str(selector), [f"0 to {self.logits.shape[1] - 1}"])
        return selector

    def _columns_in(self, classes: Sequence[int]) -> Tensor:
        """Return (N, m) bool, true where the column's class is one of `classes`."""
        indices = torch.tensor(list(classes), device=self.labels.device)
        columns = torch.arange(self.logits.shape[1], device=indices.device) if self.classes is None else self.classes
        return torch.isin(columns, indices).expand(self.labels.shape)

    def _head_subject(self, classes: Sequence[int] | None) -> Subject:
        selected = torch.ones_like(self.labels) if classes is None else self._columns_in(classes).to(self.labels)
        grid = self.grids.get(HEAD, CellGrid())
        return Subject(HEAD, grid, self.maps, self.labels * selected, (1 - self.labels) * selected)

    def _subjects_below(self, concept: str, shown_by: Of | None) -> list[Subject]:
        prefix, _, short = concept.rpartition(":")
        subjects = []
        for level, names in self.concepts.items():
            name = concept if concept in names else short if prefix == level and short in names else None
            if name is not None:
                present = self._is_shown(name if shown_by is None else shown_by, strict=shown_by is not None)
                maps = self.below[level][:, names.index(name)][:, None]
                subjects.append(Subject(level, self.grids.get(level, CellGrid()), maps, present, 1 - present))
        if not subjects:
            choices = {name for names in self.concepts.values() for name in names} | set(self.names)
            raise UnknownNameError("class or concept", concept, choices)
        return subjects

    def _is_shown(self, by: Of, *, strict: bool) -> Tensor:
        """Return (N, 1) 1.0 where one of these classes is present; all ones for a name that no class has."""
        classes = [self._class_index(selector) for selector in (by if isinstance(by, tuple) else (by,))]
        if None in classes:
            if strict:
                raise UnknownNameError("class", str(by), self.names)
            return torch.ones_like(self.labels[:, :1])
        columns = self._columns_in([index for index in classes if index is not None])
        return (self.labels * columns).amax(1, keepdim=True)


def view_of(maps: Tensor, labels: Tensor, **fields: Any) -> View:
    """Make a view of maps (N, m, h, w) and labels (N, m) alone, with one pixel a cell.

    For tests and for working out a term by hand.

    Args:
        maps: concept maps in [0, 1].
        labels: 1.0 where a class is present.
        fields: further fields of `View`.
    """
    images = maps.new_zeros(len(maps), 3, *maps.shape[-2:])
    fields = {"images": images, "classes": None, "logits": torch.zeros_like(labels), "model": NO_MODEL, **fields}
    return View(labels=labels, maps=maps, **fields)


def column_of(maps: Tensor, column: Tensor) -> Tensor:
    """Select one map (N, 1, h, w) of each image's maps (N, m, h, w) by its column (N,)."""
    return maps.gather(1, column[:, None, None, None].expand(-1, -1, *maps.shape[-2:]))


def fill_missing_masks(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Replace rows of NaN in masks (N, 1, H, W) by zeros, and return 1.0 where a row was complete, (N,)."""
    has_mask = ~masks.isnan().flatten(1).any(1)
    return masks.nan_to_num(0.0), has_mask.to(masks.dtype)


def _no_model() -> ContractError:
    return ContractError("this view was made without a model: use interp_core.knowledge.observe")
