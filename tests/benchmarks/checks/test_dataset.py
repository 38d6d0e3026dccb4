"""The check of a data set's files: what it counts, what it finds, what it shows, and what it does not give away."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from helpers.layouts import celeba, class_folders, imagenet_kaggle, mask, picture, rsna, write
from PIL import Image

from benchmarks import cli
from benchmarks.checks.dataset import check, printable, without_identifiers
from benchmarks.checks.dataset_page import draw_sheet, render_page
from interp_core.datasets import CelebA, Folder, ImageNet, Rsna, datasets

EVIL = "\x1b[31m[red]<script>alert(1)</script>"


def exit_code(*words: str) -> int:
    try:
        cli.main(words)
    except SystemExit as stop:
        return int(stop.code or 0)
    return 0


def test_counts_balance_and_layout(tmp_path: Path) -> None:
    class_folders(class_folders(tmp_path, ("cat",), 20), ("dog",), 10)
    report = check(Folder(root=tmp_path))
    assert report.images == {"train": 21, "val": 3, "test": 6}
    assert [report.counts[split][1] for split in report.counts] == [7, 1, 2]
    assert report.balance() == "2 classes with 10 to 20 images, 2.0 to 1"
    assert report.layout == ("class folders", "20 images in cat", "10 images in dog")
    assert (report.common_sizes, report.size_count) == ([((32, 24), 30)], 1)
    assert (report.headers, report.decoded) == (30, 30)
    assert not report.unreadable
    assert not report.findings


def test_many_folders_are_told_together(tmp_path: Path) -> None:
    class_folders(tmp_path, [f"class{i}" for i in range(9)], 2, split="train")
    assert check(Folder(root=tmp_path)).layout == ("class folders", "18 images in train")


def test_classes_without_images_are_counted(tmp_path: Path) -> None:
    report = check(ImageNet(root=imagenet_kaggle(tmp_path)))
    assert report.balance().endswith("; 998 classes without an image")
    assert report.layout[0] == "Kaggle's layout"
    assert "8 images in ILSVRC/Data/CLS-LOC/val" in report.layout
    assert report.layout[-1] == "16 boxes"
    assert report.with_evidence["test"] == report.images["test"] == 8


@pytest.mark.parametrize("sample", [None, 0])
def test_unreadable_images_are_found_by_header_or_when_decoded(tmp_path: Path, sample: int | None) -> None:
    class_folders(tmp_path, count=4)
    (tmp_path / "cat" / "cat0.png").write_bytes(b"")
    whole = (tmp_path / "cat" / "cat1.png").read_bytes()
    (tmp_path / "cat" / "cat1.png").write_bytes(whole[: len(whole) // 2])
    report = check(Folder(root=tmp_path), sample)
    findings = [(finding.kind, finding.where) for finding in report.findings]
    header = [("unreadable", "cat/cat0.png")]
    assert findings == (header if sample == 0 else [*header, ("unreadable", "cat/cat1.png")])
    assert report.unreadable == len(findings)


def test_boxes_and_masks_that_do_not_fit_the_image(tmp_path: Path) -> None:
    class_folders(tmp_path, count=3)
    write(tmp_path / "boxes.csv", "file,x0,y0,x1,y1\ncat0.png,1,1,40,9\ncat1.png,35,1,40,9\ncat2.png,1,1,32,24\n")
    mask(tmp_path / "masks/dog0.png", (24, 24))
    mask(tmp_path / "masks/dog1.png", (64, 48))
    write(tmp_path / "masks/dog2.png", "words")
    report = check(Folder(root=tmp_path))
    findings = sorted((finding.kind, finding.where) for finding in report.findings if finding.kind != "unreadable mask")
    assert findings == [("box outside", "cat/cat0.png"), ("box outside", "cat/cat1.png"), ("size", "masks/dog0.png")]
    assert {f.where for f in report.findings if f.kind == "unreadable mask"} == {"masks/dog2.png"}
    assert [kind for kind, *_ in report.findings_by_kind()] == list(dict.fromkeys(f.kind for f in report.findings))


def test_sheet_shows_different_classes_with_their_evidence(tmp_path: Path) -> None:
    pictures = draw_sheet(CelebA(root=celeba(tmp_path, 16), image_size=64, workers=0))
    assert pictures is not None
    assert pictures.width == 5 * 230 - 6
    red, green, blue = np.moveaxis(np.asarray(pictures).astype(int), -1, 0)
    reds = ((red > 200) & (green < 90) & (blue < 90)).sum()
    assert reds > 100


def test_no_sheet_of_what_cannot_be_read(tmp_path: Path) -> None:
    class_folders(tmp_path, count=2)
    for path in tmp_path.rglob("*.png"):
        path.write_bytes(b"")
    dataset = Folder(root=tmp_path, workers=0)
    assert draw_sheet(dataset) is None
    assert "None." not in render_page(check(dataset), None)


def test_names_from_files_reach_neither_terminal_nor_page_as_more_than_text(tmp_path: Path) -> None:
    assert printable(EVIL) == "?[31m[red]<script>alert(1)</script>"
    class_folders(tmp_path, ("cat", "<b>dog"), 3)
    write(tmp_path / "cat" / "[red]\x1b[31m.exe", "")
    report = check(Folder(root=tmp_path, workers=0))
    html = render_page(report, None)
    assert "<b>dog" not in html
    assert "&lt;b&gt;dog" in html
    assert "\x1b" not in html
    assert not any("\x1b" in finding.where for finding in report.findings)


def test_pages_of_patients_name_none(tmp_path: Path) -> None:
    pytest.importorskip("pydicom")
    root = rsna(tmp_path, 6)
    (root / "stage_2_train_images" / "p001.dcm").write_bytes(b"")
    (root / "stage_2_train_images" / "p002.dcm").unlink()
    dataset = Rsna(root=root, workers=0)
    report = check(dataset)
    assert "p001" in report.findings[0].where
    html = render_page(without_identifiers(report, dataset), draw_sheet(dataset))
    assert "p00" not in html
    assert "alert(1)" not in html  # the patient's name in the DICOM files
    assert without_identifiers(report, Rsna(root=root, hash_ids=False)) is report


# The command


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
