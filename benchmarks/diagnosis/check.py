"""The contract of a check: it looks at the evidence, tests a statistic against its null, and names suspects."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import ClassVar, Literal, Protocol

import numpy as np
from PIL.Image import Image
from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor

from benchmarks.diagnosis.evidence import Evidence
from benchmarks.diagnosis.finding import Condition, Status
from benchmarks.diagnosis.region import Region
from benchmarks.diagnosis.subject import Subject
from interp_core.datasets import Images
from interp_core.registry import ClassRegistry

Need = Literal["labels", "masks", "metadata", "errors", "several classes", "other split"]
ALPHA = 0.05


class Edit(Protocol):
    """A change of whole images, for suspects that lie nowhere, such as brightness."""

    @property
    def control(self) -> str:
        """The matched control in words."""

    def apply(self, images: Tensor, amount: float | Tensor) -> Tensor:
        """Move the property of images (N, 3, H, W) in [0, 1] by `amount` in its units, one or (N,)."""

    def apply_control(self, images: Tensor, amount: float) -> Tensor:
        """Change the images as much in another respect."""


@dataclass(frozen=True)
class Suspect:
    """A suspected cause before any intervention.

    Attributes:
        key: stable name within the check, such as "brightness" or "place-top-left".
        title: one sentence.
        classes: indices of the classes whose answers it may drive.
        members: (m,) positions in the evidence of images that show it, clearest first.
        value: of the statistic.
        null: mean of the statistic under permutation.
        p: under permutation, adjusted by Holm within the check.
        region: where it lies; None for a property or a fact about labels.
        property: name of the image property.
        edit: change of whole images that moves the property.
        amount: by which the edit moves images of other classes towards `classes`.
        in_data: whether it goes with the label in the data, the first rung; None if not tested.
        in_maps: whether evidence lies on it beyond its null, the second rung; None if not tested.
        grounds: sentences for the first two rungs.
        is_legitimate: whether it is the object itself, known by masks; such suspects are not examined.
        is_screening: whether it is examined without grounds, because that is cheap; reported only if it is a cause.
        details: further numbers by name.
    """

    key: str
    title: str
    classes: tuple[int, ...]
    members: np.ndarray
    value: float
    null: float | None = None
    p: float | None = None
    region: Region | None = None
    property: str | None = None
    edit: Edit | None = None
    amount: float = 0.0
    in_data: bool | None = None
    in_maps: bool | None = None
    grounds: tuple[str, str] = ("not tested", "not tested")
    is_legitimate: bool = False
    is_screening: bool = False
    details: dict[str, float | int | str] = field(default_factory=dict)


@dataclass(frozen=True)
class CheckResult:
    """What a check says.

    Attributes:
        sentence: result in one sentence.
        conditions: criteria with their outcomes; empty for information only.
        suspects: suspected causes, most suspicious first.
        value: of the statistic, the most extreme.
        null: its mean under permutation.
        p: smallest, adjusted.
        picture: a figure of the result.
        reason: why the check could not run; None if it did.
    """

    sentence: str
    conditions: tuple[Condition, ...] = ()
    suspects: tuple[Suspect, ...] = ()
    value: float | None = None
    null: float | None = None
    p: float | None = None
    picture: Image | None = None
    reason: str | None = None

    @property
    def status(self) -> Status:
        """Worst outcome of the conditions."""
        if self.reason is not None:
            return Status.not_run
        order = (Status.failed, Status.warned, Status.passed, Status.not_run)
        outcomes = {condition.status for condition in self.conditions}
        return next((status for status in order if status in outcomes), Status.passed)


@dataclass(frozen=True)
class Context:
    """What a check may use besides the evidence.

    Attributes:
        subject: the network.
        images: the split, for checks that read images again.
        seed: of permutations and samples.
        other: evidence hashes and ids by name of another split, for duplicates.
    """

    subject: Subject
    images: Images
    seed: int = 0
    other: dict[str, tuple[list[str], np.ndarray]] = field(default_factory=dict)

    @property
    def generator(self) -> np.random.Generator:
        """A new generator of the seed."""
        return np.random.default_rng(self.seed)


class Check(BaseModel):
    """Base class of checks. Subclasses write `run`; their fields are their parameters.

    Class attributes:
        name: registered name.
        title: for people, a noun phrase.
        needs: what the evidence must have; else the check is NOT RUN.
        source: paper or library of the method.

    Fields:
        alpha: level of significance after Holm's correction.
        permutations: number of permutations of the null distribution.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    name: ClassVar[str] = ""
    title: ClassVar[str] = ""
    needs: ClassVar[tuple[Need, ...]] = ()
    source: ClassVar[str] = ""

    alpha: float = Field(ALPHA, gt=0, lt=1)
    permutations: int = Field(199, ge=19)

    def run(self, evidence: Evidence, context: Context) -> CheckResult:
        """Look at the evidence."""
        raise NotImplementedError(f"{type(self).__name__} must define run")

    def missing(self, evidence: Evidence, context: Context) -> str | None:
        """Return what the evidence lacks for this check, as a sentence; None if it has all."""
        lack = "there are no labels" if evidence.targets.ndim == 1 else "an image may have several labels"
        kind = "are of one class" if evidence.has_labels else "get the same answer"
        present = {
            "labels": (evidence.has_labels, lack),
            "masks": (bool(np.isfinite(evidence.inside).any()), "no image has a mask or box"),
            "metadata": (bool(evidence.metadata), "there is no metadata: give --metadata"),
            "errors": (bool((~evidence.correct).any()), "the network makes no error here"),
            "several classes": (len(np.unique(evidence.labels)) > 1, f"all images {kind}"),
            "other split": (bool(context.other), "there is no other split"),
        }
        return next((why for need, (has, why) in present.items() if need in self.needs and not has), None)


checks: ClassRegistry[Check] = ClassRegistry("diagnosis check", "interp_bench.diagnosis_checks")


def permutation_p(value: float, null: np.ndarray) -> float:
    """Compute the one-sided p of a value under a null distribution (n,): (1 + #{null >= value}) / (1 + n)."""
    return (1 + int((np.asarray(null) >= value).sum())) / (1 + len(null))
