"""The face of the package: its names, imported at first use."""

from __future__ import annotations

import subprocess
import sys

import pytest

import interp_core


@pytest.mark.parametrize("name", interp_core.__all__)
def test_every_public_name_is_there(name: str) -> None:
    assert getattr(interp_core, name).__name__ == name
    assert name in dir(interp_core)


def test_other_names_are_refused() -> None:
    with pytest.raises(AttributeError, match="module 'interp_core' has no attribute 'attatch'"):
        interp_core.attatch  # noqa: B018


@pytest.mark.slow
@pytest.mark.parametrize("module", ["interp_core.errors", "interp_core.registry", "benchmarks.cli"])
def test_light_modules_load_neither_torch_nor_pydantic(module: str) -> None:
    code = f"import sys, {module}; print([name for name in ('torch', 'pydantic') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"
