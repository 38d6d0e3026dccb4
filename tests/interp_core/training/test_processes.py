"""Two processes that share every batch train the network that one process trains."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from helpers import training_process
from helpers.launch import launch
from helpers.training_process import UNREADABLE, train

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What two processes left."""
    folder = tmp_path_factory.mktemp("processes")
    launch(Path(training_process.__file__), str(folder))
    return folder


@pytest.fixture(scope="module")
def both(folder: Path) -> list[dict[str, Any]]:
    return [torch.load(folder / f"{rank}.pt", weights_only=True) for rank in range(2)]


def test_both_end_with_the_network_of_one_process(both: list[dict[str, Any]]) -> None:
    alone = train()
    for results in both:
        torch.testing.assert_close(results["whole"]["state"], alone["state"], rtol=1e-3, atol=1e-5)
        for ours, theirs in zip(results["whole"]["losses"], alone["losses"], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-3)
        for ours, theirs in zip(results["whole"]["validation"], alone["validation"], strict=True):
            assert ours == pytest.approx(theirs, rel=1e-3)
    first, second = (results["whole"]["state"] for results in both)
    assert all(torch.equal(first[key], second[key]) for key in first)


def test_each_sees_its_share_of_every_batch(both: list[dict[str, Any]]) -> None:
    single, (first, second) = train()["asked"], (results["whole"]["asked"] for results in both)
    assert [a + b for a, b in zip(first, second, strict=True)] == single
    assert {len(share) for share in first} == {5}
    assert {len(share) for share in second} == {4}


def test_images_that_cannot_be_read_do_not_part_them(both: list[dict[str, Any]]) -> None:
    first, second = (results["gaps"]["state"] for results in both)
    assert all(torch.equal(first[key], second[key]) for key in first)
    assert not torch.equal(first["head.a"], both[0]["whole"]["state"]["head.a"])
    assert set(UNREADABLE) <= {
        index for share in both[0]["gaps"]["asked"] + both[1]["gaps"]["asked"] for index in share
    }


def test_they_go_on_from_a_checkpoint_with_the_same_bits(both: list[dict[str, Any]]) -> None:
    for results in both:
        expected, resumed = results["whole"]["state"], results["resumed"]["state"]
        assert all(torch.equal(expected[key], resumed[key]) for key in expected)


def test_only_the_first_is_watched(folder: Path) -> None:
    assert (folder / "0.csv").exists()
    assert not (folder / "1.csv").exists()
