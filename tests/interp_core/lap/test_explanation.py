"""Sums are kept on every grid, a network solved on paper is explained right, and the user can read it all."""

from __future__ import annotations

import copy
import io
import math
from collections.abc import Callable
from dataclasses import FrozenInstanceError, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from matplotlib.figure import Figure
from matplotlib.text import Text
from PIL import Image
from torch import Tensor, nn

import interp_core
from interp_core import Explanation, LapModel
from interp_core.errors import ContractError, StoreError
from interp_core.lap.explanation import LevelMaps, first_order, head_contributions
from interp_core.lap.pooling import attention
from interp_core.pictures.top_regions import top_regions


def test_head_contributions_on_paper() -> None:
    evidence, gate = torch.tensor([[[[1.0, -2.0], [3.0, 4.0]]]]), torch.tensor([[[[0.0, 2.0], [1.0, 1.0]]]])
    expected = torch.tensor([[[[0.0, -1.0], [0.75, 1.0]]]])
    torch.testing.assert_close(head_contributions(evidence, gate), expected)


def test_the_first_order_of_a_linear_head_is_the_whole() -> None:
    torch.manual_seed(0)
    fc, features = nn.Linear(5, 3).double(), torch.randn(2, 5, 3, 4, dtype=torch.float64)
    gate = 12 * attention(torch.rand(2, 1, 3, 4, dtype=torch.float64), 2.0, None)
    targets = torch.tensor([2, 0])
    _, _, maps = first_order(features * gate, lambda x: fc(x.mean((2, 3))), lambda _: targets)
    evidence = torch.einsum("nc,nchw->nhw", fc.weight[targets], features)[:, None]
    torch.testing.assert_close(maps, head_contributions(evidence, gate), rtol=0, atol=1e-12)
    assert fc.weight.grad is None


def test_the_first_order_of_a_square_is_twice_the_logit() -> None:
    features = torch.tensor([[[[1.0, 3.0]]]])
    # logit = mean^2 = 4; d logit / d x = 2 * mean / 2 = 2, so the contributions are 2 and 6.
    with torch.no_grad():
        logits, classes, maps = first_order(features, lambda x: x.mean((2, 3)).square(), lambda x: x.argmax(1))
    assert (logits.tolist(), classes.tolist()) == ([[4.0]], [0])
    assert not logits.requires_grad
    assert maps.tolist() == [[[[2.0, 6.0]]]]


@pytest.mark.slow
def test_both_ways_agree_on_a_real_network(make_lap: Callable[..., LapModel], images: Tensor) -> None:
    lap = make_lap().double()
    explanation = lap.explain(images.double(), 1)
    captured: list[Tensor] = []
    handle = lap.head.register_forward_hook(lambda _module, _inputs, output: captured.append(output))
    with torch.no_grad():
        lap(images.double())
    handle.remove()
    targets = torch.tensor([1, 1])
    _, _, maps = first_order(captured[0], lap.backbone.forward_head, lambda _: targets)  # type: ignore[arg-type]
    torch.testing.assert_close(maps, explanation.levels[-1].contributions, rtol=0, atol=1e-10)


CELLS = [(0, 0), (3, 5), (7, 7)]


def one_cell(protocol_net: type[Any], cell: tuple[int, int]) -> tuple[nn.Module, Tensor]:
    """The logit of class 1 is 16 times the mean red of the image, and only one cell of 4 x 4 pixels is red."""
    model = protocol_net().double().eval()
    nn.init.zeros_(model.stem.weight)
    nn.init.zeros_(model.stem.bias)
    with torch.no_grad():
        model.stem.weight[0, 0] = 1 / 16
        model.stem.weight[1, 1] = 1 / 16
        model.fc.weight.copy_(torch.tensor([[0.0, 16.0], [16.0, 0.0]]))
        model.fc.bias.copy_(torch.tensor([0.5, -0.25]))
    image = torch.zeros(1, 3, 32, 32, dtype=torch.float64)
    image[0, 0, 4 * cell[0] : 4 * cell[0] + 4, 4 * cell[1] : 4 * cell[1] + 4] = 8.0
    return model, image


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
@pytest.mark.parametrize("a", [0.0, 2.0])
def test_a_logit_that_depends_on_one_cell_is_explained_by_it(
    cell: tuple[int, int], a: float, protocol_net: type[Any]
) -> None:
    model, image = one_cell(protocol_net, cell)
    lap = interp_core.attach(model)
    nn.init.constant_(lap.head.a, a)
    explanation = lap.explain(image, 1)
    contributions = explanation.levels[-1].contributions[0, 0]
    elsewhere = torch.ones(8, 8, dtype=torch.bool)
    elsewhere[cell] = False
    assert (contributions[elsewhere] == 0).all()
    torch.testing.assert_close(contributions[cell], explanation.logits[0, 1] + 0.25)
    torch.testing.assert_close(explanation.bias, torch.tensor([-0.25], dtype=torch.float64))
    if a == 0:
        # The cell's red is 8 in one position of 64: 16 * 8 / 64.
        assert contributions[cell].item() == pytest.approx(2.0)
    peak = divmod(explanation.map[0, 0].argmax().item(), 32)
    assert (peak[0] // 4, peak[1] // 4) == cell
    assert explanation.concept[0, 0].argmax().item() == 8 * cell[0] + cell[1]


def test_the_attention_of_one_cell_on_paper(protocol_net: type[Any]) -> None:
    model, image = one_cell(protocol_net, (3, 5))
    lap = interp_core.attach(model)
    nn.init.constant_(lap.head.a, 2.0)
    # One value among 64 standardises to sqrt(63), the others to -1 / sqrt(63); g = 1.5, c = -2, a^2 = 4. Class 0
    # sees a flat map, sigmoid(-2), which is above class 1's at the other positions.
    high, low = 1 / (1 + math.exp(2 - 1.5 * math.sqrt(63))), 1 / (1 + math.exp(2))
    weight = 1 / (1 + 63 * math.exp(-4 * (high - low) ** 2))
    head = lap.explain(image, 1).levels[-1]
    assert head.scores[0, 0, 3, 5].item() == pytest.approx(high, abs=1e-6)
    assert head.attention[0, 0, 3, 5].item() == pytest.approx(weight, abs=1e-6)
    assert head.contributions[0, 0, 3, 5].item() == pytest.approx(128 * weight, rel=1e-6)


def test_a_class_that_nothing_speaks_for_has_an_empty_map(protocol_net: type[Any]) -> None:
    model, image = one_cell(protocol_net, (3, 5))
    explanation = interp_core.attach(model).explain(image, 0)
    assert (explanation.map == 0).all()
    assert (explanation.contributions == 0).all()


# What the user reads


@pytest.fixture
def explanation(make_lap: Callable[..., LapModel], images_of: Callable[..., Tensor]) -> Explanation:
    """Six images that are neither square nor whole cells."""
    torch.manual_seed(0)
    return make_lap().explain(images_of(96, 65, count=6))


def picture_size(content: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(content)) as picture:
        picture.load()
        assert picture.format == "PNG"
        return picture.size


def words(figure: Figure) -> list[str]:
    return [text.get_text() for text in figure.findobj(Text) if text.get_text()]


@pytest.mark.slow
def test_it_shows_itself_as_a_picture(explanation: Explanation) -> None:
    content, figure = explanation._repr_png_(), explanation.sheet()
    assert picture_size(content) == tuple(int(side * figure.dpi) for side in figure.get_size_inches())
    assert content == explanation._repr_png_()
    assert content != replace(explanation, map=explanation.map.flip(-1))._repr_png_()


@pytest.mark.slow
def test_the_sheet_shows_the_first_images_with_all_their_maps(explanation: Explanation) -> None:
    figure = explanation.sheet()
    pictures = [np.asarray(axes.images[0].get_array()) for axes in figure.axes if axes.images]
    levels = explanation.levels[::-1]
    scored = [level for level in levels if level.scores is not None]
    assert scored == [explanation.head]  # nothing has trained the others
    per_row = 2 + len(levels) + len(scored)
    assert len(pictures) == 4 * per_row
    assert "4 of 6 images shown" in words(figure)
    for row in range(4):
        _, _, *maps = pictures[row * per_row : (row + 1) * per_row]
        for shown, level in zip(maps, levels, strict=False):
            np.testing.assert_array_equal(shown, level.contributions[row, 0])
        for shown, level in zip(maps[len(levels) :], scored, strict=True):
            np.testing.assert_array_equal(shown, level.scores[row, 0])


@pytest.mark.slow
def test_the_sheet_tells_classes_logits_and_sums(explanation: Explanation) -> None:
    texts = words(explanation.sheet(rows=2, classes=["cat", "dog", "owl", "fox"]))
    captions = [text for text in texts if text.startswith("class ")]
    names = ["cat", "dog", "owl", "fox"]
    shares = explanation.logits.softmax(1)
    assert len(captions) == 2
    for i, text in enumerate(captions):
        k = int(explanation.targets[i])
        logit = f"{explanation.logits[i, k]:+.2f}".replace("-", "\N{MINUS SIGN}")
        assert text == f"class {k}, {names[k]}: logit {logit}, probability {shares[i, k]:.3f}"
        sums = [other for other in texts if other.startswith("sum ") and f"logit {logit}" in other]
        assert len(sums) >= len(explanation.levels)  # the logit is complete on every grid
    assert "2 of 6 images shown" in texts


@pytest.mark.slow
def test_one_image_is_shown_alone(make_lap: Callable[..., LapModel], images: Tensor) -> None:
    explanation = make_lap().explain(images[:1])
    assert not any("shown" in text for text in words(explanation.sheet()))
    assert picture_size(explanation._repr_png_())[1] < picture_size(make_lap().explain(images)._repr_png_())[1]


@pytest.mark.slow
@pytest.mark.parametrize("form", [torch.bfloat16, torch.float16, torch.float64])
def test_any_precision_and_grey_images_can_be_shown(form: torch.dtype, make_lap: Callable[..., LapModel]) -> None:
    grey = torch.randn(1, 1, 64, 64, generator=torch.Generator().manual_seed(2)).to(form)
    explanation = make_lap(in_chans=1).to(form).explain(grey)
    assert picture_size(explanation._repr_png_()) > (100, 100)


@pytest.mark.slow
def test_overlays_are_saved_at_the_images_own_size(explanation: Explanation, tmp_path: Path) -> None:
    paths = explanation.save(tmp_path / "new" / "maps")
    assert [path.name for path in paths] == [f"{i}.png" for i in range(6)]
    assert [picture_size(path.read_bytes()) for path in paths] == [(65, 96)] * 6
    assert len({path.read_bytes() for path in paths}) == 6
    assert sorted((tmp_path / "new" / "maps").iterdir()) == sorted(paths)


@pytest.mark.slow
def test_overlays_are_named_by_the_user(explanation: Explanation, tmp_path: Path) -> None:
    paths = explanation.save(str(tmp_path), names=["a", "b/c", "a", "d", "e", "f"])
    assert [path.name for path in paths] == ["a.png", "b_c.png", "a-2.png", "d.png", "e.png", "f.png"]
    assert all(path.parent == tmp_path and path.is_file() for path in paths)


@pytest.mark.slow
def test_overlays_that_cannot_be_saved(explanation: Explanation, tmp_path: Path) -> None:
    with pytest.raises(ContractError, match="as many images as names"):
        explanation.save(tmp_path / "none", names=["a"])
    assert not (tmp_path / "none").exists()
    (tmp_path / "file").write_text("")
    with pytest.raises(StoreError, match="cannot write overlays"):
        explanation.save(tmp_path / "file")


@pytest.mark.slow
def test_regions_are_boxes_on_the_map(explanation: Explanation) -> None:
    boxes = explanation.regions(share=0.4, most=2)
    positive = explanation.map.clamp(min=0)
    assert boxes == top_regions(positive, share=0.4, most=2)
    assert len(boxes) == 6
    assert all(1 <= len(regions) <= 2 for regions in boxes)
    for maps, regions in zip(positive[:, 0], boxes, strict=True):
        first = regions[0]
        box = maps[first.top : first.bottom, first.left : first.right]
        assert box.max().item() == pytest.approx(first.peak)
        assert float(box.sum() / maps.sum()) >= first.mass - 1e-6
    assert any(a != b for a, b in zip(explanation.regions(share=0.9), boxes, strict=True))


@pytest.mark.slow
def test_a_map_of_nothing_has_no_regions_and_is_shown_all_the_same(protocol_net: type[Any]) -> None:
    model, image = one_cell(protocol_net, (3, 5))
    empty = interp_core.attach(model).explain(image, 0)
    assert empty.regions() == [[]]
    assert "nowhere above zero" in words(empty.sheet())


@pytest.mark.slow
@pytest.mark.parametrize("cell", CELLS)
def test_the_one_cell_that_decides_is_the_top_region(cell: tuple[int, int], protocol_net: type[Any]) -> None:
    model, image = one_cell(protocol_net, cell)
    ((region,),) = interp_core.attach(model).explain(image, 1).regions(share=0.3)
    row, column = 4 * cell[0] + 1.5, 4 * cell[1] + 1.5
    assert region.top - 1 <= row <= region.bottom
    assert region.left - 1 <= column <= region.right
    assert region.bottom - region.top <= 6
    assert region.right - region.left <= 6
    assert (region.peak_at[0] // 4, region.peak_at[1] // 4) == cell


@pytest.mark.slow
def test_the_map_is_the_finest_grid_spread_over_the_pixels(
    make_lap: Callable[..., LapModel], images_of: Callable[..., Tensor]
) -> None:
    lap, images = make_lap(), images_of(160, 96)
    explanation = lap.explain(images, 1)
    assert explanation.contributions.shape == (2, 1, 40, 24)
    assert explanation.map.shape == (2, 1, 160, 96)
    assert explanation.map.dtype == torch.float32
    assert torch.equal(explanation.map, lap.to_pixels(explanation.contributions, images))
    assert bool((explanation.map < 0).any())
    assert explanation.refined is None


# The gap


@pytest.mark.slow
def test_the_gap_of_a_sound_explanation_is_rounding(make_lap: Callable[..., LapModel], images: Tensor) -> None:
    assert make_lap().explain(images, 1).gap < 1e-5
    exact = make_lap().double().explain(images.double(), 1)
    assert replace(exact, map=exact.contributions).gap < 1e-12
    assert exact.gap < 1e-6  # the pixels are single precision


def test_the_gap_is_the_missing_share_of_the_largest_logit(explanation: Explanation) -> None:
    logits = explanation.logits.gather(1, explanation.targets[:, None])[:, 0]
    scale = float(logits.abs().max())
    bias = explanation.bias.clone()
    bias[4] += 0.25 * scale
    assert replace(explanation, bias=bias).gap == pytest.approx(0.25, abs=1e-5)
    head = replace(explanation.head, contributions=explanation.head.contributions.clone())
    head.contributions[2, 0, 1, 1] -= 0.5 * scale
    assert replace(explanation, levels=(*explanation.levels[:-1], head)).gap == pytest.approx(0.5, abs=1e-5)
    maps = explanation.map.clone()
    maps[3, 0, 60, 20] += 0.75 * scale
    assert replace(explanation, map=maps).gap == pytest.approx(0.75, abs=1e-5)


@pytest.mark.slow
@pytest.mark.parametrize("broken", [0, 1, 2])
def test_one_broken_level_shows_in_the_gap(broken: int, explanation: Explanation) -> None:
    def spoil(level: LevelMaps) -> LevelMaps:
        return replace(level, contributions=level.contributions * 1.25)

    levels = tuple(spoil(level) if i == broken else level for i, level in enumerate(explanation.levels))
    assert explanation.gap < 1e-5
    assert replace(explanation, levels=levels).gap > 1e-3


def test_the_wrong_class_shows_in_the_gap(explanation: Explanation) -> None:
    assert replace(explanation, targets=(explanation.targets + 1) % 4).gap > 1e-2


@pytest.mark.parametrize("level", [0, -1])
def test_nan_in_a_contribution_is_no_small_gap(level: int, explanation: Explanation) -> None:
    levels = list(explanation.levels)
    levels[level] = replace(levels[level], contributions=levels[level].contributions * float("nan"))
    assert math.isnan(replace(explanation, levels=tuple(levels)).gap)


def test_nan_on_a_pixel_is_no_small_gap(explanation: Explanation) -> None:
    assert math.isnan(replace(explanation, map=explanation.map * float("nan")).gap)


# Levels


def test_levels_run_from_the_finest_to_the_head(make_lap: Callable[..., LapModel], images: Tensor) -> None:
    lap = make_lap()
    explanation = lap.explain(images, 1)
    assert [level.name for level in explanation.levels] == [*(site.module for site in lap.levels), "head"]
    assert explanation.head is explanation.levels[-1]
    assert explanation.contributions is explanation.levels[0].contributions
    assert explanation.concept is explanation.head.scores
    cells = [level.contributions[0].numel() for level in explanation.levels]
    assert cells == sorted(cells, reverse=True)


def test_scores_that_nothing_trained_are_not_shown(make_lap: Callable[..., LapModel], images: Tensor) -> None:
    """A scorer that starts at random has no meaning; the head's starts from the classifier."""
    lap = make_lap()
    for level in lap.explain(images, 1).levels[:-1]:
        assert (level.scores, level.concepts) == (None, None)
        assert level.record is not None
    lap.gates[0].trained.fill_(True)  # type: ignore[operator]
    finest, *others, head = lap.explain(images, 1).levels
    assert finest.scores is not None
    assert finest.concepts is not None
    assert all(level.scores is None for level in others)
    assert head.scores is not None


@pytest.mark.slow
def test_a_finished_explanation_does_not_change(make_lap: Callable[..., LapModel], images: Tensor) -> None:
    """Training, detaching and other passes afterwards do not touch it."""
    lap = make_lap()
    lap.gates[1].trained.fill_(True)  # type: ignore[operator]
    explanation, twin = lap.explain(images, 1), copy.deepcopy(lap).explain(images, 1)
    lap.explain(images.flip(-1), 2)
    with torch.no_grad():
        for parameter in lap.parameters():
            parameter.zero_()
    for block in lap.gates:
        block.trained.logical_not_()  # type: ignore[operator]
    interp_core.detach(lap)
    for ours, theirs in zip(explanation.levels, twin.levels, strict=True):
        assert torch.equal(ours.contributions, theirs.contributions)
        assert torch.equal(ours.attention, theirs.attention)
        assert (ours.concepts is None) == (theirs.concepts is None)
        assert ours.concepts is None or torch.equal(ours.concepts, theirs.concepts)
    assert explanation.gap < 1e-5


@pytest.mark.slow
def test_an_explanation_cannot_be_changed_by_accident(explanation: Explanation) -> None:
    with pytest.raises(FrozenInstanceError):
        explanation.map = explanation.head.contributions  # type: ignore[misc]


def test_the_text_of_an_explanation_is_one_short_line() -> None:
    level = LevelMaps("head", torch.ones(7, 1, 4, 5))
    maps, targets, logits = torch.ones(7, 1, 24, 40), torch.arange(7) % 3, torch.zeros(7, 3)
    explanation = Explanation(maps, targets, logits, torch.zeros(7), (level,), torch.zeros(7, 3, 24, 40))
    text = repr(explanation)
    assert "\n" not in text
    assert len(text) < 120
    assert "7 images" in text
    assert "24 × 40" in text
    assert "4 × 5" in repr(level)
