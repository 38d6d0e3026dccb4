from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from helpers.cue_nets import RED, SIDE, cue_images, follower

from benchmarks.diagnosis import evidence as module
from benchmarks.diagnosis.evidence import GRID, collect_evidence, default_level
from interp_core.datasets import ImageSet
from interp_core.errors import ContractError

pytestmark = pytest.mark.slow


@pytest.fixture
def small_shards(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD", 8)
    monkeypatch.setattr(module, "BATCH", 4)


def test_stored_maps_keep_the_sum_of_the_contributions(tmp_path: Path) -> None:
    subject, (images, _) = follower(), cue_images(10)
    evidence = collect_evidence(subject, images, tmp_path)
    look = subject.look(images.images)
    assert evidence.maps.shape == (10, GRID, GRID)
    np.testing.assert_allclose(evidence.maps.sum((1, 2)), look.maps.sum((1, 2, 3)).numpy(), rtol=0.02, atol=0.02)
    np.testing.assert_allclose(evidence.probabilities, look.probabilities.numpy(), rtol=1e-5)
    assert evidence.ids == images.ids


def test_the_decisive_cell_is_the_cue(tmp_path: Path) -> None:
    subject, (images, cues) = follower(), cue_images(20)
    evidence = collect_evidence(subject, images, tmp_path)
    for i in np.flatnonzero(cues.any((1, 2, 3))):
        row, column = (evidence.places[i, 0] * SIDE).astype(int)
        assert cues[i, 0, row, column]
        assert evidence.cells[i, 0].argmax() == RED
    assert (np.diff(evidence.weights, axis=1) <= 1e-6).all()


@pytest.mark.usefixtures("small_shards")
def test_an_interrupted_collection_goes_on_where_it_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    subject, (images, _) = follower(), cue_images(30)
    whole = collect_evidence(subject, images, tmp_path / "whole")
    explained: list[int] = []
    look = subject.look

    def stop_after_ten(batch: np.ndarray, *args: object) -> object:
        if sum(explained) >= 10:
            raise KeyboardInterrupt
        explained.append(len(batch))
        return look(batch, *args)  # type: ignore[arg-type]

    monkeypatch.setattr(subject, "look", stop_after_ten)
    with pytest.raises(KeyboardInterrupt):
        collect_evidence(subject, images, tmp_path / "parts")
    explained.clear()
    monkeypatch.setattr(subject, "look", lambda batch, *args: explained.append(len(batch)) or look(batch, *args))
    again = collect_evidence(subject, images, tmp_path / "parts")
    assert sum(explained) == 30 - 8  # the first shard was finished
    for name in ("maps", "features", "probabilities", "rows", "hashes"):
        np.testing.assert_array_equal(getattr(again, name), getattr(whole, name))


@pytest.mark.usefixtures("small_shards")
def test_unreadable_images_are_left_out_and_named(tmp_path: Path) -> None:
    images, _ = cue_images(12)

    class Damaged(ImageSet):
        unreadable = {"image-3": "truncated"}  # type: ignore[assignment]  # noqa: RUF012

        def batches(self, chosen):  # type: ignore[no-untyped-def]
            for indices in chosen:
                readable = indices[indices != 3]
                yield readable, images.take(readable)

    damaged = Damaged(images.images, images.targets, images.masks, images.ids)
    evidence = collect_evidence(follower(), damaged, tmp_path)
    assert "image-3" not in evidence.ids
    assert len(evidence) == 11
    assert evidence.unreadable == {"image-3": "truncated"}
    assert 3 not in evidence.rows


def test_no_readable_image_is_an_error(tmp_path: Path) -> None:
    images, _ = cue_images(4)

    class Unreadable(ImageSet):
        unreadable = dict.fromkeys(images.ids, "truncated")  # type: ignore[assignment]

        def batches(self, chosen):  # type: ignore[no-untyped-def]
            return iter(())

    unreadable = Unreadable(images.images, images.targets, images.masks, images.ids)
    with pytest.raises(ContractError, match="truncated"):
        collect_evidence(follower(), unreadable, tmp_path)


def test_the_default_level_is_no_finer_than_the_grid() -> None:
    subject = follower()
    level = default_level(subject, (SIDE, SIDE))
    assert all(SIDE / pitch <= GRID + 0.5 for pitch in subject.grid_of(level, (SIDE, SIDE)).pitch)


def test_evidence_inside_the_object_is_a_share(tmp_path: Path) -> None:
    images, _ = cue_images(10, agreement=0.0, share=0.0)  # no cues: all evidence for class 1 is the object
    evidence = collect_evidence(follower(), images, tmp_path)
    is_object = evidence.answers == 1
    assert is_object.any()
    assert (evidence.inside[is_object] > 5 * evidence.area[is_object]).all()  # maps are smooth over a cell
    np.testing.assert_allclose(evidence.area, 64 / SIDE**2)
