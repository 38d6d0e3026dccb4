"""The shortcut study: tags, what arms are told, what is asked of them, its table and its figure."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from torch import nn

from benchmarks.studies.shortcut import report, study
from benchmarks.studies.shortcut.arms import ARMS, ShortcutArm, widen
from benchmarks.studies.shortcut.cost import measure_cost
from benchmarks.studies.shortcut.data import (
    TaggedData,
    TaggedImages,
    classes_of_tags,
    load_digits,
    paint_tags,
    sample_evenly,
    tag_pattern,
)
from benchmarks.studies.shortcut.detector import detect, marking_term, score_masks
from benchmarks.studies.shortcut.measure import evaluate, maps_of, share_on
from interp_core.datasets.synthetic.digits_in_scenes import TAG_COLOURS
from interp_core.errors import ContractError, UnknownNameError
from interp_core.lap.model import LapModel
from interp_core.training import Recipe, fit

pytestmark = pytest.mark.slow

SHORT = Recipe(epochs=1, batch_size=8, shift=0)


@pytest.fixture(scope="module")
def forms() -> tuple[TaggedData, TaggedData]:
    return load_digits(40, 20, 40)


# Tags


def test_a_tag_is_one_square_in_a_corner_and_nothing_else_changes() -> None:
    rng = np.random.default_rng(0)
    images = rng.integers(0, 256, (6, 3, 32, 32), dtype=np.uint8)
    before = images.copy()
    painted, tags = paint_tags(images, np.array([0, 3, 9, 10, 13, 19]), np.random.default_rng(1))
    assert (images == before).all()
    assert (painted == np.where(tags, painted, images)).all()
    assert (tags.sum((1, 2, 3)) == 16).all()
    assert all(tag[0][np.ix_([0, -1], [0, -1])].sum() == 1 for tag in tags)
    again, _ = paint_tags(images, np.array([0, 3, 9, 10, 13, 19]), np.random.default_rng(1))
    assert (again == painted).all()


def test_twenty_classes_have_twenty_tags() -> None:
    patterns = {tag_pattern(k, 8).tobytes() for k in range(20)}
    assert len(patterns) == 20
    assert (tag_pattern(3, 8) == TAG_COLOURS[3]).all()
    assert (tag_pattern(13, 8).reshape(-1, 3).any(1)).mean() == 0.5


def test_a_tag_says_its_class_again() -> None:
    told = np.arange(10)
    images, tags = paint_tags(np.zeros((10, 3, 32, 32), np.uint8), told, np.random.default_rng(0))
    assert (classes_of_tags(images, tags, TAG_COLOURS) == told).all()


def test_tags_agree_in_training_and_not_in_test(forms: tuple[TaggedData, TaggedData]) -> None:
    tagged, clean = forms
    for split in ("train", "val"):
        assert (tagged.splits[split].tag_classes == tagged.splits[split].targets).all()
        assert not clean.splits[split].tags.any()
    assert (tagged.splits["test"].tag_classes == tagged.splits["test"].targets).float().mean() < 0.5
    assert (clean.splits["test"].tag_classes == tagged.splits["test"].tag_classes).all()
    assert not clean.splits["clean"].tags.any()
    assert not tagged.splits["clean"].tags.any()


def test_hidden_tags_are_gone_and_the_rest_stays(forms: tuple[TaggedData, TaggedData]) -> None:
    part = forms[0].splits["val"]
    hidden = part.without_tags()
    apart = ~part.tags.expand_as(hidden)
    assert torch.equal(hidden[apart], part.images[apart])
    assert not torch.equal(hidden, part.images)


def test_evenly_takes_all_classes_alike() -> None:
    targets = torch.arange(10).repeat(20)
    assert targets[sample_evenly(targets, 20, 0)].bincount().tolist() == [2] * 10
    assert len(sample_evenly(targets, 25, 0)) == 25
    assert not torch.equal(sample_evenly(targets, 25, 0), sample_evenly(targets, 25, 1))


def test_without_the_photographs_it_says_so() -> None:
    from benchmarks.studies.shortcut.data import load_tiny

    with pytest.raises(ContractError, match="--root"):
        load_tiny(Path("nowhere"), 20, 20, 20)


# Arms


def test_copies_carry_the_regions_of_what_they_copy(forms: tuple[TaggedData, TaggedData]) -> None:
    train = forms[0].splits["train"]
    arm = ShortcutArm(name="x", title="x", region="irrelevant", share=0.1, copies=3)
    images, regions = arm.training_data(train, 0)
    rows, masks = regions["irrelevant"]
    known = arm.known_rows(train, 0)
    assert len(images) == 40 + 2 * 4
    assert len(rows) == len(masks) == 3 * 4
    assert torch.equal(images.images[rows], train.images[known].repeat(3, 1, 1, 1))
    assert torch.equal(masks, train.tags[known].repeat(3, 1, 1, 1))


def test_a_margin_widens_a_region_on_every_side() -> None:
    mask = torch.zeros(1, 1, 7, 7, dtype=torch.bool)
    mask[0, 0, 0, 3] = True
    wide = widen(mask, 2)
    assert wide[0, 0, :3, 1:6].all()
    assert int(wide.sum()) == 15
    assert torch.equal(widen(mask, 0), mask)


def test_arms_have_different_names_and_know_what_their_terms_ask_for() -> None:
    names = [arm.name for arm in ARMS]
    assert len(set(names)) == len(names)
    assert {"plain_clean", "plain", "lap"} <= set(names)
    for arm in ARMS:
        asked = {name for term in arm.terms for name in term.needs()}
        assert asked <= {arm.region}


# A detector taught by a few


def test_a_taught_concept_finds_the_tag_in_all_images(forms: tuple[TaggedData, TaggedData]) -> None:
    arm = next(arm for arm in ARMS if arm.name == "lap_exchange_found")
    network = arm.network(10, 0, 64, detector=True)
    assert isinstance(network, LapModel)
    train = forms[0].splits["train"]
    few = torch.arange(10)
    recipe = Recipe(epochs=20, batch_size=20, learning_rate=0.01, shift=0)
    fit(network, train.images, train.targets, recipe=recipe, terms=(marking_term(network),),
        regions={"irrelevant": (few, train.tags[few])})  # fmt: skip
    scores = score_masks(detect(network, train.images), train)
    assert scores["found_recall"] > 0.6
    assert scores["found_iou"] > 0.3


def test_masks_are_judged_by_what_they_share_with_the_tags() -> None:
    tags, found = torch.zeros(2, 1, 4, 4, dtype=torch.bool), torch.zeros(2, 1, 4, 4, dtype=torch.bool)
    tags[:, :, :2, :2], found[0, :, :2, :3] = True, True
    images = TaggedImages(torch.zeros(2, 3, 4, 4), torch.zeros(2), tags, tags, torch.zeros(2))
    assert score_masks(found, images) == {"found_iou": pytest.approx(2 / 6), "found_recall": pytest.approx(0.5)}


def test_an_arm_that_finds_is_told_of_all_images_what_it_found(forms: tuple[TaggedData, TaggedData]) -> None:
    arm = next(arm for arm in ARMS if arm.name == "lap_exchange_found")
    images, regions, scores = study.detect_regions(arm, forms[0], SHORT, 0)
    rows, masks = regions["irrelevant"]
    assert torch.equal(rows, torch.arange(len(images)))
    assert masks.shape == (len(images), 1, 64, 64)
    assert set(scores) == {"found_iou", "found_recall"}


def test_tags_exchanged_beforehand_are_another_images(forms: tuple[TaggedData, TaggedData]) -> None:
    arm = next(arm for arm in ARMS if arm.name == "plain_exchange")
    images, regions = arm.training_data(forms[0].splits["train"], 0)
    assert regions == {}
    # Each tag now lies on the image before the one that is shown with it.
    apart = (
        images.images
        != forms[0].splits["train"].take(torch.randperm(len(images), generator=torch.Generator().manual_seed(0))).images
    )
    assert bool(apart.flatten(1).any(1).all())
    assert float(apart.float().mean()) < 0.1


# What is asked


def test_share_on_a_mask() -> None:
    maps, masks = torch.zeros(3, 1, 4, 4), torch.zeros(3, 1, 4, 4)
    maps[0], maps[1, 0, 0, 0], masks[:, :, :2] = 1, 5, 1
    assert share_on(maps, masks).tolist() == [0.5, 1.0, 0.0]


class Reader(nn.Module):
    """Reads the upper left pixel, which is as bright as the tag's class."""

    def __init__(self) -> None:
        super().__init__()
        self.classes = nn.Parameter(torch.arange(2.0))

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        return -(images[:, 0, 0, 0, None] - self.classes).abs()


def test_a_network_that_reads_the_tag_follows_it(monkeypatch: pytest.MonkeyPatch) -> None:
    targets, told = torch.tensor([0, 0, 1, 1]), torch.tensor([0, 1, 1, 0])
    images, tags = torch.zeros(4, 3, 8, 8), torch.zeros(4, 1, 8, 8, dtype=torch.bool)
    images[:, :, 0, 0], tags[:, :, 0, 0] = told[:, None].float(), True
    parts = TaggedImages(images, targets, torch.zeros_like(tags), tags, told)
    monkeypatch.setattr(
        "benchmarks.studies.shortcut.measure.maps_of",
        lambda _network, x, _targets: {"map": torch.ones(len(x), 1, 8, 8)},
    )
    scores = evaluate(Reader(), {"test": parts, "clean": parts, "val": parts.take(torch.tensor([0, 2]))})
    assert scores["accuracy"] == 0.5
    assert scores["follows"] == scores["val_accuracy"] == 1.0
    assert scores["tag_map"] == scores["tag_area"] == pytest.approx(1 / 64)


@pytest.mark.parametrize("method", ["plain", "lap", "cam_energy"])
def test_every_kind_of_network_has_a_map(method: str, forms: tuple[TaggedData, TaggedData]) -> None:
    network = ShortcutArm(name="x", title="x", method=method).network(10, 0, 64).eval()
    images = forms[0].splits["test"].images[:3]
    maps = maps_of(network, images, torch.tensor([1, 2, 3]))
    assert set(maps) == ({"map", "contributions"} if method == "lap" else {"map"})
    for values in maps.values():
        assert values.shape == (3, 1, 64, 64)
        assert bool((values >= 0).all())


# The run, its table and its figure


@pytest.fixture(scope="module")
def few() -> list[ShortcutArm]:
    wanted = ("plain_clean", "plain", "lap_forbid")
    return [arm for arm in ARMS if arm.name in wanted]


def test_a_stopped_run_goes_on(
    tmp_path: Path, forms: tuple[TaggedData, TaggedData], few: list[ShortcutArm], monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "control_digits.csv"
    first = study.train_arms(SHORT, "digits", study.Forms(*forms), few[:1], [0], path)
    row = first.iloc[0].to_dict()
    monkeypatch.setattr(study, "train_and_evaluate", lambda arm, *_: {**row, "arm": arm.name})
    both = study.train_arms(SHORT, "digits", study.Forms(*forms), few, [0], path)
    assert list(both.arm) == [arm.name for arm in few]
    assert list(pd.read_csv(path).seed) == [0, 0, 0]


def test_a_step_is_timed_against_a_plain_one(forms: tuple[TaggedData, TaggedData], few: list[ShortcutArm]) -> None:
    step = measure_cost(few[2], few[1], forms[0], SHORT, pairs=2)
    assert 0 < step.q1 <= step.ratio <= step.q3
    assert step.seconds > 0


def made_up() -> pd.DataFrame:
    lines = [
        {"data": "digits", "arm": arm, "seed": seed, "told": told, "accuracy": accuracy + seed / 100,
         "accuracy_clean": accuracy, "follows": 0.1, "tag_area": 1 / 64, "tag_map": tag, "tag_contributions": share}
        for arm, told, accuracy, tag, share in (
            ("plain_clean", 0, 0.9, 0.01, np.nan), ("plain", 0, 0.1, 0.2, np.nan), ("lap", 0, 0.1, 0.5, 0.4))
        for seed in (0, 1)
    ]  # fmt: skip
    return pd.DataFrame(lines)


def test_the_table_says_how_far_an_arm_is_from_the_clean_network(tmp_path: Path) -> None:
    path = tmp_path / "control_digits.csv"
    made_up().to_csv(path, index=False)
    table, picture = report.write_report(path, "command")
    rows = [row.split(" | ") for row in table.read_text().splitlines() if row.startswith("| ")]
    row = next(row for row in rows if row[0] == f"| {next(a.title for a in ARMS if a.name == 'lap')}")
    assert row[3] == "-80.0 ± 0.0"
    assert row[7] == "32.0"
    assert picture.stat().st_size > 1000


def test_half_interval_is_students() -> None:
    assert report.half_interval([1.0, 3.0]) == pytest.approx(12.7062, abs=1e-3)
    assert np.isnan(report.half_interval([1.0]))


def test_an_unknown_arm_is_named(tmp_path: Path) -> None:
    with pytest.raises(UnknownNameError, match="lapp"):
        study.run(names=["lapp"], output=tmp_path)
