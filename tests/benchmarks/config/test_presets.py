"""The presets of real data sets, cut to seconds, on tiny copies of each layout."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import pytest
from helpers.layouts import celeba, class_folders, imagenet_folders, imagenet_kaggle, rsna, write

from baselines import explainers
from benchmarks.config.load import load_config, preset_path
from benchmarks.config.models import Stage
from benchmarks.metrics import metrics
from benchmarks.run.engine import Engine
from benchmarks.store.run_folder import read_run

pytestmark = pytest.mark.slow

SETS = [
    "explainers=[lap, random, mask]", "metrics=[pointing_game, auc, sparseness]", "images=4", "shard=4", "gallery=2",
    "models.plain.backbone=test_resnet", "models.lap.backbone=test_resnet", "models.plain.kwargs={}",
    "models.lap.kwargs={}", "dataset.image_size=32", "dataset.workers=0", "recipe.epochs=6", "recipe.batch_size=4",
    "recipe.learning_rate=0.003",
]  # fmt: skip


def folder_with_boxes(root: Path) -> Path:
    class_folders(root, count=20)
    rows = [f"{name}{i}.png,4,4,20,20" for name in ("cat", "dog") for i in range(20)]
    write(root / "boxes.csv", "\n".join(["file,x0,y0,x1,y1", *rows]))
    return root


def imagenette_with_boxes(root: Path) -> Path:
    rows = [f"n0144{end}_val_{i},n0144{end} 2 3 20 22" for end in ("0764", "3537") for i in range(10)]
    write(imagenet_folders(root, count=10) / "LOC_val_solution.csv", "\n".join(["ImageId,PredictionString", *rows]))
    return root


CASES: dict[str, tuple[str, Callable[[Path], Path], list[str]]] = {
    "kaggle": ("imagenet", lambda root: imagenet_kaggle(root, count=10), ["dataset.labels=own"]),
    "imagenette": ("imagenet", imagenette_with_boxes, ["dataset.labels=own"]),
    "celeba": ("celeba", lambda root: celeba(root, 60), ["dataset.attributes=[Eyeglasses, Smiling]"]),
    "rsna": ("rsna", lambda root: rsna(root, 45), []),
    "folder": ("folder", folder_with_boxes, []),
}


@pytest.mark.parametrize("case", CASES)
def test_a_preset_runs_on_its_layout(case: str, tmp_path: Path) -> None:
    preset, make, sets = CASES[case]
    root = make(tmp_path / "data")
    sets = [*SETS, f"dataset.root={root}", *sets]
    outcome = Engine(load_config(preset_path(preset), {"name": case, "output": str(tmp_path / "runs")}, sets)).run()
    assert outcome.failed == 0
    data = read_run(outcome.folder)
    scores = data.scores[data.scores["explainer"].isin(["random", "mask"])]
    assert set(scores["metric"]) >= {"pointing_game", "auc", "sparseness"}
    assert (scores[(scores["explainer"] == "mask") & (scores["metric"] == "pointing_game")]["value"] == 1).all()
    if preset == "rsna":
        assert "p0" not in json.dumps(data.record.dataset.to_dict()).replace(str(tmp_path), "")


def test_the_paper_preset_leaves_nothing_out_that_is_ours() -> None:
    config = load_config(preset_path("paper"))
    ours = {name for name, cls in explainers.items() if cls.__module__.startswith("baselines.")}
    ours -= {"intrinsic"}  # the own map of rivals, which are not in this run
    assert {choice.name for choice in config.explainers} == ours
    assert {choice.name for choice in config.metrics} == set(metrics)
    assert len(config.seeds) >= 3


def test_default_preset_trains_twins_that_differ_in_lap_alone() -> None:
    plain, lap = load_config(preset_path("digits")).models
    assert lap.stages is not None
    assert lap == plain.model_copy(update={"name": lap.name, "lap": True, "attach": lap.attach, "stages": lap.stages})
    # The first stage is the twin's training; what follows leaves the network as it is.
    first, *later = lap.stages
    assert first == Stage()
    assert all(stage.recipe is not None and stage.recipe.mode == "frozen" for stage in later)
