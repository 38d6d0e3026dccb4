"""Skip whole modules of slow tests without importing them where slow tests are not wanted."""

from __future__ import annotations

from pathlib import Path

import pytest

SLOW_MODULE = "\npytestmark = pytest.mark.slow\n"


def pytest_ignore_collect(collection_path: Path, config: pytest.Config) -> bool | None:
    """Ignore a module that is marked slow as a whole under `-m "not slow"`; their imports take most of the time."""
    if config.option.markexpr == "not slow" and collection_path.suffix == ".py":
        return SLOW_MODULE in collection_path.read_text(encoding="utf-8") or None
    return None
