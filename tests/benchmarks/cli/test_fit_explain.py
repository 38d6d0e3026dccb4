"""`interp-bench fit` and `interp-bench explain`: files, lines and exit codes."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import timm
import torch
from helpers.command import exit_code
from PIL import Image

pytestmark = pytest.mark.slow


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    torch.save({"net": timm.create_model("test_resnet", num_classes=3).state_dict()}, tmp_path / "w.pt")
    for name in "abcdef":
        path = tmp_path / ("one" if name in "abc" else "two") / f"{name}.png"
        path.parent.mkdir(exist_ok=True)
        Image.fromarray(np.random.default_rng(ord(name)).integers(0, 255, (48, 48, 3), dtype=np.uint8)).save(path)
    (tmp_path / "names.txt").write_text("red\ngreen\nblue\n")
    return tmp_path


def test_both_commands_from_weights_to_pictures(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    words = (
        "fit", "--backbone", "test_resnet", "--weights", str(folder / "w.pt"), "--data", str(folder / "one"),
        str(folder / "two"), "--output", str(folder / "lap"), "--epochs", "1", "--image-size", "48", "--workers", "0",
        "--classes", str(folder / "names.txt"),
    )  # fmt: skip
    assert exit_code(*words) == 0
    printed = capsys.readouterr().out
    assert "interp-bench explain" in printed
    assert "5 images" in printed
    assert exit_code(*words) == 0
    assert "before" in capsys.readouterr().out
    assert exit_code("explain", str(folder / "lap"), str(folder / "one"), "--output", str(folder / "maps")) == 0
    assert {path.name for path in (folder / "maps").iterdir()} == {"a.png", "b.png", "c.png", "sheet.png", "index.html"}
    printed = capsys.readouterr().out
    assert any(name in printed for name in ("red", "green", "blue"))


def test_an_image_that_cannot_be_read_is_named_and_left_out(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (folder / "one" / "torn.png").write_bytes((folder / "one" / "a.png").read_bytes()[:100])
    words = (
        "explain", "--backbone", "test_resnet", "--weights", str(folder / "w.pt"), "--image-size", "48",
        str(folder / "one"), "--output", str(folder / "maps"), "--format", "json", "--top", "3",
    )  # fmt: skip
    assert exit_code(*words) == 1
    captured = capsys.readouterr()
    assert "torn.png" in captured.err
    assert "3 images" in captured.out
    assert [path.name for path in (folder / "maps").iterdir()] == ["explanations.json"]


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (("explain", "one"), "--backbone"),
        (("explain", "--backbone", "test_resnet", "one"), "no weights"),
        (("explain", "--backbone", "test_resnet", "--weights", "w.pt", "none"), "does not exist"),
        (("fit", "--backbone", "test_resnet", "--weights", "w.pt", "--data", "none"), "does not exist"),
        (("fit", "--backbone", "test_resnet", "--weights", "w.pt", "--data", "one", "--mean", "a"), "--mean"),
        (("fit", "--backbone", "resnet18", "--weights", "w.pt", "--data", "one"), "tensors fit"),
    ],
)
def test_what_is_wrong_is_one_line(
    words: tuple[str, ...],
    expected: str,
    folder: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(folder)
    assert exit_code(*words) == 2
    captured = capsys.readouterr()
    assert expected in captured.err
    assert len(captured.err.strip().splitlines()) == 1
