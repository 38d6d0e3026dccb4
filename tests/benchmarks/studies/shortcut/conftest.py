"""Fixtures of the shortcut study: small images, few arms."""

from __future__ import annotations

import pytest

from benchmarks.studies.shortcut.arms import ARMS, ShortcutArm
from benchmarks.studies.shortcut.data import (
    TaggedData,
    load_digits,
)


@pytest.fixture(scope="module")
def forms() -> tuple[TaggedData, TaggedData]:
    return load_digits(40, 20, 40)


@pytest.fixture(scope="module")
def few() -> list[ShortcutArm]:
    names = ("plain_clean", "plain", "lap_forbid")
    return [arm for arm in ARMS if arm.name in names]
