"""Intermediate results of one forward pass, for explanations and training terms."""

from __future__ import annotations

from dataclasses import dataclass, field

from torch import Tensor

from interp_core.errors import ContractError


@dataclass(frozen=True)
class ConceptRecord:
    """Concepts of one level.

    Attributes:
        concepts: concept maps I in [0, 1], (N, J, h, w).
        scores: their aggregate S, (N, 1, h, w).
    """

    concepts: Tensor
    scores: Tensor


@dataclass(frozen=True)
class GateRecord(ConceptRecord):
    """Results of one block below the head.

    Attributes:
        gate: |W| A, (N, 1, h, w).
    """

    gate: Tensor


@dataclass(frozen=True)
class HeadRecord:
    """Results of the block at the head.

    Attributes:
        features: last features before the head's gate, (N, C, h, w).
        hidden: hidden layer of the head's scorer, (N, hidden, h, w).
        gate: |W| A, (N, 1, h, w).
        concepts: concept maps of all classes, (N, K, h, w); None unless `Recording.all_concepts`.
    """

    features: Tensor
    hidden: Tensor
    gate: Tensor
    concepts: Tensor | None


@dataclass
class TargetRecord:
    """The explained class of each image.

    Attributes:
        request: class indices (N,), one class for all images, or None for the predicted classes.
        classes: explained class indices (N,), set by the pass.
        contributions: of these classes at the head, (N, 1, h, w), set by the pass where the head is not linear.
    """

    request: Tensor | int | None
    classes: Tensor | None = None
    contributions: Tensor | None = None


@dataclass
class Recording:
    """Request for intermediate results of a forward pass, and the results.

    Attributes:
        all_concepts: whether the head block computes the maps of all classes, as training needs them.
        target: the class to explain, None where no explanation is needed.
        gates: records of the levels below the head, by name.
        taps: features of the levels that contributions are carried to, by name, (N, C, h, w).
        head_record: record of the head; None before the pass.
    """

    all_concepts: bool = False
    target: TargetRecord | None = None
    gates: dict[str, GateRecord] = field(default_factory=dict)
    taps: dict[str, Tensor] = field(default_factory=dict)
    head_record: HeadRecord | None = None

    @property
    def head(self) -> HeadRecord:
        """The record of the head.

        Raises:
            ContractError: no pass was recorded.
        """
        if self.head_record is None:
            raise ContractError("no forward pass was recorded: call the LAP model with the images and the recording")
        return self.head_record
