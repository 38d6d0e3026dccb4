"""The cost of a training step."""

from __future__ import annotations

import pytest

from benchmarks.studies.shortcut.arms import ShortcutArm
from benchmarks.studies.shortcut.cost import measure_cost
from benchmarks.studies.shortcut.data import (
    TaggedData,
)
from interp_core.training import Recipe

pytestmark = pytest.mark.slow


SHORT = Recipe(epochs=1, batch_size=8, shift=0)


def test_a_step_is_timed_against_a_plain_one(forms: tuple[TaggedData, TaggedData], few: list[ShortcutArm]) -> None:
    step = measure_cost(few[2], few[1], forms[0], SHORT, pairs=2)
    assert 0 < step.q1 <= step.ratio <= step.q3
    assert step.seconds > 0
