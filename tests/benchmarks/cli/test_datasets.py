"""The commands on data sets."""

from __future__ import annotations

import zipfile
from pathlib import Path

import pytest
from helpers.command import exit_code
from helpers.layouts import class_folders, picture
from PIL import Image

from interp_core.datasets import datasets

pytestmark = pytest.mark.slow


def test_command(tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "data", count=5)
    words = ["data", "check", "folder", "--root", "data", "--set", "workers=0", "--html", "out/page.html"]
    assert exit_code(*words, "--output", "out/sheet.png") == 0
    captured = capsys.readouterr()
    assert "10 headers read, 10 images decoded, 0 unreadable" in captured.out
    assert "no problems found" in captured.err
    assert Image.open("out/sheet.png").width == 2 * 230 - 6
    assert "data:image/png;base64" in Path("out/page.html").read_text()
    assert exit_code(*words[:5], "--set", "dataset.workers=0") == 0
    assert sorted(path.name for path in tmp_path.iterdir()) == ["data", "out"]


def test_command_tells_what_is_wrong(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    class_folders(tmp_path / "data", count=5)
    (tmp_path / "data" / "cat" / "cat0.png").write_bytes(b"[red]")
    picture(tmp_path / "data" / "[bold]x.png")
    assert exit_code("data", "check", "folder", "--root", "data", "--set", "workers=0") == 1
    error = capsys.readouterr().err
    assert "unreadable cat/cat0.png: it is not an image of a known format" in error
    assert "image without label [bold]x.png" in error


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        (["check", "imagenett", "--root", "."], "did you mean imagenet"),
        (["check", "digits-in-scenes", "--root", "."], "no files to check"),
        (["check", "imagenet", "--root", "nowhere"], "is not a folder"),
        (["check", "rsna", "--root", "."], "stage_2_train_images.zip"),
        (["check", "celeba", "--root", "."], "Align&Cropped Images"),
        (["check", "folder", "--root", ".", "--set", "image_size=0"], "image_size"),
        (["check", "folder", "--root", ".", "--set", "colour=red"], "colour"),
        (["check", "folder"], "--root"),
        (["unpack", "nowhere.zip", "--into", "x"], "nowhere.zip"),
    ],
)
def test_what_cannot_be_checked_is_told_in_one_line(
    words: list[str], expected: str, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert exit_code("data", *words) == 2
    error = capsys.readouterr().err.strip()
    assert error.startswith("error: ")
    assert "\n" not in error
    assert expected in error


def test_list_names_every_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    assert exit_code("data", "list") == 0
    out = capsys.readouterr().out
    assert all(name in out for name in datasets)


def test_unpack(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a.txt", "words")
    assert exit_code("data", "unpack", str(tmp_path / "a.zip"), "--into", str(tmp_path / "out")) == 0
    assert (tmp_path / "out" / "a.txt").read_text() == "words"
    assert "1 files" in capsys.readouterr().out
