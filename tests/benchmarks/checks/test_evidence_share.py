"""The share of images that evidence covers, and what is said of it."""

from __future__ import annotations

from pathlib import Path

import pytest
from helpers.layouts import class_folders, mask, picture, write

from benchmarks.checks.dataset import check
from benchmarks.checks.evidence_share import EvidenceShares
from interp_core.datasets import Folder

pytestmark = pytest.mark.slow


@pytest.mark.parametrize(
    ("shares", "with_evidence", "is_believable"),
    [
        ((0.1, 0.0, 0.3), 9, True), ((1.0, 0.3, 0.4), 3, True), ((), 0, True), ((), 5, False),
        ((0.0, 0.0, 0.5), 3, False),
        ((1.0, 1.0, 0.5), 3, False), ((0.0005,), 1, False),
    ],
)  # fmt: skip
def test_shares(shares: tuple[float, ...], with_evidence: int, is_believable: bool) -> None:
    evidence = EvidenceShares(shares, with_evidence)
    assert evidence.is_believable() is is_believable
    assert len(list(evidence.findings())) == (not is_believable and bool(shares))
    assert "\n" not in evidence.describe()


def test_a_check_measures_the_share(tmp_path: Path) -> None:
    class_folders(tmp_path, count=3)
    for name in ("cat", "dog"):
        for i in range(3):
            mask(tmp_path / "masks" / name / f"{name}{i}.png")
    report = check(Folder(root=tmp_path, image_size=32, resize="squash", workers=0))
    assert report.evidence.shares == (0.5,) * 6
    assert not report.findings


@pytest.mark.parametrize("box", ["0,0,2,3", "0,0,9999,9999"])
def test_a_share_that_is_not_believable_is_a_finding(tmp_path: Path, box: str) -> None:
    rows = ["file,x0,y0,x1,y1"]
    for name in ("a/1.png", "a/2.png", "b/3.png", "b/4.png"):
        picture(tmp_path / name, (200, 200))
        rows.append(f"{name},{box}")
    write(tmp_path / "boxes.csv", "\n".join(rows))
    report = check(Folder(root=tmp_path, image_size=200, workers=0))
    assert "evidence share" in {finding.kind for finding in report.findings}
