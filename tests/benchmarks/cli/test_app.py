from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.command import exit_code

from benchmarks import cli
from benchmarks.run.engine import Engine

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["run", "--preset", "digit"], "digits"),
        (["run", "--config", "nowhere.yaml"], "nowhere.yaml"),
        (["run", "--images", "few"], "--images"),
        (["report", "nowhere"], "holds no run"),
        (["list", "explainer"], "explainers"),
        (["rum"], "rum"),
        (["run", "--colour", "red"], "--colour"),
    ],
)
def test_wrong_words_are_told_in_one_line_with_exit_code_2(
    words: list[str], expected: str, capsys: pytest.CaptureFixture[str]
) -> None:
    assert exit_code(*words) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    assert expected in error


def test_stopping_by_hand_exits_with_130(
    tiny_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stop(self: Engine) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(Engine, "run", stop)
    assert exit_code("run", "--config", str(tiny_file())) == 130
    assert "run the same command again" in capsys.readouterr().err


def test_a_fault_of_ours_is_not_hidden(tiny_file: Callable[..., Path], monkeypatch: pytest.MonkeyPatch) -> None:
    def broken(self: Engine) -> None:
        raise ZeroDivisionError

    monkeypatch.setattr(Engine, "run", broken)
    with pytest.raises(ZeroDivisionError):
        cli.main(["run", "--config", str(tiny_file())])


def test_help_and_no_words(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("--help") == 0
    assert "report" in capsys.readouterr().out
    assert exit_code() in (0, 2)


def test_help_imports_no_heavy_library() -> None:
    heavy = ("torch", "numpy", "pandas", "pydantic", "matplotlib", "timm", "rich.progress")
    code = f"import sys, benchmarks.cli; print([name for name in {heavy} if name in sys.modules])"
    answer = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert answer.stdout == "[]\n"
