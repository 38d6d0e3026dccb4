"""Check whether properties of whole images or files give a label away.

Statistic, per property and class: separation J of the class against all others, twice the balanced accuracy, less one,
of the best interval of the property; see `nulls`. The effect is J above its mean under permuted labels. p values are
adjusted over properties and classes together. Frequencies of classes cancel out, and a property that gives away one
class of many has an effect of 1.

Second rung: there is nothing to localise, so the check asks whether the network's probability of the class follows the
property among images of one label, by the rank correlation of the two within labels.

Source: Kuiper (1960) for the statistic, Westfall and Young (1993) for the adjustment. cleanlab's check of the same name
compares accuracy with a baseline that is wrong for imbalanced labels.

Limits: classes with fewer than `LEAST` images are not tested. Classes may differ in a property by nature, as snow is
bright: only an intervention says whether the network uses it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from pydantic import Field

from benchmarks.diagnosis.check import Check, CheckResult, Context, Edit, Suspect, checks
from benchmarks.diagnosis.edits import CHANNELS, edit_of
from benchmarks.diagnosis.evidence import Evidence
from benchmarks.diagnosis.finding import Condition, Status
from benchmarks.diagnosis.nulls import (
    LEAST,
    above_chance,
    bin_codes,
    count_bins,
    cumulative_gap,
    follow_within,
    separation,
    separation_null,
    step_down_p,
)
from benchmarks.diagnosis.output.drawing import draw, draw_bars, draw_histograms, shorten
from benchmarks.diagnosis.properties import frame_mask

if TYPE_CHECKING:
    from matplotlib.figure import Figure

FILE = "file:"  # begins the names of metadata that describe the file
LEAST_SHIFT = 0.1  # of the spread: smaller differences of medians give no edit
FRAMES = 32  # images whose frames give the colour of a border
BARS = 10


@dataclass(frozen=True)
class Separations:
    """Separation of classes by columns.

    Attributes:
        names: of the P columns.
        columns: (N, P) values.
        labels: (N,) class indices.
        tested: (T,) classes with enough images.
        values: (P, T) J.
        chance: (P, T) its mean under permutation.
        p: (P, T) adjusted.
    """

    names: tuple[str, ...]
    columns: np.ndarray
    labels: np.ndarray
    tested: np.ndarray
    values: np.ndarray
    chance: np.ndarray
    p: np.ndarray

    @property
    def effects(self) -> np.ndarray:
        """(P, T) J above chance."""
        return above_chance(self.values, self.chance)

    def best(self, column: int) -> int:
        """Return the position in `tested` of the class that a column separates most; the rarest of equal ones."""
        sizes = np.array([(self.labels == cls).sum() for cls in self.tested])
        return int(np.lexsort((-self.tested, sizes, -self.effects[column].round(6)))[0])


@checks.register("properties")
class Properties(Check):
    """Properties of whole images or files that give the label away.

    Fields:
        threshold: smallest effect of a suspect, in [0, 1].
        notable: smallest effect of a warning.
        follow: smallest rank correlation within labels that counts as following.
    """

    title = "Image properties that give the label away"
    needs = ("several classes",)
    source = "Kuiper 1960; Westfall and Young 1993"

    threshold: float = Field(0.3, ge=0, le=1)
    notable: float = Field(0.15, ge=0, le=1)
    follow: float = Field(0.1, ge=0, le=1)

    def run(self, evidence: Evidence, context: Context) -> CheckResult:
        """Test every property against every class."""
        names, columns = property_columns(evidence)
        tested = classes_with_enough(evidence.labels, len(evidence.classes))
        if not len(tested) or not names:
            return CheckResult("", reason=f"no class has {LEAST} images and {LEAST} others to compare them with")
        table = separate(names, columns, evidence.labels, tested, self.permutations, context.generator)
        suspects = self._suspects(table, evidence, context)
        column, position = np.unravel_index(table.effects.argmax(), table.effects.shape)
        return CheckResult(
            sentence=self._sentence(table, evidence, suspects),
            conditions=self._conditions(table, evidence),
            suspects=suspects,
            value=float(table.values[column, position]),
            null=float(table.chance[column, position]),
            p=float(table.p.min()),
            picture=draw(lambda figure: self._paint(figure, table, evidence)),
        )

    def _sentence(self, table: Separations, evidence: Evidence, suspects: tuple[Suspect, ...]) -> str:
        what = "label" if evidence.has_labels else "answer"
        if not suspects:
            return f"None of {len(table.names)} properties gives the {what} away."
        return f"{len(suspects)} of {len(table.names)} properties give the {what} away, first: {suspects[0].title}."

    def _conditions(self, table: Separations, evidence: Evidence) -> tuple[Condition, ...]:
        effects = np.where(table.p <= self.alpha, table.effects, 0)
        column = int(effects.max(1).argmax())
        position = int(effects[column].argmax())
        largest = effects[column, position]
        large = Status.failed if evidence.has_labels else Status.warned
        status = large if largest >= self.threshold else Status.warned if largest >= self.notable else Status.passed
        name, cls = table.names[column], evidence.classes[table.tested[position]]
        detail = f"{name} sets {cls!r} apart by {largest:.2f}" if largest else "no difference is significant"
        return (Condition(name=f"significant separation < {self.threshold:.2f}", status=status, detail=detail),)

    def _suspects(self, table: Separations, evidence: Evidence, context: Context) -> tuple[Suspect, ...]:
        pairs = [(column, table.best(column)) for column in range(len(table.names))]
        pairs = [
            (column, position)
            for column, position in pairs
            if table.p[column, position] <= self.alpha and table.effects[column, position] >= self.threshold
        ]
        pairs.sort(key=lambda pair: -table.effects[pair])
        depths = [depth_in_range(table.columns[:, c], table.labels == table.tested[t]) for c, t in pairs]
        followed = self._test_following(table, pairs, depths, evidence, context)
        return tuple(
            self._suspect(table, pair, depth, evidence, context, follows)
            for pair, depth, follows in zip(pairs, depths, followed, strict=True)
        )

    def _test_following(
        self,
        table: Separations,
        pairs: list[tuple[int, int]],
        depths: list[np.ndarray],
        evidence: Evidence,
        context: Context,
    ) -> list[tuple[bool | None, str]]:
        """Test whether the answers follow each suspected property within labels."""
        if not pairs or not evidence.has_labels:
            return [(None, "not tested: there are no labels")] * len(pairs)
        answers = evidence.probabilities[:, [table.tested[position] for _, position in pairs]]
        return [
            *follow_within(
                depths,
                answers,
                table.labels,
                self.permutations,
                context.generator,
                alpha=self.alpha,
                least=self.follow,
            )
        ]

    def _suspect(
        self,
        table: Separations,
        pair: tuple[int, int],
        depth: np.ndarray,
        evidence: Evidence,
        context: Context,
        follows: tuple[bool | None, str],
    ) -> Suspect:
        column, position = pair
        cls, name, values = int(table.tested[position]), table.names[column], table.columns[:, column]
        inside, outside = _medians(values, table.labels == cls)
        members = np.flatnonzero(depth > 0)
        members = members[np.argsort(-depth[members], kind="stable")]
        # As far as the clearest images, since a part of a class that has the cue hardly moves the class' median.
        shift = float(np.median(values[members[: len(members) // 2 + 1]]) - outside) if len(members) else 0.0
        edit = self._edit(name, values, inside - outside, table.labels == cls, members, context, evidence)
        ground = f"{name} separates {evidence.classes[cls]!r} by {table.values[pair]:.2f}"
        ground += f" (chance {table.chance[pair]:.2f}, p {table.p[pair]:.3f})"
        return Suspect(
            key=name,
            title=f"{name} sets {evidence.classes[cls]!r} apart (median {inside:.3g}, others {outside:.3g})",
            classes=(cls,),
            members=members,
            value=float(table.values[pair]),
            null=float(table.chance[pair]),
            p=float(table.p[pair]),
            property=name,
            edit=edit,
            amount=shift if edit is not None else 0.0,
            in_data=True if evidence.has_labels else None,
            in_maps=follows[0],
            grounds=(ground, follows[1]),
            details={"effect": float(table.effects[pair]), "median": inside, "median of others": outside},
        )

    def _edit(
        self, name: str, values: np.ndarray, shift: float, chosen: np.ndarray, members: np.ndarray,
        context: Context, evidence: Evidence,
    ) -> Edit | None:  # fmt: skip
        if not abs(shift) >= LEAST_SHIFT * np.nanstd(values):
            return None
        frame = frame_colour(context, evidence.rows[chosen]) if name == "border" else None
        return edit_of(name, frame, tint_of(evidence, members[: len(members) // 2 + 1], ~chosen))

    def _paint(self, figure: Figure, table: Separations, evidence: Evidence) -> None:
        left, right = figure.subplots(1, 2)
        order = np.argsort(-table.effects.max(1), kind="stable")[:BARS]
        best = [table.best(column) for column in order]
        names = [table.names[column] for column in order]
        effects = table.effects[order, best]
        alarming = (effects >= self.threshold) & (table.p[order, best] <= self.alpha)
        draw_bars(left, names, effects, alarming, self.threshold)
        left.set_title("separation above chance of the class set apart most")
        cls = table.tested[best[0]]
        title = shorten(evidence.classes[cls])
        draw_histograms(right, table.columns[:, order[0]], table.labels == cls, (title, "other classes"))
        right.set_title(names[0])


def tint_of(evidence: Evidence, members: np.ndarray, is_other: np.ndarray) -> list[float]:
    """Return the difference (3,) of the mean channels of members (m,) and of other images (N,) bool."""
    columns = dict(zip(evidence.property_names, evidence.properties.T, strict=True))
    channels = np.stack([columns[name] + columns["brightness"] for name in CHANNELS], 1)
    difference: np.ndarray = channels[members].mean(0) - channels[is_other].mean(0)
    return [float(value) for value in difference]


def property_columns(evidence: Evidence) -> tuple[tuple[str, ...], np.ndarray]:
    """Return names and values (N, P) of the properties of images and of numeric properties of files."""
    files = {
        name: values.astype(np.float64)
        for name, values in evidence.metadata.items()
        if name.startswith(FILE) and np.issubdtype(values.dtype, np.number)
    }
    columns = [evidence.properties.astype(np.float64), *(values[:, None] for values in files.values())]
    return (*evidence.property_names, *files), np.concatenate(columns, axis=1)


def classes_with_enough(labels: np.ndarray, classes: int) -> np.ndarray:
    """Return the classes with at least `LEAST` images, and as many of other classes."""
    sizes = np.bincount(labels, minlength=classes)
    return np.flatnonzero((sizes >= LEAST) & (len(labels) - sizes >= LEAST))


def separate(
    names: tuple[str, ...],
    columns: np.ndarray,
    labels: np.ndarray,
    tested: np.ndarray,
    count: int,
    rng: np.random.Generator,
) -> Separations:
    """Compute the separation of classes by columns (N, P) under `count` permutations."""
    codes, classes = [bin_codes(column) for column in columns.T], int(labels.max()) + 1
    values = np.stack([separation(count_bins(code, labels, classes)) for code in codes])[:, tested]
    null = separation_null(codes, labels, classes, count, rng)[:, :, tested]
    p = step_down_p(values.reshape(-1), null.reshape(count, -1)).reshape(values.shape)
    return Separations(names, columns, labels, tested, values, null.mean(0), p)


def depth_in_range(values: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Compute how deep values (N,) lie in the range that separates the chosen images (N,) bool from the others.

    Depth is in shares of all images, positive inside the range and negative outside; NaN count as largest.
    """
    codes = bin_codes(values)
    gap = cumulative_gap(count_bins(codes, chosen.astype(np.int64), 2))[:, 1]
    low = int(gap.argmin()) if gap.min() < 0 else -1
    high = int(gap.argmax()) if gap.max() > 0 else -1
    first, last = min(low, high), max(low, high)
    ranks = (np.argsort(np.argsort(values, kind="stable"), kind="stable") + 0.5) / len(values)
    above = ranks - (codes <= first).mean() if first >= 0 else np.full(len(values), np.inf)
    depth = np.minimum(above, (codes <= last).mean() - ranks)
    return depth if low <= high else -depth


def frame_colour(context: Context, rows: np.ndarray) -> tuple[float, ...] | None:
    """Return the mean colour of the outer frames of up to `FRAMES` images; None if none can be read."""
    images = context.images.take(rows[:: max(1, len(rows) // FRAMES)][:FRAMES]).images
    if not len(images):
        return None
    return tuple((images[:, :, frame_mask(*images.shape[-2:])].mean((0, 2)) / 255).tolist())


def _medians(values: np.ndarray, chosen: np.ndarray) -> tuple[float, float]:
    parts = (values[mask & np.isfinite(values)] for mask in (chosen, ~chosen))
    inside, outside = (float(np.median(part)) if len(part) else float("nan") for part in parts)
    return inside, outside
