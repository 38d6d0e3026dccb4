from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch
from helpers.cue_nets import RED_CELLS, cue_images, follower

from benchmarks.diagnosis.amending.joined import join_findings
from benchmarks.diagnosis.finding import Finding
from benchmarks.diagnosis.region import FixedRegion, UnionRegion, load_region, save_regions
from interp_core.errors import ContractError

pytestmark = pytest.mark.slow


def finding(number: int, region: str | None, cls: str, area: float = 0.1) -> Finding:
    return Finding(
        number=number, key=f"k{number}", check="patches", title=f"t{number}", classes=(cls,), region=region,
        images=(f"image-{number}",), details={"area": area},
    )  # fmt: skip


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    corner = np.zeros((4, 4), bool)
    corner[3, 3] = True
    save_regions(tmp_path, {"red": RED_CELLS, "corner": FixedRegion(corner), "all": FixedRegion(np.ones((4, 4), bool))})
    return tmp_path


def test_the_joined_region_is_the_union(folder: Path) -> None:
    joined = join_findings([finding(1, "red", "a"), finding(2, "corner", "b")], folder)
    subject, (images, _) = follower(), cue_images(6)
    parts = [load_region(folder, name).masks(subject, images.images) for name in ("red", "corner")]
    region = load_region(folder, str(joined.region))
    assert isinstance(region, UnionRegion)
    assert torch.equal(region.masks(subject, images.images), parts[0] | parts[1])
    assert joined.classes == ("a", "b")
    assert joined.images == ("image-1", "image-2")
    assert load_region(folder, "red").masks(subject, images.images).any()  # the others are still there


def test_of_each_class_the_smallest_region_counts_and_none_is_much_larger(folder: Path) -> None:
    findings = [
        finding(1, "red", "a"), finding(2, "all", "a", 1.0), finding(3, "corner", "b"), finding(4, "all", "c", 0.9),
    ]  # fmt: skip
    region = load_region(folder, str(join_findings(findings, folder).region))
    assert isinstance(region, UnionRegion)
    assert len(region.parts) == 2


def test_one_finding_stays_as_it_is_and_none_is_refused(folder: Path) -> None:
    only = finding(1, "red", "a")
    assert join_findings([only, finding(2, None, "b")], folder) == only
    with pytest.raises(ContractError, match="region"):
        join_findings([finding(2, None, "b")], folder)
