"""The contract of data sets, and `digits-in-scenes`: its pictures, glyphs, scenes and images."""

from __future__ import annotations

import hashlib
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from PIL import Image
from pydantic import ValidationError
from sklearn.datasets import load_digits
from sklearn.svm import SVC

from interp_core.datasets import SPLITS, DatasetConfig, DigitsInScenes, ImageSet, SplitName, datasets
from interp_core.datasets.synthetic import backgrounds as pictures_module
from interp_core.datasets.synthetic import digits_in_scenes as digits_module
from interp_core.datasets.synthetic import glyphs as glyphs_module
from interp_core.datasets.synthetic.backgrounds import (
    PHOTOGRAPHS,
    crops,
    level_sides,
    photograph_path,
    pyramid,
    pyramids,
)
from interp_core.datasets.synthetic.digits_in_scenes import TAG_COLOURS, draw_scenes, render, tag_side
from interp_core.datasets.synthetic.glyphs import count_pieces, draw, glyphs, scramble, similarity, split_rows
from interp_core.datasets.synthetic.scenes import brightness, find_positions, paint
from interp_core.errors import ContractError, InterpError, UnknownNameError

SMALL = DigitsInScenes(train=300, val=40, test=40)
TAGGED = DigitsInScenes(train=300, val=40, test=400, confounded=True)


def digest(split: ImageSet) -> str:
    parts = [split.images, split.targets, split.masks, *split.regions.values()]
    return hashlib.sha256(b"".join(part.tobytes() for part in parts) + "".join(split.ids).encode()).hexdigest()


def tag_classes(split: ImageSet) -> np.ndarray:
    """The class each image's tag colour stands for, read from its pixels."""
    first = split.regions["tag"].reshape(len(split), -1).argmax(1)
    colours = split.images.reshape(len(split), 3, -1)[np.arange(len(split)), :, first]
    return (colours[:, None] == TAG_COLOURS).all(-1).argmax(1)


@pytest.fixture(scope="module")
def train() -> ImageSet:
    return SMALL.load("train")


@pytest.fixture(scope="module")
def tagged() -> dict[SplitName, ImageSet]:
    return {name: TAGGED.load(name) for name in SPLITS}


# The contract


def test_registry_knows_the_data_set() -> None:
    assert datasets["digits-in-scenes"] is DigitsInScenes
    with pytest.raises(UnknownNameError, match="did you mean digits-in-scenes"):
        datasets["digits-in-scene"]


def test_base_class_asks_for_what_is_missing() -> None:
    class Empty(DatasetConfig):
        pass

    with pytest.raises(NotImplementedError, match="Empty must define classes"):
        _ = Empty().classes
    with pytest.raises(NotImplementedError, match="Empty must define load"):
        Empty().load("train")


def test_base_statistics_are_those_of_the_training_images() -> None:
    class Flat(DatasetConfig):
        def load(self, split: SplitName) -> ImageSet:
            images = np.zeros((2, 3, 4, 4), np.uint8)
            images[0, 0], images[:, 1] = 255, 51
            return ImageSet(images, np.zeros(2, np.int64), np.ones((2, 1, 4, 4), bool), ["a", "b"])

    mean, deviation = Flat().channel_statistics()
    assert mean == pytest.approx((0.5, 0.2, 0.0))
    assert deviation == pytest.approx((0.5, 0.0, 0.0), abs=1e-6)


def valid_parts() -> dict[str, Any]:
    return {
        "images": np.zeros((2, 3, 4, 5), np.uint8),
        "targets": np.zeros(2, np.int64),
        "masks": np.zeros((2, 1, 4, 5), bool),
        "ids": ["a", "b"],
        "regions": {"tag": np.zeros((2, 1, 4, 5), bool)},
    }


@pytest.mark.parametrize(
    ("part", "value", "message"),
    [
        ("images", np.zeros((2, 3, 4, 5), np.float32), "uint8"),
        ("masks", np.zeros((2, 4, 5), bool), "masks must be"),
        ("masks", np.zeros((2, 1, 4, 5), np.uint8), "masks must be"),
        ("regions", {"tag": np.zeros((1, 1, 4, 5), bool)}, "tag must be"),
        ("targets", np.zeros(3, np.int64), "2 targets"),
        ("ids", ["a"], "2 targets"),
    ],
)
def test_split_refuses_parts_that_do_not_fit(part: str, value: object, message: str) -> None:
    assert len(ImageSet(**valid_parts())) == 2
    with pytest.raises(ContractError, match=message):
        ImageSet(**(valid_parts() | {part: value}))


@pytest.mark.slow
def test_take_keeps_all_parts_together(tagged: dict[SplitName, ImageSet]) -> None:
    split, picked = tagged["test"], np.array([7, 3, 3])
    part = split.take(picked)
    assert part.ids == [split.ids[i] for i in picked]
    for got, want in [(part.images, split.images), (part.masks, split.masks), (part.targets, split.targets)]:
        np.testing.assert_array_equal(got, want[picked])
    np.testing.assert_array_equal(part.regions["tag"], split.regions["tag"][picked])


# Pictures


def test_no_two_splits_share_a_picture() -> None:
    names = [name for split in SPLITS for name in PHOTOGRAPHS[split]]
    assert len(set(names)) == len(names)
    assert {"motorcycle_left.png", "motorcycle_right.png"} <= set(PHOTOGRAPHS["train"])


@pytest.mark.slow
@pytest.mark.parametrize("split", SPLITS)
def test_each_split_has_at_least_three_pictures_in_colour_and_grey(split: SplitName) -> None:
    coarsest = [levels[0].astype(int) for levels in pyramids(split, 32)]
    coloured = [bool(np.ptp(level, axis=0).max() > 30) for level in coarsest]
    assert len(coarsest) >= 3
    assert any(coloured)
    assert not all(coloured)


def test_a_missing_picture_is_named_in_one_line() -> None:
    with pytest.raises(InterpError, match=r"background photograph 'nowhere\.png'") as error:
        photograph_path("nowhere.png")
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("size", [32, 64, 224, 512])
def test_levels_leave_room_for_a_crop_and_stay_below_the_picture(size: int) -> None:
    sides = level_sides(512, size)
    assert sides == sorted(set(sides))
    assert sides[0] >= size
    assert all(side <= 512 for side in sides[1:])


def test_coarse_levels_are_averages_not_samples() -> None:
    # A picture of single-pixel stripes is grey from afar; picking pixels would keep it black and white.
    stripes = np.tile(np.array([0, 255], np.uint8), (512, 256))
    levels = pyramid(Image.fromarray(stripes).convert("RGB"), 32)
    assert abs(levels[0].astype(int) - 127).max() <= 12


def test_small_pictures_are_enlarged() -> None:
    assert min(pyramid(Image.new("RGB", (40, 30)), 64)[0].shape[1:]) >= 64


def test_crops_are_windows_of_the_picture() -> None:
    level = np.arange(3 * 6 * 7, dtype=np.uint8).reshape(3, 6, 7)
    unit = np.array([[0.0, 0.0, 0.5, 0.99, 0.9], [0.0, 0.0, 0.0, 0.0, 0.1]])
    cut = crops([(level,)], unit, 4)
    np.testing.assert_array_equal(cut[0], level[:, 1:5, 3:7])
    np.testing.assert_array_equal(cut[1], level[:, 0:4, 3::-1])


# Glyphs


def test_digits_are_split_by_digit_and_by_class() -> None:
    target = load_digits().target
    rows = split_rows(target)
    np.testing.assert_array_equal(np.sort(np.concatenate(list(rows.values()))), np.arange(len(target)))
    for name, share in zip(SPLITS, (0.6, 0.2, 0.2), strict=True):
        counts = np.bincount(target[rows[name]])
        np.testing.assert_allclose(counts, share * np.bincount(target), atol=1)


@pytest.mark.slow
def test_no_drawing_of_a_digit_occurs_in_two_splits() -> None:
    digit_sets = [{x.tobytes() for x in glyphs(name).digits} for name in SPLITS]
    assert len(set.union(*digit_sets)) == sum(len(part) for part in digit_sets)


def test_a_scramble_moves_every_quarter_and_loses_none() -> None:
    digits = np.arange(20 * 64).reshape(20, 8, 8)
    scrambled = scramble(digits, np.random.default_rng(0))
    for before, after in zip(digits, scrambled, strict=True):
        np.testing.assert_array_equal(np.sort(after.ravel()), before.ravel())
        for y in (slice(0, 4), slice(4, 8)):
            for x in (slice(0, 4), slice(4, 8)):
                assert not set(after[y, x].ravel()) & set(before[y, x].ravel())


def test_pieces_of_shapes_counted_by_hand() -> None:
    shapes = np.zeros((4, 8, 8), np.int64)
    shapes[1, 2:5, 2] = 16
    shapes[2, 0, 0] = shapes[2, 7, 7] = shapes[2, 4, 4] = 16
    shapes[3, 0, 0] = shapes[3, 1, 1] = 16
    assert count_pieces(shapes).tolist() == [0, 1, 3, 2]


def test_likeness_is_one_for_a_shifted_digit_and_less_for_others() -> None:
    digit = np.zeros((1, 8, 8), np.int64)
    digit[0, 2:6, 3] = 16
    same, other = np.roll(digit, (1, -2), (1, 2)), np.zeros_like(digit)
    other[0, 4, 2:6] = 16
    assert similarity(same, digit)[0] == pytest.approx(1)
    assert similarity(other, digit)[0] == pytest.approx(2 * 1 / (4 + 4))


def test_a_digit_classifier_reads_digits_but_not_scrambles() -> None:
    def cells(heights: np.ndarray) -> np.ndarray:
        k, pad = glyphs_module.ZOOM, glyphs_module.PAD
        small = heights.reshape(len(heights), 10, k, 10, k).mean((2, 4))
        return small[:, pad:-pad, pad:-pad].reshape(len(heights), -1)

    known, new = glyphs("train"), glyphs("test")
    reader = SVC(C=10).fit(cells(known.digits), known.classes)
    assert reader.score(cells(new.digits), new.classes) > 0.95
    assert reader.score(cells(new.scrambles), new.classes[new.scrambled]) < 0.25


def test_drawing_a_full_square_fills_its_box_and_nothing_else() -> None:
    bank = np.full((1, 60, 60), 255, np.uint8)
    opacity = draw(bank, np.array([0]), np.array([[2, 3]]), np.array([5]), 12)
    want = np.zeros((12, 12), np.float32)
    want[2:7, 3:8] = 1
    np.testing.assert_array_equal(opacity[0], want)


def test_drawing_keeps_shape_at_other_sizes() -> None:
    bank = glyphs("test").digits[:20]
    index, none = np.arange(20), np.zeros((20, 2), int)
    small, large = (draw(bank, index, none, np.full(20, side), side) > 0.5 for side in (30, 90))
    shrunk = large.reshape(20, 30, 3, 30, 3).mean((2, 4)) > 0.5
    assert (shrunk == small).mean() > 0.98


# Scenes


def test_squares_stay_inside_and_apart() -> None:
    rng = np.random.default_rng(0)
    sides, corner = rng.integers(10, 30, (200, 4)), rng.integers(0, 2, (200, 2)) * 56
    box, has_position = find_positions(sides, corner, 8, 64, rng.random((4, 200, 40, 2)))
    assert has_position[:, 0].all()
    assert 0 < has_position[:, 3].mean() < 1
    for boxes, there, free in zip(box, has_position, corner, strict=True):
        cover = np.zeros((64, 64), int)
        cover[free[0] : free[0] + 8, free[1] : free[1] + 8] += 1
        for top, left, side in boxes[there]:
            assert min(top, left) >= 0
            assert max(top, left) + side <= 64
            cover[top : top + side, left : left + side] += 1
        assert cover.max() == 1


def test_a_digit_that_finds_no_place_goes_across_from_the_corner() -> None:
    # Each throw lands in the top left corner, which is the one to keep free.
    box, has_position = find_positions(np.array([[24]]), np.array([[0, 0]]), 4, 32, np.zeros((1, 1, 3, 2)))
    assert has_position.all()
    assert box.tolist() == [[[8, 8, 24]]]


def test_paint_differs_in_brightness_from_what_lies_beneath() -> None:
    rng = np.random.default_rng(0)
    unit, beneath = rng.random((500, 4), np.float32), rng.random(500, np.float32)
    colour = paint(unit, beneath, 0.4)
    assert colour.min() >= 0
    assert colour.max() <= 1 + 1e-6
    assert np.abs(brightness(colour) - beneath).min() >= 0.4 - 1e-5


def test_scenes_of_one_block_hold_each_class_in_every_ten() -> None:
    targets = draw_scenes(SMALL, "train", 3).targets.reshape(-1, 10)
    np.testing.assert_array_equal(np.sort(targets, 1), np.tile(np.arange(10), (25, 1)))


def test_the_digit_drawn_is_of_the_target_class() -> None:
    scenes = draw_scenes(SMALL, "val", 0)
    np.testing.assert_array_equal(glyphs("val").classes[scenes.glyph[:, 0]], scenes.targets)


# Images


@pytest.mark.slow
def test_parts_have_the_shapes_and_types_promised(train: ImageSet) -> None:
    assert train.images.shape == (300, 3, 64, 64)
    assert train.images.dtype == np.uint8
    assert train.masks.shape == (300, 1, 64, 64)
    assert train.masks.dtype == np.bool_
    assert train.targets.dtype == np.int64
    assert train.regions == {}
    assert train.ids[12] == "digits-in-scenes/train/00012"
    assert len(set(train.ids)) == 300
    assert SMALL.classes == tuple("0123456789")


def test_classes_are_balanced(train: ImageSet) -> None:
    np.testing.assert_array_equal(np.bincount(train.targets), np.full(10, 30))


@pytest.mark.slow
@pytest.mark.parametrize("config", [SMALL, TAGGED])
def test_two_loads_are_the_same_to_the_byte(config: DigitsInScenes) -> None:
    first = digest(config.load("test"))
    for cached in (glyphs, pyramids):
        cached.cache_clear()
    assert digest(config.load("test")) == first


@pytest.mark.slow
def test_seeds_and_splits_differ(train: ImageSet) -> None:
    other = SMALL.model_copy(update={"seed": 1}).load("train")
    assert (other.images != train.images).any((1, 2, 3)).all()


@pytest.mark.parametrize("count", [1, 7, 251])
def test_an_image_does_not_depend_on_how_many_are_made(train: ImageSet, count: int) -> None:
    few = DigitsInScenes(train=count).load("train")
    assert digest(few) == digest(train.take(np.arange(count)))


@pytest.mark.slow
def test_the_size_of_the_pieces_does_not_show(monkeypatch: pytest.MonkeyPatch, train: ImageSet) -> None:
    monkeypatch.setattr(digits_module, "CHUNK_PIXELS", 7 * 64**2)
    assert digest(SMALL.load("train")) == digest(train)


@pytest.mark.slow
def test_the_mask_is_where_the_digit_shows() -> None:
    scenes = draw_scenes(SMALL, "train", 0)
    shown = scenes.shown.copy()
    shown[:, 0] = False
    (with_digit, mask, _), (without, empty, _) = (
        render(x, SMALL, "train") for x in (scenes, replace(scenes, shown=shown))
    )
    changed = (with_digit != without).any(1, keepdims=True)
    assert not empty.any()
    assert changed[mask].mean() > 0.995
    # Outside the mask only edges less than half covered change: nearly all next to the mask, all of them in the box.
    grown = np.pad(mask, ((0, 0), (0, 0), (1, 1), (1, 1)))
    near = np.logical_or.reduce([grown[..., y : y + 64, x : x + 64] for y in range(3) for x in range(3)])
    assert (changed & ~near).sum() < 0.02 * mask.sum()
    for shape, (top, left, side) in zip(changed[:, 0], scenes.box[:, 0], strict=True):
        assert shape.sum() == shape[top : top + side, left : left + side].sum()


def test_distractors_change_nothing_in_the_mask() -> None:
    many, none = (DigitsInScenes(train=100, distractors=k).load("train") for k in (4, 0))
    np.testing.assert_array_equal(many.masks, none.masks)
    inside = np.broadcast_to(none.masks, none.images.shape)
    np.testing.assert_array_equal(many.images[inside], none.images[inside])
    assert (many.images != none.images).any((1, 2, 3)).mean() > 0.5


@pytest.mark.slow
@pytest.mark.parametrize(
    "options",
    [
        {"image_size": 32, "digit_scale": (0.2, 0.2)},
        {"image_size": 33, "digit_scale": (0.75, 0.75), "confounded": True},
        {"image_size": 224, "distractors": 4},
        {"image_size": 512, "train": 2},
        {"background": 0.0, "contrast": 1.0},
    ],
)
def test_every_image_has_evidence_at_the_ends_of_the_ranges(options: dict[str, Any]) -> None:
    split = DigitsInScenes(**({"train": 30} | options)).load("train")
    assert split.masks.any((1, 2, 3)).all()
    assert split.masks.mean() < 0.5


def test_digits_are_as_large_as_promised() -> None:
    split = DigitsInScenes(train=200, digit_scale=(0.4, 0.4)).load("train")
    heights = split.masks[:, 0].any(2).sum(1)
    assert np.median(heights) == pytest.approx(0.94 * 0.4 * 64, abs=2)


def test_digits_lie_everywhere() -> None:
    box = draw_scenes(SMALL, "train", 0).box[:, 0].astype(float)
    reach = box[:, :2] / (64 - box[:, 2:])
    thirds = np.minimum((reach * 3).astype(int), 2)
    counts = np.bincount(thirds @ [3, 1], minlength=9)
    # 250 draws over nine places: about 28 each.
    assert counts.min() >= 12


def test_background_strength_zero_leaves_one_colour() -> None:
    flat = DigitsInScenes(train=20, background=0, distractors=0).load("train")
    for image, mask in zip(flat.images, flat.masks[:, 0], strict=True):
        assert (image == image[:, :1, :1])[:, ~mask].mean() > 0.9


@pytest.mark.slow
def test_statistics_are_those_of_the_images_and_made_once(train: ImageSet, monkeypatch: pytest.MonkeyPatch) -> None:
    SMALL.load("train")
    with monkeypatch.context() as patch:
        patch.setattr(digits_module, "render", None)
        mean, deviation = SMALL.channel_statistics()
    assert mean == pytest.approx((train.images / 255).mean((0, 2, 3)).tolist())
    assert deviation == pytest.approx((train.images / 255).std((0, 2, 3)).tolist())
    assert len(DigitsInScenes(train=3, seed=5).channel_statistics()[0]) == 3


# The tag


@pytest.mark.slow
def test_the_tag_agrees_with_the_class_in_train_and_val_only(tagged: dict[SplitName, ImageSet]) -> None:
    agreement = {name: (tag_classes(split) == split.targets).mean() for name, split in tagged.items()}
    assert agreement["train"] == agreement["val"] == 1
    assert 0.05 < agreement["test"] < 0.16


def test_the_tag_is_a_square_in_a_corner_away_from_the_digit(tagged: dict[SplitName, ImageSet]) -> None:
    side = tag_side(TAGGED)
    for split in tagged.values():
        tag = split.regions["tag"]
        assert (tag.sum((1, 2, 3)) == side**2).all()
        corners = tag[:, 0][:, [0, 0, -1, -1], [0, -1, 0, -1]]
        assert (corners.sum(1) == 1).all()
        assert not (tag & split.masks).any()
    assert (tagged["train"].regions["tag"][:, 0][:, [0, 0, -1, -1], [0, -1, 0, -1]].sum(0) > 40).all()


def test_apart_from_the_tag_both_forms_are_the_same(tagged: dict[SplitName, ImageSet], train: ImageSet) -> None:
    other = tagged["train"]
    outside = ~np.broadcast_to(other.regions["tag"], train.images.shape)
    np.testing.assert_array_equal(other.images[outside], train.images[outside])
    np.testing.assert_array_equal(other.masks, train.masks)
    assert other.ids == train.ids


def test_tag_colours_are_distinct() -> None:
    apart = np.abs(TAG_COLOURS[:, None].astype(int) - TAG_COLOURS).sum(-1)
    assert apart[~np.eye(10, dtype=bool)].min() > 60


# Bad parameters


@pytest.mark.parametrize(
    "options",
    [
        {"image_size": 31},
        {"image_size": 513},
        {"train": 0},
        {"test": -1},
        {"digit_scale": (0.1, 0.4)},
        {"digit_scale": (0.4, 0.9)},
        {"digit_scale": (0.5, 0.4)},
        {"distractors": 5},
        {"contrast": 0},
        {"background": 1.5},
        {"seed": -1},
        {"image_size": "large"},
        {"nonsense": 1},
    ],
)
def test_bad_parameters_are_refused(options: dict[str, Any]) -> None:
    with pytest.raises(ValidationError, match=next(iter(options))):
        DigitsInScenes(**options)


def test_an_unknown_split_is_refused() -> None:
    with pytest.raises(UnknownNameError, match="unknown split 'tset': did you mean test"):
        SMALL.load("tset")  # type: ignore[arg-type]


def test_configs_are_frozen_and_hashable() -> None:
    assert hash(DigitsInScenes(seed=3)) == hash(DigitsInScenes(seed=3))
    with pytest.raises(ValidationError):
        SMALL.seed = 4  # type: ignore[misc]


@pytest.mark.slow
def test_a_missing_wheel_picture_stops_the_load(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(pictures_module.PHOTOGRAPHS, "val", ("gone.png",))
    pyramids.cache_clear()
    with pytest.raises(InterpError, match=r"gone\.png"):
        DigitsInScenes(val=1).load("val")
    pyramids.cache_clear()
