"""X-rays of the study: persons are kept apart in folds."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.layouts import rsna, write
from helpers.xrays import made_xrays

from benchmarks.studies.xray.data import divide, load_xrays, persons_of, sample_boxed
from interp_core.errors import ContractError


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
