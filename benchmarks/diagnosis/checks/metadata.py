"""Check whether metadata go with labels or with errors.

Columns are categories or numbers. For a value of a category the statistic is how much more frequent it is in a class,
P(value | class) - P(value | others); for numbers it is the separation J of `nulls`. Errors are compared with hits in
the same way, under permutations within labels, so that a hard class alone makes no column suspicious. p values are
adjusted over columns, values and classes together.

Source: Westfall and Young (1993) for the adjustment; Cramér's V of each suspected column from scipy.

Limits: rare values are merged, and columns whose values are nearly all different are skipped as names of images.
Nothing can be removed from images here, so such suspects stay unconfirmed. Values of columns about persons, and values
that look like ids, are replaced by a hash wherever they are shown.
"""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass

import numpy as np
import pandas as pd
from PIL.Image import Image
from pydantic import Field
from scipy.stats.contingency import association

from benchmarks.diagnosis.check import Check, CheckResult, Context, Suspect, checks
from benchmarks.diagnosis.checks.properties import FILE, classes_with_enough, depth_in_range
from benchmarks.diagnosis.evidence import Evidence
from benchmarks.diagnosis.finding import Condition, Status
from benchmarks.diagnosis.nulls import (
    LEAST,
    above_chance,
    bin_codes,
    count_bins,
    follow_within,
    permutations,
    separation,
    step_down_p,
)
from benchmarks.diagnosis.output.drawing import draw, draw_bars

VALUES = 100  # of a column that are tested; rarer ones are merged
UNIQUE = 0.8  # share of different values from which a column names images
FEW = 10  # different numbers up to which a column of numbers is a category
RARE, MISSING = "rare values", "missing"
PERSONAL = re.compile(r"patient|person|subject|name|mrn|birth", re.IGNORECASE)
ID_LIKE = re.compile(r"\d{5,}|@|[0-9a-f]{12,}", re.IGNORECASE)
BARS = 10


@dataclass(frozen=True)
class Column:
    """A column of metadata in codes.

    Attributes:
        name: of the column.
        codes: (N,) int64, of values or of bins.
        values: names of the coded values, as they may be shown; None for numbers.
        numbers: (N,) of a column of numbers.
    """

    name: str
    codes: np.ndarray
    values: tuple[str, ...] | None = None
    numbers: np.ndarray | None = None

    def statistics(self, labels: np.ndarray, classes: int) -> np.ndarray:
        """Compute the statistic of each value and class, (V, K); numbers have one row."""
        counts = count_bins(self.codes, labels, classes)
        if self.values is None:
            return separation(counts)[None]
        size = counts.sum(0)
        return counts / np.maximum(size, 1) - (counts.sum(1, keepdims=True) - counts) / np.maximum(size.sum() - size, 1)


@dataclass(frozen=True)
class Enrichment:
    """A tested hypothesis: a value, or the numbers, of a column go with a class, or with errors."""

    column: Column
    row: int
    cls: int | None
    value: float
    chance: float
    p: float

    @property
    def effect(self) -> float:
        """Statistic above chance."""
        return float(above_chance(np.array(self.value), np.array(self.chance)))

    @property
    def what(self) -> str:
        """The value or the column, as it may be shown."""
        return (
            self.column.name if self.column.values is None else f"{self.column.name} = {self.column.values[self.row]}"
        )

    def scores(self, chosen: np.ndarray) -> np.ndarray:
        """Compute how clearly images show it, (N,): positive where they do."""
        if self.column.numbers is None:
            return np.where(self.column.codes == self.row, 1.0, -1.0)
        return depth_in_range(self.column.numbers, chosen)


@checks.register("metadata")
class Metadata(Check):
    """Metadata that go with labels or with errors.

    Fields:
        threshold: smallest effect of a suspect, in [0, 1].
        notable: smallest effect of a warning.
        follow: smallest rank correlation within labels that counts as following.
    """

    title = "Metadata that go with labels or errors"
    needs = ("labels", "metadata")
    source = "Westfall and Young 1993"

    threshold: float = Field(0.3, ge=0, le=1)
    notable: float = Field(0.1, ge=0, le=1)
    follow: float = Field(0.1, ge=0, le=1)

    def run(self, evidence: Evidence, context: Context) -> CheckResult:
        """Test every column against classes and errors."""
        columns, skipped = read_columns(evidence)
        tests = compare_columns(columns, evidence, self.permutations, context.generator)
        if not tests:
            reason = f"no column can be compared: {skipped} name images or never vary, or classes are too small"
            return CheckResult("", reason=reason)
        significant = sorted((t for t in tests if t.p <= self.alpha), key=lambda t: -t.effect)
        most = max(tests, key=lambda t: t.effect)
        return CheckResult(
            sentence=self._sentence(significant, columns, skipped),
            conditions=(self._condition(significant),),
            suspects=self._suspects(significant, evidence, context),
            value=most.value,
            null=most.chance,
            p=min(t.p for t in tests),
            picture=self._picture(tests, evidence),
        )

    def _sentence(self, significant: list[Enrichment], columns: list[Column], skipped: int) -> str:
        large = {test.column.name for test in significant if test.effect >= self.threshold}
        which = f": {', '.join(sorted(large)[:3])}" if large else ""
        ending = f"; {skipped} that name images or never vary are left out" if skipped else ""
        return f"{len(large)} of {len(columns)} columns go clearly with labels or errors{which}{ending}."

    def _condition(self, significant: list[Enrichment]) -> Condition:
        largest = significant[0].effect if significant else 0.0
        status = (
            Status.failed if largest >= self.threshold else Status.warned if largest >= self.notable else Status.passed
        )
        detail = f"{significant[0].what}: {largest:.2f}" if significant else "no difference is significant"
        return Condition(name=f"significant effect < {self.threshold:.2f}", status=status, detail=detail)

    def _suspects(self, significant: list[Enrichment], evidence: Evidence, context: Context) -> tuple[Suspect, ...]:
        first: dict[tuple[str, bool], Enrichment] = {}
        for test in significant:
            if test.effect >= self.threshold:
                first.setdefault((test.column.name, test.cls is None), test)
        by_class = [(test, test.cls) for test in first.values() if test.cls is not None]
        follows = follow_within(
            [test.scores(evidence.labels == cls) for test, cls in by_class],
            evidence.probabilities[:, [cls for _, cls in by_class]],
            evidence.labels,
            self.permutations,
            context.generator,
            alpha=self.alpha,
            least=self.follow,
        )
        grounds: dict[tuple[str, int | None], tuple[bool, str]] = {
            (test.column.name, cls): ground for (test, cls), ground in zip(by_class, follows, strict=True)
        }
        return tuple(_suspect(test, evidence, grounds.get((test.column.name, test.cls))) for test in first.values())

    def _picture(self, tests: list[Enrichment], evidence: Evidence) -> Image:
        ordered = sorted(tests, key=lambda t: -t.effect)[:BARS]
        names = [f"{t.what} / {'errors' if t.cls is None else evidence.classes[t.cls]}" for t in ordered]
        effects = np.array([t.effect for t in ordered])
        alarming = np.array([t.p <= self.alpha and t.effect >= self.threshold for t in ordered])
        return draw(lambda figure: draw_bars(figure.subplots(), names, effects, alarming, self.threshold))


def read_columns(evidence: Evidence) -> tuple[list[Column], int]:
    """Return the columns that can be tested, and the number of those that are left out."""
    read = [
        read_column(name, values)
        for name, values in evidence.metadata.items()
        if not (name.startswith(FILE) and np.issubdtype(values.dtype, np.number))
    ]
    columns = [column for column in read if column is not None]
    return columns, len(read) - len(columns)


def read_column(name: str, values: np.ndarray) -> Column | None:
    """Read a column as numbers or categories; None if it never varies, or names images."""
    series = pd.Series(values).replace("", np.nan)
    numbers = pd.to_numeric(series, errors="coerce")
    distinct = series.nunique()
    is_numeric = bool(numbers.notna().eq(series.notna()).all()) and series.dtype != bool
    whole = is_numeric and bool((numbers.dropna() % 1 == 0).all())
    if distinct + series.isna().any() < 2 or (
        (whole or not is_numeric) and distinct >= UNIQUE * max(len(series), LEAST)
    ):
        return None
    if is_numeric and distinct > FEW:
        finite = numbers.to_numpy(np.float64)
        return Column(name, bin_codes(finite), numbers=finite)
    return _read_categories(name, series)


def _read_categories(name: str, series: pd.Series) -> Column | None:
    text = series.astype(str).where(series.notna(), MISSING)
    sizes = text.value_counts()
    frequent = sizes[sizes >= LEAST].index[:VALUES]
    text = text.where(text.isin(frequent), RARE)
    codes, values = pd.factorize(text, sort=True)
    if len(values) < 2:
        return None
    return Column(name, codes.astype(np.int64), tuple(display_text(name, str(value)) for value in values))


def display_text(column: str, value: str) -> str:
    """Return a value as it may be shown: a hash where it may tell who a person is."""
    if value in (RARE, MISSING) or not (PERSONAL.search(column) or ID_LIKE.search(value)):
        return value
    return f"group {hashlib.sha256(value.encode()).hexdigest()[:6]}"


def compare_columns(
    columns: list[Column], evidence: Evidence, count: int, rng: np.random.Generator
) -> list[Enrichment]:
    """Test columns against classes, and against errors within classes."""
    if not columns:
        return []
    labels, classes = evidence.labels, len(evidence.classes)
    tested = classes_with_enough(labels, classes)
    hypotheses = [
        (column, row, int(cls))
        for column in columns
        for row in range(1 if column.values is None else len(column.values))
        for cls in tested
    ]
    parts = [_with_null(columns, labels, classes, tested, count, rng)] if len(tested) else []
    wrong = (~evidence.correct).astype(np.int64)
    keys: list[tuple[Column, int, int | None]] = list(hypotheses)
    if LEAST <= wrong.sum() <= len(wrong) - LEAST:
        parts.append(_with_null(columns, wrong, 2, np.array([1]), count, rng, groups=labels))
        rows = ((column, range(1 if column.values is None else len(column.values))) for column in columns)
        keys += [(column, row, None) for column, of_column in rows for row in of_column]
    if not parts:
        return []
    values, null = np.concatenate([v for v, _ in parts]), np.concatenate([n for _, n in parts], axis=1)
    p, chance = step_down_p(values, null), null.mean(0)
    return [
        Enrichment(*key, *numbers)
        for key, *numbers in zip(keys, values.tolist(), chance.tolist(), p.tolist(), strict=True)
    ]


def _with_null(
    columns: list[Column],
    labels: np.ndarray,
    classes: int,
    tested: np.ndarray,
    count: int,
    rng: np.random.Generator,
    groups: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Compute the statistics (m,) of all columns, values and tested classes, and their null (count, m)."""

    def compute(arranged: np.ndarray) -> np.ndarray:
        return np.concatenate([c.statistics(arranged, classes)[:, tested].reshape(-1) for c in columns])

    null = np.stack([compute(labels[order]) for order in permutations(count, len(labels), rng, groups)])
    return compute(labels), null


def _suspect(test: Enrichment, evidence: Evidence, follows: tuple[bool, str] | None) -> Suspect:
    chosen = ~evidence.correct if test.cls is None else evidence.labels == test.cls
    scores = test.scores(chosen)
    members = np.flatnonzero(scores > 0)
    order = np.lexsort((-scores[members], ~chosen[members]))
    shares = [float(np.mean(chosen[mask])) if mask.any() else 0.0 for mask in (scores > 0, scores <= 0)]
    subject = "of the answers are wrong" if test.cls is None else f"are {evidence.classes[test.cls]!r}"
    table = count_bins(test.column.codes, chosen.astype(np.int64), 2)
    cramer = association(table[table.sum(1) > 0].astype(np.int64), method="cramer")
    ground = f"effect {test.effect:.2f} above chance, p {test.p:.3f}"
    return Suspect(
        key=f"{test.what} / {'errors' if test.cls is None else evidence.classes[test.cls]}",
        title=f"{test.what}: {shares[0]:.0%} {subject}, {shares[1]:.0%} elsewhere",
        classes=() if test.cls is None else (test.cls,),
        members=members[order],
        value=test.value,
        null=test.chance,
        p=test.p,
        in_data=None if test.cls is None else True,
        in_maps=None if follows is None else follows[0],
        grounds=(ground, "not tested: it goes with errors" if follows is None else follows[1]),
        details={"effect": test.effect, "Cramér's V": float(cramer), "images": len(members)},
    )
