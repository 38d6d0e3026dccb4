"""What one training step shows its knowledge terms: maps in the graph, and what a term means by `of`."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import NoReturn

import torch
from torch import Tensor

from interp_core.backbone.geometry import resize
from interp_core.errors import ContractError, UnknownNameError

HEAD = "head"
REFINED = "refined"

Of = str | int | tuple[str | int, ...]


@dataclass(frozen=True)
class Grid:
    """Where the cells of a map lie: the first is centred on pixel `first`, its neighbour `pitch` pixels on."""

    first: float = 0.0
    pitch: float = 1.0


@dataclass(frozen=True)
class Part:
    """What a term speaks of, on the grid of one level.

    Attributes:
        level: "head", or the name of a level below.
        grid: where its cells lie.
        maps: concept maps I in [0, 1], (N, m, h, w).
        present: (N, m) 1.0 where the class or concept is there and the term means it.
        absent: (N, m) 1.0 where it is not there and the term means it.
    """

    level: str
    grid: Grid
    maps: Tensor
    present: Tensor
    absent: Tensor


@dataclass(frozen=True)
class Drawn:
    """One class an image.

    Attributes:
        column: (N,) of the view's columns.
        there: (N,) 1.0 where the image shows one, else 0.0.
        maps: finest map in [0, 1] of it, (N, 1, h, w), in the graph: refined where the model refines, else its concept
            map.
        level: "refined" or "head".
        effects: (N, 1, h, w) what the refiner says the logit loses where a place is removed, in the graph; see
            `interp_core.lap.refine`. None where the model does not refine.
    """

    column: Tensor
    there: Tensor
    maps: Tensor
    level: str
    effects: Tensor | None = None


@dataclass
class View:
    """What one training step shows its terms.

    Attributes:
        images: (N, C, H, W) as the network took them.
        labels: (N, m) 1.0 where the class of that column is present.
        maps: (N, m, h, w) concept maps I in [0, 1] at the head, in the graph.
        classes: (N, m) int64, the class of each column; None where the columns are all K classes in order.
        logits: (N, K).
        several: whether an image may show several classes, each decided for itself by a sigmoid.
        below: concept maps (N, J, h, w) of the levels below the head, finest first, by name of level.
        concepts: names of their J concepts, by name of level.
        names: of the K classes, where they are known.
        regions: (N, 1, H, W) in [0, 1] by name; rows of NaN for images that have none.
        grids: where the cells of each level lie; of the head under "head", of refined maps under "refined".
        generator: of random draws, on the CPU; None for torch's own.
        contribute: makes `evidence`.
        activate: makes `activations`; None where they are the evidence.
        refine: makes refined maps M in [0, 1] and effects, (N, 1, h', w') each, of one column (N,) an image; None where
            the model does not refine.
        again: makes another pass of the same model: from images to logits (N, K) and concept maps (N, m, h, w).
    """

    images: Tensor
    labels: Tensor
    maps: Tensor
    classes: Tensor | None
    logits: Tensor
    several: bool = False
    below: Mapping[str, Tensor] = field(default_factory=dict)
    concepts: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    names: Sequence[str] = ()
    regions: Mapping[str, Tensor] = field(default_factory=dict)
    grids: Mapping[str, Grid] = field(default_factory=dict)
    generator: torch.Generator | None = None
    contribute: Callable[[], Tensor] | None = None
    activate: Callable[[], Tensor] | None = None
    refine: Callable[[View, Tensor], tuple[Tensor, Tensor]] | None = None
    _drawn: dict[Of, Drawn] = field(default_factory=dict, repr=False)
    again: Callable[[Tensor, bool], tuple[Tensor, Tensor | None]] | None = None

    @cached_property
    def evidence(self) -> Tensor:
        """Signed contributions A (W_k . X) of the columns, (N, m, h, w), in the graph; computed when first asked for.

        Raises:
            ContractError: the view was made without a model.
        """
        if self.contribute is None:
            _no_model()
        return self.contribute()

    @cached_property
    def activations(self) -> Tensor:
        """Signed W_k . X of the columns, not weighed by attention, (N, m, h, w), in the graph.

        Where the head is not linear they are the contributions.

        Raises:
            ContractError: the view was made without a model.
        """
        return self.evidence if self.activate is None else self.activate()

    def answer(self, images: Tensor) -> Tensor:
        """Logits (N, K) of other images: another pass, in the mode the model is in, that moves no running statistics.

        Raises:
            ContractError: the view was made without a model.
        """
        if self.again is None:
            _no_model()
        return self.again(images, False)[0]

    def look(self, images: Tensor) -> Tensor:
        """Concept maps (n, m, h, w) of the first n images' columns in other pictures of them; otherwise as `answer`."""
        if self.again is None:
            _no_model()
        maps = self.again(images, True)[1]
        assert maps is not None
        return maps

    def parts(self, of: Of = "all", shown_by: Of | None = None) -> list[Part]:
        """What `of` means, level by level.

        Args:
            of: "all" classes; a class by index or name; a concept of a level below the head by name, "level:concept"
                where several levels have it; or several of these.
            shown_by: classes that show the concept. By default the class of the same name; every image shows a concept
                that no class is named after.

        Raises:
            UnknownNameError: there is no such class or concept.
        """
        wanted = of if isinstance(of, tuple) else (of,)
        # A loop, not a comprehension: torch.compile does not follow one that looks at `self`.
        classes, below = [], []
        for one in wanted:
            number = None if one == "all" else self._class(one)
            if number is not None:
                classes.append(number)
            elif one != "all":
                below += self._below(str(one), shown_by)
        every = "all" in wanted
        return ([self._head(None if every else classes)] if every or classes else []) + below

    def head(self, of: Of = "all") -> Part:
        """What `of` means among the classes.

        Raises:
            ContractError: it names a concept below the head, of which the network decides nothing.
        """
        found = self.parts(of)
        if len(found) != 1 or found[0].level != HEAD:
            raise ContractError(f"this term speaks of the decision for a class, and {of!r} names a concept below it")
        return found[0]

    def draw(self, part: Part) -> tuple[Tensor, Tensor]:
        """One present column of each image, (N,) int64, and 1.0 where there is one, (N,).

        Drawn once a step: all terms of one `of` get the same.
        """
        there = part.present > 0
        return (self._noise * there).argmax(1), there.any(1).to(part.maps.dtype)

    def drawn(self, of: Of = "all") -> Drawn:
        """One present class of each image among `of`, and the finest map there is of it; the same all through a step.

        Raises:
            ContractError: see `head`.
        """
        if of not in self._drawn:
            column, there = self.draw(self.head(of))
            if self.refine is None:
                found = Drawn(column, there, column_of(self.maps, column), HEAD)
            else:
                maps, effects = self.refine(self, column)
                found = Drawn(column, there, maps, REFINED, effects)
            self._drawn[of] = found
        return self._drawn[of]

    def classes_of(self, columns: Tensor) -> Tensor:
        """The class (N,) behind each image's column (N,)."""
        return columns if self.classes is None else self.classes.gather(1, columns[:, None])[:, 0]

    def region(self, name: str) -> Tensor:
        """Masks (N, 1, H, W); rows of NaN for images that have none.

        Raises:
            UnknownNameError: no such region.
        """
        if name not in self.regions:
            raise UnknownNameError("region", name, self.regions)
        return self.regions[name]

    def placed(self, maps: Tensor, level: str = HEAD) -> Tensor:
        """Maps of a level (N, m, h, w) at input resolution (N, m, H, W)."""
        grid = self.grids.get(level, Grid())
        return resize(maps, self.images.shape[-2], self.images.shape[-1], grid.first, grid.pitch)

    @cached_property
    def _noise(self) -> Tensor:
        noise = torch.rand(self.labels.shape, generator=self.generator)
        return (noise + 1e-3).to(self.labels.device, non_blocking=True)

    def _class(self, one: str | int) -> int | None:
        """Index of a class; None for names that no class has.

        Raises:
            UnknownNameError: an index out of range.
        """
        if isinstance(one, str):
            return list(self.names).index(one) if one in self.names else None
        if not 0 <= one < self.logits.shape[1]:
            raise UnknownNameError("class", str(one), [f"0 to {self.logits.shape[1] - 1}"])
        return one

    def _columns(self, classes: Sequence[int]) -> Tensor:
        """(N, m) bool, where a column is of one of these classes."""
        wanted = torch.tensor(list(classes), device=self.labels.device)
        own = torch.arange(self.logits.shape[1], device=wanted.device) if self.classes is None else self.classes
        return torch.isin(own, wanted).expand(self.labels.shape)

    def _head(self, classes: Sequence[int] | None) -> Part:
        meant = torch.ones_like(self.labels) if classes is None else self._columns(classes).to(self.labels)
        grid = self.grids.get(HEAD, Grid())
        return Part(HEAD, grid, self.maps, self.labels * meant, (1 - self.labels) * meant)

    def _below(self, concept: str, shown_by: Of | None) -> list[Part]:
        level, _, short = concept.rpartition(":")
        found = []
        for where, names in self.concepts.items():
            name = concept if concept in names else short if level == where and short in names else None
            if name is not None:
                present = self._shown(name if shown_by is None else shown_by, strict=shown_by is not None)
                maps = self.below[where][:, names.index(name)][:, None]
                found.append(Part(where, self.grids.get(where, Grid()), maps, present, 1 - present))
        if not found:
            known = {name for names in self.concepts.values() for name in names} | set(self.names)
            raise UnknownNameError("class or concept", concept, known)
        return found

    def _shown(self, by: Of, *, strict: bool) -> Tensor:
        """(N, 1) 1.0 where one of these classes is present; everywhere for a name that no class has."""
        classes = [self._class(one) for one in (by if isinstance(by, tuple) else (by,))]
        if None in classes:
            if strict:
                raise UnknownNameError("class", str(by), self.names)
            return torch.ones_like(self.labels[:, :1])
        wanted = self._columns([k for k in classes if k is not None])
        return (self.labels * wanted).amax(1, keepdim=True)


def view_of(maps: Tensor, labels: Tensor, **more: object) -> View:
    """A view of maps (N, m, h, w) and labels (N, m) alone, one pixel a cell: what is needed to work a term out by hand.

    Args:
        maps: concept maps in [0, 1].
        labels: 1.0 where a class is present.
        more: further fields of `View`.
    """
    images = maps.new_zeros(len(maps), 3, *maps.shape[-2:])
    fields = {"images": images, "classes": None, "logits": torch.zeros_like(labels), **more}
    return View(labels=labels, maps=maps, **fields)  # type: ignore[arg-type]


def column_of(maps: Tensor, column: Tensor) -> Tensor:
    """One map (N, 1, h, w) of each image's maps (N, m, h, w), by the column (N,) it is in."""
    return maps.gather(1, column[:, None, None, None].expand(-1, -1, *maps.shape[-2:]))


def known_rows(masks: Tensor) -> tuple[Tensor, Tensor]:
    """Masks (N, 1, H, W) with rows of NaN as zeros, and 1.0 where a row was none, (N,)."""
    has = ~masks.isnan().flatten(1).any(1)
    return masks.nan_to_num(0.0), has.to(masks.dtype)


def _no_model() -> NoReturn:
    raise ContractError("this view was made without a model: use interp_core.knowledge.seen")
