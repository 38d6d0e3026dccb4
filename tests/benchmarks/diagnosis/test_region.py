from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from helpers.cue_nets import RED_CELLS, SIDE, cue_images, follower

from benchmarks.diagnosis.region import ConceptRegion, FixedRegion, add_region, load_region, save_regions
from interp_core.errors import ContractError

pytestmark = pytest.mark.slow


def test_a_concept_region_lies_on_the_cells_that_look_alike() -> None:
    subject, (images, cues) = follower(), cue_images(20)
    masks = RED_CELLS.masks(subject, images.images).numpy()
    has_cue = cues.any((1, 2, 3))
    overlap = (masks & cues).sum((1, 2, 3)) / np.maximum((masks | cues).sum((1, 2, 3)), 1)
    assert (overlap[has_cue] > 0.5).all()
    assert not masks[~has_cue].any()


def test_regions_smaller_than_the_least_are_none() -> None:
    subject, (images, cues) = follower(), cue_images(8)
    region = ConceptRegion(**{**vars(RED_CELLS), "least": 0.5})
    assert cues.any()
    assert not region.masks(subject, images.images).any()


def test_a_higher_threshold_gives_a_smaller_region() -> None:
    subject, (images, _) = follower(), cue_images(8)
    areas = [RED_CELLS.at(t).masks(subject, images.images).float().mean().item() for t in (-0.1, 0.0, 0.1)]
    assert areas == sorted(areas, reverse=True)
    assert areas[0] > areas[-1]


def test_a_fixed_region_covers_its_share_at_any_size() -> None:
    mask = np.zeros((4, 4), bool)
    mask[0, :2] = True
    region = FixedRegion(mask)
    for side in (SIDE, 50):
        masks = region.masks(follower(), np.zeros((2, 3, side, side), np.uint8))
        assert masks.shape == (2, 1, side, side)
        assert masks.float().mean().item() == pytest.approx(mask.mean(), abs=0.02)
        assert bool(masks[0, 0, 0, 0])


def test_regions_are_the_same_after_writing_and_reading(tmp_path: Path) -> None:
    subject, (images, _) = follower(), cue_images(4)
    fixed = FixedRegion(np.eye(4, dtype=bool))
    save_regions(tmp_path, {"a": RED_CELLS, "b": fixed})
    for name, region in (("a", RED_CELLS), ("b", fixed)):
        again = load_region(tmp_path, name)
        assert bool((again.masks(subject, images.images) == region.masks(subject, images.images)).all())


def test_a_region_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="regions"):
        load_region(tmp_path, "a")
    save_regions(tmp_path, {"a": RED_CELLS})
    with pytest.raises(ContractError, match="'b'"):
        load_region(tmp_path, "b")


@pytest.mark.parametrize(
    "changes",
    [
        {"mask": np.zeros((2, 0), bool)},
        {"mask": np.zeros((2, 2, 2), bool)},
        {"mask": np.array(["a"])},
        {"weight": np.zeros(3, np.float32)},
        {"x.y": np.zeros(2)},
        {"0.mask": np.zeros(3)},
    ],
)
def test_regions_with_odd_arrays_are_refused(changes: dict[str, np.ndarray], tmp_path: Path) -> None:
    np.savez(tmp_path / "regions.npz", **{f"a/{name}": value for name, value in changes.items()})  # type: ignore[arg-type]
    with pytest.raises(ContractError, match="region 'a' is damaged"):
        load_region(tmp_path, "a")


def test_a_region_whose_array_is_no_array_is_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "regions.npz", "w") as file:
        file.writestr("a/mask.npy", b"no array")
    with pytest.raises(ContractError, match=r"region 'a'|cannot read"):
        load_region(tmp_path, "a")


@pytest.mark.parametrize("content", [b"", b"PK nothing", b"\0" * 500])
def test_a_damaged_file_of_regions_is_refused(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "regions.npz").write_bytes(content)
    for use in (lambda: load_region(tmp_path, "a"), lambda: add_region(tmp_path, "a", RED_CELLS)):
        with pytest.raises(ContractError, match=r"cannot read .*regions\.npz"):
            use()


@pytest.mark.parametrize("changes", [{"level": "nowhere"}, {name: np.ones(5) for name in ("weight", "mean", "std")}])
def test_a_region_of_another_network_is_refused(changes: dict[str, Any]) -> None:
    region = ConceptRegion(**{**vars(RED_CELLS), **changes})
    with pytest.raises(ContractError, match="network that was diagnosed"):
        region.masks(follower(), cue_images(2)[0].images)
