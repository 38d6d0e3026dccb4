from __future__ import annotations

import pytest

from benchmarks.config.device import resolve_device
from benchmarks.config.errors import ConfigError


def test_devices() -> None:
    assert resolve_device("cpu") == "cpu"
    assert resolve_device("auto") in ("cpu", "cuda")
    with pytest.raises(ConfigError, match="device 'abacus' cannot be used"):
        resolve_device("abacus")
