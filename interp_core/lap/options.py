"""Options of LAP: arguments of `attach`, saved with every model."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from interp_core.backbone.sites import Site
from interp_core.errors import ContractError
from interp_core.lap.blocks import AGGREGATES
from interp_core.lap.pooling import WEIGHTINGS, Weighting

# Names of concepts: the same at every level, or by level.
Concepts = Sequence[str] | Mapping[str, Sequence[str]]

UNNAMED = ("any",)  # one class-agnostic concept


@dataclass(frozen=True)
class LapOptions:
    """Options that shape the blocks.

    `interp_core.attach` documents each of them.

    Raises:
        ContractError: an aggregate, weighting or image size that does not exist.
    """

    finest: int | None = None
    hidden: int = 32
    gate_hidden: int = 16
    candidates: int = 10
    concepts: Concepts | None = None
    aggregate: str = "max"
    weighting: Weighting = "rbf"
    refine: bool | int = False
    cell: int | None = None
    image_size: int | tuple[int, int] | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "image_size", _check_size(self.image_size))
        if self.weighting not in WEIGHTINGS:
            raise ContractError(f"weighting must be one of {', '.join(WEIGHTINGS)}, got {self.weighting!r}")
        if self.aggregate not in AGGREGATES:
            raise ContractError(f"aggregate must be one of {', '.join(AGGREGATES)}, got {self.aggregate!r}")


def _check_size(size: object) -> int | tuple[int, int] | None:
    """Return an image size, as a pair where it came as one; JSON has lists only.

    Raises:
        ContractError: it is neither a side in pixels nor a pair of rows and columns.
    """
    sides = tuple(size) if isinstance(size, list | tuple) else (size, size)
    if size is None:
        return None
    if len(sides) != 2 or not all(isinstance(side, int) and side > 0 for side in sides):
        raise ContractError(f"image_size must be a side in pixels or (rows, columns), got {size!r}")
    return sides if isinstance(size, list | tuple) else sides[0]


def names_by_site(concepts: Concepts | None, sites: Sequence[Site]) -> list[tuple[str, ...]]:
    """Return the names of the concepts of each site."""
    if concepts is None:
        return [UNNAMED] * len(sites)
    if isinstance(concepts, Mapping):
        return [tuple(concepts.get(site.module, UNNAMED)) for site in sites]
    return [tuple(concepts)] * len(sites)


def check_concepts(concepts: Concepts | None, sites: Sequence[Site]) -> None:
    """Check the names of concepts against the sites where gates are.

    Raises:
        ContractError: names for a level without a gate, no name at all, or a name twice.
    """
    by_level = concepts if isinstance(concepts, Mapping) else {}
    unknown = sorted(set(by_level) - {site.module for site in sites})
    if unknown:
        levels = ", ".join(site.module for site in sites)
        raise ContractError(f"concepts for {', '.join(unknown)}, where no gate is; gates are at {levels}")
    is_string = any(isinstance(names, str) for names in (concepts, *by_level.values()))
    for names in names_by_site(concepts, sites):
        if is_string or not names or len(set(names)) < len(names):
            raise ContractError(f"concepts of a level must be different names, at least one, got {names}")


def concepts_as_lists(concepts: Concepts | None) -> list[str] | dict[str, list[str]] | None:
    """Return a copy of the names that can be written as JSON."""
    if isinstance(concepts, Mapping):
        return {module: list(names) for module, names in concepts.items()}
    return None if concepts is None else list(concepts)
