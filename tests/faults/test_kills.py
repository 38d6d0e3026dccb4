"""Commands that are killed at random moments and started again end with the same tables and weights.

`tox -e kills` kills 50 times. Ordinary test runs skip this file.
"""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import timm
import torch
from helpers.kills import kill_at_random, run
from helpers.pictures import save_pictures

import interp_core
from benchmarks.store.run_folder import read_run

KILLS = int(os.environ.get("INTERP_BENCH_KILLS", "0"))
pytestmark = [pytest.mark.slow, pytest.mark.skipif(not KILLS, reason="set INTERP_BENCH_KILLS, or use tox -e kills")]

SHARES = {"run": 0.4, "fit": 0.4, "diagnose": 0.2}  # of the kills
RUN = """
name: killed
dataset: {name: digits-in-scenes, image_size: 32, train: 320, val: 32, test: 40, distractors: 0}
models:
  - {name: plain, backbone: test_resnet}
  - {name: lap, backbone: test_resnet, lap: true}
recipe: {epochs: 2, batch_size: 16, shift: 2}
explainers: [lap, grad_cam, random, {name: integrated_gradients, steps: 4}]
metrics: [relevance_mass_accuracy, pointing_game, {name: pixel_flipping, steps: 4}]
images: 8
shard: 2
gallery: 2
seeds: [0]
"""


def share_of_kills(command: str) -> int:
    return max(1, round(SHARES[command] * KILLS))


def test_a_run_ends_with_the_same_scores(tmp_path: Path) -> None:
    config = tmp_path / "run.yaml"
    config.write_text(RUN)

    def words(output: Path) -> Sequence[str]:
        return ("run", "--config", str(config), "--output", str(output))

    def tables(output: Path) -> pd.DataFrame:
        [folder] = {path.parent for path in output.rglob("run.json")}
        scores = read_run(str(folder)).scores
        scores = scores[~scores["metric"].isin(["seconds", "peak_memory"])]
        columns = [name for name in scores.columns if name != "value"]
        return scores.sort_values(columns).reset_index(drop=True)

    seconds = run(words(tmp_path / "whole"), tmp_path / "whole.log")
    expected = tables(tmp_path / "whole")
    assert len(expected)
    for output in kill_at_random(words, tmp_path, share_of_kills("run"), seconds, 1):
        pd.testing.assert_frame_equal(tables(output), expected, check_exact=True)


def test_a_fit_ends_with_the_same_weights(tmp_path: Path) -> None:
    torch.manual_seed(0)
    torch.save(timm.create_model("test_resnet", num_classes=3).state_dict(), tmp_path / "w.pt")
    save_pictures(tmp_path / "photographs" / "all", 24)

    def words(output: Path) -> Sequence[str]:
        return (
            "fit", "--backbone", "test_resnet", "--weights", str(tmp_path / "w.pt"), "--image-size", "64",
            "--data", str(tmp_path / "photographs"), "--epochs", "12", "--batch-size", "4", "--workers", "0",
            "--output", str(output),
        )  # fmt: skip

    seconds = run(words(tmp_path / "whole"), tmp_path / "whole.log")
    for output in kill_at_random(words, tmp_path, share_of_kills("fit"), seconds, 2):
        name = "model.safetensors"
        assert (output / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
        reports = [json.loads((folder / "fit.json").read_text())["report"] for folder in (output, tmp_path / "whole")]
        for report in reports:
            report.pop("seconds")
        assert reports[0] == reports[1]


def test_a_diagnosis_ends_with_the_same_findings(tmp_path: Path) -> None:
    torch.manual_seed(0)
    interp_core.save(interp_core.create("test_resnet", num_classes=2).eval(), tmp_path / "lap")
    for split in ("train", "val"):
        for name, bright in (("dark", 90), ("light", 200)):
            save_pictures(tmp_path / "data" / split / name, 16, bright)

    def words(output: Path) -> Sequence[str]:
        return (
            "diagnose", str(tmp_path / "lap"), "--data", str(tmp_path / "data"), "--set", "image_size=64",
            "--set", "workers=0", "--checks", "properties,duplicates,places", "--output", str(output),
        )  # fmt: skip

    def findings(output: Path) -> dict[str, Any]:
        content = json.loads((output / "findings.json").read_text())
        content.pop("provenance")
        for check in content["checks"]:
            check.pop("seconds", None)
        return content

    seconds = run(words(tmp_path / "whole"), tmp_path / "whole.log")
    for output in kill_at_random(words, tmp_path, share_of_kills("diagnose"), seconds, 3):
        assert findings(output) == findings(tmp_path / "whole")
        pictures = {path.name: path.read_bytes() for path in (output / "pictures").glob("*.png")}
        whole = {path.name: path.read_bytes() for path in (tmp_path / "whole" / "pictures").glob("*.png")}
        assert pictures == whole
