"""Tell classes from the values of a label column: numbers, text, lists of either, or vectors of 0 and 1.

Lists of one length that hold only 0 and 1 are vectors, one place for each class; other lists are the classes that an
image shows. Vectors of shares count from a half. Whole numbers are classes whatever their type, and numbers as text
stand in the order of their values.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

from interp_core.datasets.records import Finding
from interp_core.errors import InterpError

# Distinct fractions above which a column holds measurements, not classes.
MAX_FRACTIONS = 50
HALF = 0.5
# Value of data sets for an image without a label.
NO_LABEL = -1

Label = int | float | str


class LabelError(InterpError):
    """A label column that does not hold classes."""


def read_labels(
    values: Sequence[Any], names: Sequence[str] | None, column: str, findings: list[Finding]
) -> tuple[tuple[str, ...], list[tuple[int, ...]], dict[Any, int]]:
    """Read the labels of all rows.

    Args:
        values: value of each row.
        names: class names that the data set declares, or None.
        column: name of the column, for errors.
        findings: list to which it is added how vectors were read.

    Returns:
        The class names, the targets of each row, and the target of each label.

    Raises:
        LabelError: the column holds measurements.
    """
    rows = [_as_list(value) for value in values]
    if _are_vectors(values, rows, names):
        return _read_vectors(rows, names, column, findings)
    labels_by_row = [tuple(label for value in row if (label := _label(value)) is not None) for row in rows]
    classes, targets = _classes(names, {label for labels in labels_by_row for label in labels}, column)
    return (
        classes,
        [tuple(sorted({targets[label] for label in labels if label in targets})) for labels in labels_by_row],
        targets,
    )


def label_target(value: Any, targets: dict[Any, int]) -> int | None:
    """Return the target of one label, such as that of a box; None for none."""
    label = _label(value)
    return None if label is None else targets.get(label)


def _as_list(value: Any) -> list[Any]:
    if hasattr(value, "tolist"):
        value = value.tolist()
    return list(value) if isinstance(value, list | tuple) else [value]


def _label(value: Any) -> Label | None:
    """Return a label as a whole number, a fraction or text; None for a missing one."""
    if isinstance(value, str):
        return value.strip() or None
    if isinstance(value, bool) or not isinstance(value, int | float):
        return value if isinstance(value, bool) else None
    if isinstance(value, float):
        if not math.isfinite(value):
            return None
        value = int(value) if value.is_integer() else value
    return None if value == NO_LABEL else value


def _are_vectors(values: Sequence[Any], rows: Sequence[list[Any]], names: Sequence[str] | None) -> bool:
    """Return whether rows are vectors with a place for each class."""
    lengths = {len(row) for row in rows if row != [None]}
    if not any(isinstance(value, list | tuple) or hasattr(value, "tolist") for value in values) or len(lengths) != 1:
        return False
    length = lengths.pop()
    numbers = [entry for row in rows if row != [None] for entry in row]
    if length < 2 or not all(isinstance(entry, int | float) for entry in numbers):
        return False
    if names is not None and length != len(names):
        return False
    return all(0 <= entry <= 1 for entry in numbers)


def _read_vectors(
    rows: Sequence[list[Any]], names: Sequence[str] | None, column: str, findings: list[Finding]
) -> tuple[tuple[str, ...], list[tuple[int, ...]], dict[Any, int]]:
    length = max(len(row) for row in rows)
    classes = tuple(names) if names is not None else tuple(map(str, range(length)))
    message = f"its lists are read as vectors of 0 and 1 for {length} classes"
    if any(isinstance(entry, float) and not entry.is_integer() for row in rows for entry in row if entry is not None):
        message += "; shares count from one half"
    findings.append(Finding("labels", column, message))
    targets = [
        tuple(position for position, entry in enumerate(row) if entry is not None and entry >= HALF) for row in rows
    ]
    return classes, targets, _targets_of_names(classes)


def _classes(names: Sequence[str] | None, labels: set[Label], column: str) -> tuple[tuple[str, ...], dict[Any, int]]:
    """Return the class names, and the target of each label."""
    if names is not None:
        return tuple(names), _targets_of_names(names)
    fractions = [label for label in labels if isinstance(label, float)]
    if len(fractions) > MAX_FRACTIONS:
        raise LabelError(f"column {column} holds {len(fractions)} different fractions, not classes: give dataset.label")
    order = sorted(labels, key=_order)
    return tuple(str(label) for label in order), {label: target for target, label in enumerate(order)}


def _targets_of_names(names: Sequence[str]) -> dict[Any, int]:
    """Return the target of each class by its number and by its name."""
    return {number: number for number in range(len(names))} | {name: number for number, name in enumerate(names)}


def _order(label: Label) -> tuple[int, float, str]:
    """Return the sort key of a label: numbers by value, numbers as text by value, then text."""
    if not isinstance(label, str):
        return 0, float(label), ""
    try:
        value = float(label)
    except ValueError:
        return 2, 0.0, label
    return (1, value, label) if math.isfinite(value) else (2, 0.0, label)
