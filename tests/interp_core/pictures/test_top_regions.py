"""Top regions: solved by hand, and against scikit-image on random maps."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import Tensor

from interp_core.errors import ContractError
from interp_core.pictures.top_regions import TopRegion, top_pixels, top_regions


def as_maps(*rows: list[list[float]]) -> Tensor:
    return torch.tensor(rows, dtype=torch.float32)[:, None]


def smooth_maps(count: int, side: int = 24, seed: int = 0) -> Tensor:
    coarse = torch.rand(count, 1, 6, 6, generator=torch.Generator().manual_seed(seed))
    return torch.nn.functional.interpolate(coarse, size=(side, side), mode="bilinear") ** 3


def test_two_regions_solved_by_hand() -> None:
    maps = as_maps([[4, 4, 0, 0, 0], [0, 0, 0, 0, 6], [1, 0, 0, 0, 1]])
    assert top_regions(maps, share=0.875) == [
        [
            TopRegion(0, 0, 1, 2, mass=0.5, peak=4.0, peak_at=(0, 0)),
            TopRegion(1, 4, 2, 5, mass=0.375, peak=6.0, peak_at=(1, 4)),
        ]
    ]


def test_takes_no_more_pixels_than_the_share_needs() -> None:
    maps = as_maps([[1, 0, 2, 0, 3, 0, 4]])  # 4 of 10 are fewer than half, 4 + 3 are enough
    assert [region.peak for region in top_regions(maps, share=0.5)[0]] == [4, 3]
    assert [region.peak for region in top_regions(maps, share=0.4)[0]] == [4]


def test_diagonal_neighbours_are_one_region() -> None:
    (regions,) = top_regions(as_maps([[1, 0, 0], [0, 1, 0], [0, 0, 0]]))
    assert regions == [TopRegion(0, 0, 2, 2, 1.0, 1.0, (0, 0))]


def test_a_region_inside_the_box_of_another_is_not_part_of_it() -> None:
    maps = as_maps([[3, 3, 3, 3, 3], [3, 0, 0, 0, 3], [3, 0, 10, 0, 3], [3, 0, 0, 0, 0]])
    (regions,) = top_regions(maps, share=1)
    assert regions == [
        TopRegion(0, 0, 4, 5, 0.75, 3.0, (0, 0)),
        TopRegion(2, 2, 3, 3, 0.25, 10.0, (2, 2)),
    ]


def test_ties_with_the_last_pixel_are_all_taken() -> None:
    (regions,) = top_regions(as_maps([[2, 0, 1, 0, 1, 0, 1]]), share=0.5)
    assert [region.mass for region in regions] == pytest.approx([0.4, 0.2, 0.2, 0.2])
    assert [region.left for region in regions] == [0, 2, 4, 6]  # equal masses in reading order


def test_the_order_of_pixels_does_not_matter() -> None:
    maps = torch.randint(0, 4, (3, 1, 9, 11), generator=torch.Generator().manual_seed(2)).float()
    for regions, mirrored in zip(top_regions(maps, most=99), top_regions(maps.flip(-1), most=99), strict=True):
        boxes = {(r.top, 11 - r.right, r.bottom, 11 - r.left, round(r.mass, 12)) for r in mirrored}
        assert {(r.top, r.left, r.bottom, r.right, round(r.mass, 12)) for r in regions} == boxes


def test_images_do_not_touch_each_other() -> None:
    assert [len(regions) for regions in top_regions(torch.ones(3, 1, 4, 5))] == [1, 1, 1]


def test_a_constant_map_is_one_region_and_a_zero_map_none() -> None:
    maps = torch.stack([torch.full((1, 4, 5), 0.25), torch.zeros(1, 4, 5)])
    constant, zero = top_regions(maps)
    assert constant == [TopRegion(0, 0, 4, 5, 1.0, 0.25, (0, 0))]
    assert zero == []


def test_zero_pixels_belong_to_no_region_even_when_all_mass_is_asked_for() -> None:
    (regions,) = top_regions(as_maps([[0, 5, 0], [0, 0, 0]]), share=1)
    assert regions == [TopRegion(0, 1, 1, 2, 1.0, 5.0, (0, 1))]


@pytest.mark.parametrize("share", [0.1, 0.5, 0.9, 1.0])
def test_chosen_pixels_hold_the_share_and_one_fewer_does_not(share: float) -> None:
    values = np.random.default_rng(0).random((4, 13, 7))
    pixels = top_pixels(values, share)
    total = values.sum((1, 2))
    mass = np.where(pixels, values, 0).sum((1, 2))
    least = np.where(pixels, values, np.inf).min((1, 2))
    assert np.all(mass >= share * total * (1 - 1e-12))
    assert np.all(mass - least < share * total)
    assert np.all(least > np.where(pixels, 0, values).max((1, 2)))


def test_agrees_with_scikit_image() -> None:
    from skimage.measure import label, regionprops

    maps = smooth_maps(5)
    values = maps[:, 0].double().numpy()
    pixels = top_pixels(values, 0.4)
    for number, top in enumerate(top_regions(maps, share=0.4, most=99)):
        regions = regionprops(label(pixels[number], connectivity=2), intensity_image=values[number])
        expected = {
            (p.bbox, round(p.image_intensity.sum() / values[number].sum(), 9), p.intensity_max) for p in regions
        }
        assert {((r.top, r.left, r.bottom, r.right), round(r.mass, 9), r.peak) for r in top} == expected


def test_keeps_the_heaviest_regions_in_order() -> None:
    maps = smooth_maps(4, seed=3)
    every, heaviest = top_regions(maps, share=0.6, most=99), top_regions(maps, share=0.6, most=2)
    assert max(len(regions) for regions in every) > 2
    for all_of_map, heaviest_of_map in zip(every, heaviest, strict=True):
        assert heaviest_of_map == all_of_map[:2]
        assert [r.mass for r in all_of_map] == sorted((r.mass for r in all_of_map), reverse=True)


def test_the_peak_lies_where_it_says() -> None:
    maps = smooth_maps(3, seed=4)
    for values, regions in zip(maps[:, 0], top_regions(maps, share=0.7), strict=True):
        for region in regions:
            row, column = region.peak_at
            assert values[row, column] == region.peak
            assert region.top <= row < region.bottom
            assert region.left <= column < region.right
        assert regions[0].peak <= values.max()


def test_scale_does_not_matter_up_to_the_ends_of_the_range() -> None:
    maps = smooth_maps(1).double()
    expected = [(r.top, r.left, r.bottom, r.right) for r in top_regions(maps)[0]]
    for factor in (1e-290, 1e307):
        regions = top_regions(maps * factor)[0]
        assert [(r.top, r.left, r.bottom, r.right) for r in regions] == expected
        assert sum(r.mass for r in regions) == pytest.approx(0.5, abs=0.02)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.int64, torch.bool])
def test_takes_any_type_of_number(dtype: torch.dtype) -> None:
    maps = torch.zeros(1, 1, 3, 3, dtype=dtype)
    maps[0, 0, 1, 2] = 1
    assert top_regions(maps) == [[TopRegion(1, 2, 2, 3, 1.0, 1.0, (1, 2))]]


def test_no_maps_no_regions() -> None:
    assert top_regions(torch.zeros(0, 1, 4, 4)) == []
    assert top_regions(torch.zeros(2, 1, 0, 4)) == [[], []]


@pytest.mark.parametrize(
    ("spoil", "message"),
    [(float("nan"), "map 1 holds NaN"), (float("inf"), "map 1 holds NaN"), (-1.0, "map 1 holds negative")],
)
def test_says_which_map_is_broken(spoil: float, message: str) -> None:
    maps = torch.ones(3, 1, 2, 2)
    maps[1, 0, 0, 1] = spoil
    with pytest.raises(ContractError, match=message):
        top_regions(maps)


@pytest.mark.parametrize("maps", [torch.ones(2, 3, 4, 4), torch.ones(4, 4), np.ones((1, 1, 4, 4))])
def test_refuses_other_shapes(maps: object) -> None:
    with pytest.raises(ContractError, match=r"takes maps \(N, 1, H, W\)"):
        top_regions(maps)  # type: ignore[arg-type]


@pytest.mark.parametrize("wrong", [{"share": 0}, {"share": 1.1}, {"share": float("nan")}, {"most": 0}])
def test_refuses_settings_out_of_range(wrong: dict) -> None:
    with pytest.raises(ContractError, match=next(iter(wrong))):
        top_regions(torch.ones(1, 1, 2, 2), **wrong)
