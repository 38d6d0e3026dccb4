"""What the blocks of one forward pass saw, collected where somebody asks for it and nowhere kept."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field

from torch import Tensor


@dataclass(frozen=True)
class GateRecord:
    """What one block below the head saw.

    Attributes:
        concepts: concept maps I in [0, 1], (N, J, h, w).
        scores: their aggregate S, (N, 1, h, w).
        gate: |W| A, (N, 1, h, w).
    """

    concepts: Tensor
    scores: Tensor
    gate: Tensor


@dataclass
class Recording:
    """What the blocks of one forward pass saw, kept only while somebody asks for it.

    Attributes:
        all_concepts: whether the head block shall compute the maps of every class (training does).
        choose: from logits to the class indices (N,) to explain, where contributions are wanted.
        gates: of each level below the head, by name.
        taps: features of the levels a refined map reads, by name, each in its module's layout.
        features: last features before the head gate, (N, C, h, w).
        hidden: the head scorer's hidden layer, (N, hidden, h, w).
        head_gate: gate of the head, (N, 1, h, w).
        concepts: concept maps of every class, (N, K, h, w); None unless `all_concepts`.
        targets: the classes chosen, (N,).
        contributions: of the chosen class at the head, (N, 1, h, w), where the head is not linear.
    """

    all_concepts: bool = False
    choose: Callable[[Tensor], Tensor] | None = None
    gates: dict[str, GateRecord] = field(default_factory=dict)
    taps: dict[str, Tensor] = field(default_factory=dict)
    features: Tensor | None = None
    hidden: Tensor | None = None
    head_gate: Tensor | None = None
    concepts: Tensor | None = None
    targets: Tensor | None = None
    contributions: Tensor | None = None


# Per thread, so that two explanations at once never mix and the module keeps no state.
_thread = threading.local()


def wanted_recording() -> Recording | None:
    """The recording somebody around this forward pass asked for."""
    return getattr(_thread, "recording", None)


@contextmanager
def recording(*, all_concepts: bool = False, choose: Callable[[Tensor], Tensor] | None = None) -> Iterator[Recording]:
    """Collect what the blocks compute during the forward passes this thread makes inside."""
    record = Recording(all_concepts=all_concepts, choose=choose)
    outer = wanted_recording()
    _thread.recording = record
    try:
        yield record
    finally:
        _thread.recording = outer
