"""Labels of a column: numbers, text, lists of either, and vectors."""

from __future__ import annotations

from typing import Any

import pytest

from interp_core.datasets import Finding
from interp_core.datasets.formats.label_values import LabelError, read_labels


@pytest.mark.parametrize(
    ("values", "names", "classes", "targets"),
    [
        ([1.0, 0.0, None], None, ("0", "1"), [(1,), (0,), ()]),
        (["10", "9", "1"], None, ("1", "9", "10"), [(2,), (1,), (0,)]),
        (["b", " a ", ""], None, ("a", "b"), [(1,), (0,), ()]),
        ([True, False], None, ("False", "True"), [(1,), (0,)]),
        ([0, -1, 1], ("x", "y"), ("x", "y"), [(0,), (), (1,)]),
        (["y", "x", 1.0], ("x", "y"), ("x", "y"), [(1,), (0,), (1,)]),
        ([[0, 2], [1], []], None, ("0", "1", "2"), [(0, 2), (1,), ()]),
        ([[0, 1, 1], [1, 0, 0]], None, ("0", "1", "2"), [(1, 2), (0,)]),
        ([[0.0, 1.0], [1.0, 0.0]], ("x", "y"), ("x", "y"), [(1,), (0,)]),
        ([[True, False], [False, True]], None, ("0", "1"), [(0,), (1,)]),
        ([[0.9, 0.1], [0.2, 0.8]], None, ("0", "1"), [(0,), (1,)]),
        ([0.5, 1.5], None, ("0.5", "1.5"), [(0,), (1,)]),
        ([float("nan"), 3], None, ("3",), [(), (0,)]),
    ],
)
def test_values(values: list[Any], names: Any, classes: tuple[str, ...], targets: list[tuple[int, ...]]) -> None:
    findings: list[Finding] = []
    assert read_labels(values, names, "label", findings)[:2] == (classes, targets)


def test_measurements_are_refused() -> None:
    with pytest.raises(LabelError, match="fractions"):
        read_labels([0.01 + i / 7 for i in range(100)], None, "weight", [])
