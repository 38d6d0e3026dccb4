"""Two processes that share a diagnosis find what one process finds."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from helpers import diagnosis_process
from helpers.cue_nets import cue_images, follower
from helpers.diagnosis_process import BROKEN, COUNT, SHARD, diagnose, write_images
from helpers.launch import launch

from benchmarks.diagnosis import evidence as module
from benchmarks.diagnosis.evidence import collect_evidence
from benchmarks.diagnosis.processes import ALONE, Processes, join_processes

pytestmark = pytest.mark.slow


def test_two_launched_processes_find_what_one_finds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(module, "SHARD", SHARD)
    images = tmp_path / "images"
    write_images(images)
    assert diagnose(str(images), str(tmp_path / "one")) == 0
    printed = launch(Path(diagnosis_process.__file__), str(images), str(tmp_path / "two"))
    assert printed.count("one of 2") == 2
    assert printed.count("index.html") == capsys.readouterr().out.count("index.html") == 1
    one, two = (json.loads((tmp_path / name / "findings.json").read_text()) for name in ("one", "two"))
    assert one["findings"]
    assert one["findings"] == two["findings"]
    assert two["data"]["images"] == COUNT - 1
    assert list(one["unreadable"]) == list(two["unreadable"]) == [f"folder/without/{2 * BROKEN}.png"]
    shards = sorted(path.name for path in (tmp_path / "two" / "evidence").iterdir())
    assert shards == sorted(path.name for path in (tmp_path / "one" / "evidence").iterdir())
    assert len(shards) == -(-COUNT // SHARD)


def test_each_explains_its_share(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "SHARD", 8)
    images, _ = cue_images(40)
    alone = collect_evidence(follower(), images, tmp_path / "alone")
    counts: list[int] = []

    def collect(rank: int, wait: object) -> object:
        return collect_evidence(
            follower(), images, tmp_path / "shared", processes=Processes(rank, 2, wait),  # type: ignore[arg-type]
            report=lambda done, total: counts.append(total),
        )  # fmt: skip

    shared = collect(0, lambda: collect(1, lambda: None))
    assert set(counts) == {24, 16}
    for name in ("maps", "features", "probabilities", "rows", "hashes", "cells"):
        np.testing.assert_array_equal(getattr(shared, name), getattr(alone, name))
    assert shared.ids == alone.ids  # type: ignore[attr-defined]


def test_without_a_launcher_a_process_is_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    assert join_processes() is ALONE
    assert ALONE.is_first
