"""The X-ray study: persons are kept apart, intervals are those of persons, and a run goes from files to a page."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from helpers.layouts import rsna, write
from sklearn.metrics import roc_auc_score

from benchmarks.studies.xray import page, study
from benchmarks.studies.xray.cluster_bootstrap import (
    draw_weights,
    effective_persons,
    mean_interval,
    wins,
    wins_interval,
)
from benchmarks.studies.xray.data import Xrays, divide, load_xrays, persons_of, sample_boxed
from interp_core.errors import ContractError
from interp_core.training import Recipe

pytestmark = pytest.mark.slow


def made_xrays(count: int = 12, boxed: int = 6) -> Xrays:
    """Images of noise of which the first are ill, each with a box; two images a person."""
    generator = torch.Generator().manual_seed(0)
    masks = torch.zeros(count, 1, 16, 16, dtype=torch.bool)
    masks[:boxed, :, 4:8, 4:8] = True
    targets = (torch.arange(count) < boxed).long()
    images = torch.rand(count, 3, 16, 16, generator=generator)
    return Xrays(images, targets, masks, [f"x{i}" for i in range(count)], np.arange(count) // 2)


class TestPersons:
    def test_are_those_of_the_source_where_it_is_there(self, tmp_path: Path) -> None:
        write(tmp_path / "source.csv", "patientId,image,nih_image\na,1,007_000.png\nb,2,008_001.png\nc,3,007_003.png\n")
        assert persons_of(tmp_path, ["a", "b", "c", "unknown"]).tolist() == [0, 1, 0, 2]

    def test_are_the_files_without_it(self, tmp_path: Path) -> None:
        assert persons_of(tmp_path, ["a", "b", "c"]).tolist() == [0, 1, 2]

    def test_come_with_the_images_they_belong_to(self, tmp_path: Path) -> None:
        root = rsna(tmp_path, 12)
        rows = [f"p{i:03d},x,{'001' if i % 3 == 0 else f'9{i:02d}'}_{i:03d}.png" for i in range(12)]
        write(root / "source.csv", "\n".join(["patientId,image,nih_image", *rows]))
        xrays = load_xrays(root, 32)
        assert xrays.images.shape == (12, 3, 32, 32)
        assert 0 <= float(xrays.images.min()) <= float(xrays.images.max()) <= 1
        assert len(set(xrays.persons[xrays.targets.numpy() == 1])) == 1
        assert len(set(xrays.persons)) == 9
        assert xrays.masks.flatten(1).any(1).tolist() == (xrays.targets == 1).tolist()


class TestFolds:
    def test_test_every_image_once_and_tear_nobody_apart(self) -> None:
        rng = np.random.default_rng(0)
        groups = rng.integers(0, 30, 150)
        targets = (groups % 3 == 0).astype(int)
        folds = list(divide(targets, groups, 5, 1))
        assert sorted(np.concatenate([fold.test for fold in folds])) == list(range(150))
        for fold in folds:
            parts = [set(groups[rows]) for rows in (fold.train, fold.val, fold.test)]
            assert sum(map(len, parts)) == len(set.union(*parts)) == 30
            assert len(fold.train) + len(fold.val) + len(fold.test) == 150
            assert targets[fold.test].any()

    def test_need_a_positive_person_each(self) -> None:
        with pytest.raises(ContractError, match="fewer folds"):
            next(divide(np.array([1, 1, 0, 0, 0]), np.array([0, 0, 1, 2, 3]), 2, 0))

    def test_other_seeds_part_otherwise(self) -> None:
        groups = np.arange(60)
        first, second = (next(divide(groups % 2, groups, 5, seed)).test.tolist() for seed in (0, 1))
        assert first != second


class TestBoxes:
    def test_are_given_by_as_many_persons_as_can_be(self) -> None:
        xrays = made_xrays()
        rows = sample_boxed(xrays, np.arange(12), 3, 0)
        assert len(set(xrays.persons[rows])) == 3
        assert bool((xrays.targets[rows] == 1).all())
        assert len(sample_boxed(xrays, np.arange(12), 99, 0)) == 6

    def test_are_places_among_training_images(self) -> None:
        train = np.array([11, 4, 10, 5])
        assert sample_boxed(made_xrays(), train, 9, 0).tolist() == [1, 3]


class TestPersonsDrawnTogether:
    def test_images_of_a_person_are_drawn_alike(self) -> None:
        drawn = draw_weights(np.array([0, 1, 0, 2]), 50)
        assert (drawn[:, 0] == drawn[:, 2]).all()
        assert (drawn[:, [0, 1, 3]].sum(1) == 3).all()

    def test_effective_persons(self) -> None:
        assert effective_persons(np.array([0, 0, 0, 1])) == pytest.approx(16 / 10)
        assert effective_persons(np.arange(5)) == 5

    def test_interval_is_wider_where_images_of_a_person_are_alike(self) -> None:
        values = np.repeat(np.random.default_rng(0).random(10), 6)
        low, high = mean_interval(values, np.arange(60))
        wide_low, wide_high = mean_interval(values, np.repeat(np.arange(10), 6))
        assert wide_low < low < values.mean() < high < wide_high

    def test_wins_are_the_auroc(self) -> None:
        rng = np.random.default_rng(1)
        targets, scores = np.arange(40) % 2, rng.integers(0, 6, 40).astype(float)
        table = wins(scores, targets)
        assert table.shape == (20, 20)
        assert table.mean() == pytest.approx(roc_auc_score(targets, scores))
        low, high = wins_interval(table, targets, np.arange(40))
        assert low < table.mean() < high

    def test_a_perfect_order_has_no_interval(self) -> None:
        targets = np.array([0, 0, 1, 1])
        assert wins_interval(wins(targets * 1.0, targets), targets, np.arange(4)) == (1.0, 1.0)


class TestMaps:
    def test_the_mask_itself_scores_one(self) -> None:
        xrays = made_xrays()
        scores = study.score_maps(xrays.masks[:6].float(), xrays.images[:6], xrays.masks[:6], 0)
        assert set(scores) == set(page.METRICS)
        assert all((values == 1).all() for values in scores.values())

    def test_box_prior_is_the_same_for_all(self) -> None:
        prior = torch.rand(1, 16, 16)
        maps = study.explain(
            "box_prior", torch.nn.Identity(), made_xrays().images[:2], made_xrays().masks[:2], prior, 0
        )
        assert torch.equal(maps, torch.stack([prior, prior]))


ARMS: dict[str, study.XrayArm] = {
    "plain": study.XrayArm(explained_by=("grad_cam",)),
    "lap": study.XrayArm(lap=True, terms=study.LABELS, explained_by=("lap", "grad_cam", "box_prior", "mask")),
    "lap_boxes": study.XrayArm(lap=True, terms=study.WITH_BOXES, boxes=3, explained_by=("lap",)),
    "plain_by_file": study.XrayArm(persons=False),
    "lap_refined": study.XrayArm(lap=True, terms=study.LABELS, explained_by=("lap",), refined=True),
}


@pytest.fixture
def small(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, Any]:
    """Arguments of a study of 60 made images that takes seconds."""
    monkeypatch.setattr(study, "ARMS", ARMS)
    monkeypatch.setattr(study, "SIDE", 32)
    monkeypatch.setattr(study, "RECIPE", Recipe(epochs=2, batch_size=8, shift=2, flip=True, patience=2))
    monkeypatch.setattr(study, "REFINING", Recipe(mode="frozen", epochs=1, batch_size=8, shift=2))
    root = rsna(tmp_path / "rsna", 60)
    return {"root": root, "folds": 2, "seeds": (0, 1), "output": tmp_path / "out"}


class TestStudy:
    def test_goes_from_files_to_a_page(self, small: dict[str, Any], tmp_path: Path) -> None:
        picture = tmp_path / "pictures.png"
        paths = study.run(**small, pictures=picture)
        assert all(path.is_file() for path in paths)
        out = tmp_path / "out"
        answers = pd.read_csv(out / "medical_answers.csv")
        assert (answers.groupby(["arm", "seed"])["image"].nunique() == 60).all()
        assert len(answers) == 4 * 2 * 60
        maps = pd.read_csv(out / "medical_maps.csv")
        assert (maps.groupby(["arm", "seed", "explainer"])["image"].nunique() == 20).all()
        auroc = pd.read_csv(out / "medical_auroc.csv").set_index("arm")
        one = answers.query("arm == 'lap' and seed == 0")
        assert auroc.loc["lap", "seeds"] == 2
        assert auroc.loc["lap", "lowest_seed"] <= roc_auc_score(one["target"], one["score"]) + 1e-3
        text = (out / "medical.md").read_text()
        for words in ("60 chest X-rays of 60 persons, 20 with lung opacity", "10 boxes", "cannot show", "part files"):
            assert words in text
        assert (out / "medical_maps.png").read_bytes()[:4] == picture.read_bytes()[:4] == b"\x89PNG"
        assert not {"0/edges", "0/mask"} & set(np.load(out / "medical_shown.npz"))
        paired = pd.read_csv(out / "medical_paired.csv")
        assert set(paired["unit"]) == {"person", "image"}
        assert set(paired["explainer"]) == {"grad_cam", "box_prior"}

    def test_goes_on_where_it_was_killed(
        self, small: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        arguments = {**small, "arms": ("plain", "lap"), "epochs": 1}
        out, real, calls = tmp_path / "out", study.train_and_score, []

        def killed(*arguments: Any) -> Any:
            calls.append(arguments[0])
            if len(calls) == 4:
                raise KeyboardInterrupt
            return real(*arguments)

        monkeypatch.setattr(study, "train_and_score", killed)
        with pytest.raises(KeyboardInterrupt):
            study.run(**arguments)
        # as if killed between the files: answers of a training that is in no table
        torn = pd.read_csv(out / "medical_answers.csv")
        torn = pd.concat([torn, torn.assign(arm="lap", seed=1, fold=1)])
        torn.to_csv(out / "medical_answers.csv", index=False)
        assert study.run(**arguments)
        assert len(calls) == 3 + 1 + 5
        answers = pd.read_csv(out / "medical_answers.csv")
        assert len(answers) == 2 * 2 * 60
        assert not answers.duplicated(["arm", "seed", "image"]).any()
        trained = pd.read_csv(out / "medical_trainings.csv")
        assert study.run(**arguments)
        assert len(calls) == 9
        pd.testing.assert_frame_equal(trained, pd.read_csv(out / "medical_trainings.csv"))

    def test_a_second_stage_hardly_moves_the_answers(self, small: dict[str, Any], tmp_path: Path) -> None:
        for arms in ("lap_refined", "lap"):
            study.run(**{**small, "arms": [arms], "split": "val", "seeds": (0,)})
        answers = pd.read_csv(tmp_path / "out" / "medical_answers.csv")
        wide = answers.pivot_table(index=["seed", "fold", "image"], columns="arm", values="score")
        assert np.abs(wide["lap"] - wide["lap_refined"]).max() < 0.05 * wide["lap"].std()
        maps = pd.read_csv(tmp_path / "out" / "medical_maps.csv")
        assert {"lap", "lap_refined"} == set(maps["arm"])
