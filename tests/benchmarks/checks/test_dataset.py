"""The check of a data set's files: what it counts, what it finds, what it shows, and what it does not give away."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.layouts import celeba, class_folders, imagenet_kaggle, mask, rsna, write

from benchmarks.checks.dataset import check, printable, without_identifiers
from benchmarks.checks.dataset_page import draw_sheet, render_page
from interp_core.datasets import CelebA, Folder, ImageNet, Rsna

pytestmark = pytest.mark.slow

EVIL = "\x1b[31m[red]<script>alert(1)</script>"


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
