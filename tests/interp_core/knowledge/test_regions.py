"""Region, Forbid and Marked on maps of four cells, one pixel each."""

from __future__ import annotations

import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

from interp_core import LapModel
from interp_core.backbone.geometry import CellGrid, collect
from interp_core.errors import ContractError, UnknownNameError
from interp_core.knowledge import (
    Forbid,
    Marked,
    ModelAccess,
    Region,
    View,
    border,
    observe,
    required_regions,
    view_of,
)
from interp_core.knowledge.regions import share_inside

CONCEPT = [[0.5, 1.0], [0.0, 0.2]]
CONTRIBUTION = [[2.0, 2.0], [0.0, -5.0]]  # evidence: 2, 2, 0, 0
LEFT = [[1.0, 0.0], [1.0, 0.0]]
TOP = [[1.0, 1.0], [0.0, 0.0]]
NONE = [[float("nan")] * 2] * 2


def make_view(labels: list[list[float]], **regions: list) -> View:
    count = len(labels)
    maps = torch.tensor([[CONCEPT, [[0.9, 0.0], [0.3, 0.0]]]]).repeat(count, 1, 1, 1).requires_grad_()
    values = torch.tensor([[CONTRIBUTION, [[0.0, 0.0], [1.0, 0.0]]]]).repeat(count, 1, 1, 1).requires_grad_()
    masks = {name: torch.tensor(rows)[:, None] for name, rows in regions.items()}
    return view_of(maps, torch.tensor(labels), regions=masks, model=ModelAccess(contributions=lambda: values))


def test_region_is_the_share_outside() -> None:
    assert Region().loss(make_view([[1.0, 0.0]], object=[LEFT])).item() == pytest.approx(0.5, abs=1e-5)
    assert Region().loss(make_view([[1.0, 0.0]], object=[TOP])).item() == pytest.approx(0.0, abs=1e-5)
    assert Region().loss(make_view([[0.0, 1.0]], object=[TOP])).item() == pytest.approx(1.0, abs=1e-5)


def test_soft_masks_count_by_their_value() -> None:
    half = [[[0.5, 0.25], [0.0, 0.0]]]
    assert Region().loss(make_view([[1.0, 0.0]], object=half)).item() == pytest.approx(1 - 0.375, abs=1e-5)


def test_present_classes_are_averaged_then_images_that_have_the_region() -> None:
    labels = [[1.0, 1.0], [1.0, 0.0], [1.0, 0.0]]
    view = make_view(labels, object=[TOP, NONE, LEFT])
    assert Region().loss(view).item() == pytest.approx(((0 + 1) / 2 + 0.5) / 2, abs=1e-5)
    assert Region(of=0).loss(view).item() == pytest.approx((0 + 0.5) / 2, abs=1e-5)


def test_a_step_without_regions_costs_nothing_and_gives_no_nan() -> None:
    for term in (Region(), Forbid(region="object")):
        view = make_view([[1.0, 0.0]], object=[NONE])
        loss = term.loss(view)
        loss.backward()
        assert loss.item() == 0
        assert view.contributions.grad is not None
        assert not view.contributions.grad.any()


def test_an_image_without_a_present_class_costs_nothing() -> None:
    assert Region().loss(make_view([[0.0, 0.0]], object=[LEFT])).item() == 0


def test_forbid_is_the_share_inside() -> None:
    assert Forbid().loss(make_view([[1.0, 0.0]], irrelevant=[LEFT])).item() == pytest.approx(0.5, abs=1e-5)
    assert Forbid().loss(make_view([[1.0, 1.0]], irrelevant=[LEFT])).item() == pytest.approx(0.75, abs=1e-5)
    assert Forbid().loss(make_view([[1.0, 1.0]], irrelevant=[TOP])).item() == pytest.approx(0.5, abs=1e-5)
    assert Forbid().loss(make_view([[0.0, 0.0]], irrelevant=[LEFT])).item() == 0


def test_forbid_pushes_contributions_out_and_region_pulls_them_in() -> None:
    for term, inside in ((Forbid(of=0, region="place"), 1), (Region(of=0, region="place"), -1)):
        view = make_view([[1.0, 0.0]], place=[LEFT])
        term.loss(view).backward()
        slope = view.contributions.grad[0, 0]
        assert slope[0, 0] * inside > 0 > slope[0, 1] * inside
        assert slope[1, 1] == 0  # speaks against the class


@pytest.mark.slow
def test_activations_are_what_attention_has_not_weighed(make_lap: Callable[..., LapModel], images: Tensor) -> None:
    lap = make_lap("test_resnet")
    for block in (*lap.gates, lap.head):
        nn.init.constant_(block.a, 2.0)
    view = observe(lap, images, torch.tensor([0, 1]))
    torch.testing.assert_close(view.activations * lap.explain(images).head.attention, view.contributions)
    hidden = observe(make_lap("vgg11_bn"), images, torch.tensor([0, 1]))
    assert hidden.activations is hidden.contributions  # its head is not linear


def test_the_map_is_contributions_times_concept_map() -> None:
    # Evidence of class 0 in the map: 1, 2, 0, 0.
    assert Forbid(evidence="map").loss(make_view([[1.0, 0.0]], irrelevant=[LEFT])).item() == pytest.approx(
        1 / 3, abs=1e-5
    )
    assert Region(evidence="map").loss(make_view([[1.0, 0.0]], object=[LEFT])).item() == pytest.approx(2 / 3, abs=1e-5)


def test_scores_alone_satisfy_neither() -> None:
    """A map that is closed over the region says nothing of what the network does there."""
    for term in (Forbid(region="place"), Region(region="place")):
        view = make_view([[1.0, 0.0]], place=[LEFT])
        term.loss(view).backward()
        assert view.maps.grad is None or not view.maps.grad.any()


def test_marked_weighs_inside_and_outside_alike() -> None:
    # Inside 0.5 and 0, which is finite; outside 1, likewise, and 0.2.
    floor = -math.log(1e-6)
    inside, outside = (math.log(2) + floor) / 2, (floor - math.log(0.8)) / 2
    loss = Marked(of=0, region="place").loss(make_view([[1.0, 0.0]], place=[LEFT])).item()
    assert loss == pytest.approx((inside + outside) / 2, rel=1e-4)


def test_a_map_that_is_its_mask_costs_nothing() -> None:
    view = make_view([[1.0, 0.0], [1.0, 0.0]], place=[TOP, NONE])
    view.below = {"stem": torch.tensor([[TOP], [LEFT]])}
    view.concepts = {"stem": ("tag",)}
    assert Marked(of="tag", region="place").loss(view).item() == pytest.approx(0, abs=1e-5)


def test_a_detector_says_where() -> None:
    def left(images: Tensor) -> Tensor:
        return torch.tensor([[LEFT]]).expand(len(images), -1, -1, -1)

    assert Forbid(region=left).loss(make_view([[1.0, 0.0]])).item() == pytest.approx(0.5, abs=1e-5)
    assert Forbid(region="border").needs() == ()
    assert Forbid(region="border").loss(make_view([[1.0, 0.0]])).item() == 0  # a tenth of two pixels is none


def test_the_border_is_the_outer_share_of_each_side() -> None:
    mask = border(0.1)(torch.zeros(2, 3, 20, 40))
    assert mask.shape == (2, 1, 20, 40)
    assert not mask[..., 2:18, 4:36].any()
    assert mask.sum() == 2 * (20 * 40 - 16 * 32)


def test_a_region_that_is_not_given_is_named() -> None:
    with pytest.raises(UnknownNameError, match="unknown region 'lung': did you mean lungs"):
        Region(region="lung").loss(make_view([[1.0, 0.0]], lungs=[LEFT]))
    assert required_regions([Region(), Forbid(region="tag"), Forbid(region="border"), Region(of=1)]) == (
        "object",
        "tag",
    )


def test_masks_of_another_size_are_refused() -> None:
    with pytest.raises(
        ContractError, match=r"region 'object' must be \(1, 1, 2, 2\) as the images, got \(1, 1, 1, 2\)"
    ):
        Region().loss(make_view([[1.0, 0.0]], object=[[[1.0, 0.0]]]))


def test_a_concept_below_the_head_is_its_own_evidence() -> None:
    view = make_view([[1.0, 0.0], [0.0, 1.0]], object=[LEFT, LEFT])
    view.below = {"stem": torch.tensor([[[[0.2, 0.6], [0.0, 0.0]]], [[[0.0, 0.6], [0.0, 0.0]]]])}
    view.concepts, view.names = {"stem": ("fur",)}, ("cat", "dog")
    assert Region(of="fur").loss(view).item() == pytest.approx((0.75 + 1) / 2, abs=1e-5)
    assert Region(of="fur", shown_by="cat").loss(view).item() == pytest.approx(0.75, abs=1e-5)
    assert Forbid(of="fur", region="object").loss(view).item() == pytest.approx((0.25 + 0.0) / 2, abs=1e-5)


def test_cells_collect_what_pixels_hold() -> None:
    masks = torch.rand(2, 1, 21, 34, generator=torch.Generator().manual_seed(0))
    cells = collect(masks, 3, 4, CellGrid.square(1.5, 8.0))
    assert cells.shape == (2, 1, 3, 4)
    torch.testing.assert_close(cells.sum((2, 3)), masks.sum((2, 3)))


def test_shares_are_those_of_the_map_at_input_resolution() -> None:
    maps = torch.rand(2, 3, 4, 5, generator=torch.Generator().manual_seed(0))
    masks = torch.rand(2, 1, 40, 33, generator=torch.Generator().manual_seed(1)).round()
    grid = CellGrid.square(2.5, 9.0)
    view = view_of(maps, torch.ones(2, 3), images=torch.zeros(2, 3, 40, 33), grids={"head": grid})
    resized = view.to_image_grid(maps)
    expected = (resized * masks).sum((2, 3)) / resized.sum((2, 3))
    torch.testing.assert_close(share_inside(maps, masks, view.head()), expected, atol=1e-5, rtol=1e-5)
