"""Runs on data sets of files, from folders made here to the page: unreadable files, several labels, own weights."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.config.run import RunConfig
from benchmarks.report import analyse
from benchmarks.report.page import render_page
from benchmarks.run.engine import Engine, Outcome
from benchmarks.run.failures import unreadable_problem
from benchmarks.run.images import FileImageSource, RunImages
from benchmarks.statistics import Resampling
from benchmarks.store.run_folder import read_run
from interp_core.datasets import FileDataset, SplitName, datasets
from interp_core.datasets.records import Box, Finding, Index, Record

pytestmark = pytest.mark.slow

SPLITS: dict[SplitName, int] = {"train": 32, "val": 8, "test": 24}
SIDE = 40


class Squares(FileDataset):
    """Write grey pictures with a bright square: left is class 0, right is class 1, or both where allowed."""

    name: ClassVar[str] = "squares"
    title: ClassVar[str] = "Squares"
    image_size: int = 32
    several: bool = False
    workers: int | None = 0

    def index(self) -> Index:
        def record(split: str, i: int) -> Record:
            shown = shows(i, self.several)
            return Record(f"{split}-{i}", self.root / split / f"{i}.png", shown, tuple(box(t) for t in shown))

        found: dict[SplitName, tuple[Record, ...]] = {
            split: tuple(record(split, i) for i in range(count)) for split, count in SPLITS.items()
        }
        return Index(("left", "right"), found, self.several, (Finding("box outside", "a", "cut"),))


def shows(i: int, several: bool) -> tuple[int, ...]:
    return ((0,), (1,), (0, 1), ())[i % 4] if several else (i % 2,)


def box(target: int) -> Box:
    return Box(4 + 18 * target, 12, 18 + 18 * target, 28, target)


@pytest.fixture
def squares(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Make the folder, and return the configuration of its data set."""
    assert "squares" not in datasets
    monkeypatch.setitem(datasets._entries, "squares", Squares)

    def make(*, several: bool = False, **fields: Any) -> dict[str, Any]:
        draw = np.random.default_rng(0)
        for split, count in SPLITS.items():
            (tmp_path / "data" / split).mkdir(parents=True)
            for i in range(count):
                pixels = draw.integers(60, 100, (SIDE, SIDE)).astype(np.uint8)
                for target in shows(i, several):
                    place = box(target)
                    pixels[int(place.y0) : int(place.y1), int(place.x0) : int(place.x1)] = 230
                Image.fromarray(pixels).save(tmp_path / "data" / split / f"{i}.png")
        return {"name": "squares", "root": str(tmp_path / "data"), "several": several, **fields}

    return make


LEARNS = {"epochs": 6, "batch_size": 8, "shift": 0, "learning_rate": 0.01}
PLAIN = {"name": "plain", "backbone": "test_resnet", "kwargs": {"output_stride": 8}}


def run(config: RunConfig) -> tuple[Outcome, dict[str, Any]]:
    outcome = Engine(config).run()
    return outcome, json.loads((Path(str(outcome.folder)) / "run.json").read_text())


def test_a_run_on_files_skips_what_cannot_be_read_and_says_so(
    squares: Callable[..., dict[str, Any]], tiny: Callable[..., RunConfig], tmp_path: Path
) -> None:
    dataset = squares(workers=2)
    for split, i in (("test", 2), ("test", 5), ("train", 7)):
        (tmp_path / "data" / split / f"{i}.png").write_bytes(b"nothing")
    config = tiny(
        dataset=dataset, recipe=LEARNS, models=[PLAIN, {**PLAIN, "name": "lap", "lap": True}], images=8, shard=3
    )
    outcome, meta = run(config)
    assert outcome.failed == 0
    assert meta["dataset"]["considered"] == 24
    assert meta["dataset"]["evaluated"] == 8
    reason = "it is not an image of a known format"
    assert meta["dataset"]["unreadable"]["test"] == {"test-2": reason, "test-5": reason}
    assert meta["dataset"]["unreadable"]["train"] == {"train-7": reason}
    assert len(meta["dataset"]["areas"]) == 8
    assert not {"test-2", "test-5"} & set(meta["dataset"]["areas"])
    told = {entry["where"]: entry["what"] for entry in meta["problems"]}
    assert told["data set, test images"].startswith("2 images could not be read")
    assert "box outside: 1" in told["data set, annotations"]
    text = render_page(analyse(read_run(outcome.folder), Resampling(resamples=10)), [])
    assert "8 of 24 images (2 unreadable)" in text
    assert "test-2 (it is not an image of a known format)" in text
    again, _ = run(config)
    assert again.computed == 0
    assert json.loads((Path(str(again.folder)) / "run.json").read_text())["dataset"] == meta["dataset"]


def test_a_run_with_several_labels_asks_about_pairs(
    squares: Callable[..., dict[str, Any]], tiny: Callable[..., RunConfig]
) -> None:
    config = tiny(
        dataset=squares(several=True),
        recipe={**LEARNS, "epochs": 12},
        models=[{**PLAIN, "name": "lap", "lap": True}],
        images=6,
    )
    outcome, meta = run(config)
    assert outcome.failed == 0
    assert meta["dataset"]["considered"] == 24
    assert all(name.split("/")[1] in ("left", "right") for name in meta["dataset"]["areas"])
    (model,) = meta["models"]
    assert model["test_accuracy"] > 0.8
    scores = read_run(outcome.folder).scores
    assert np.isfinite(scores[scores["metric"] == "auc"]["value"]).all()


def test_a_checkpoint_without_epochs_is_judged_as_it_is(
    squares: Callable[..., dict[str, Any]], tiny: Callable[..., RunConfig], tmp_path: Path
) -> None:
    data = squares()
    first, _ = run(tiny(dataset=data, recipe=LEARNS, models=[PLAIN], explainers=["grad_cam"], images=2))
    (weights,) = (Path(str(first.folder)) / "models").glob("*.safetensors")
    facts = json.loads(weights.with_suffix(".json").read_text())["facts"]
    mean, std = facts["normalised_by"]
    model = {**PLAIN, "checkpoint": str(weights), "normalise": {"mean": mean, "std": std}}
    config = tiny(name="judged", dataset=data, recipe={"epochs": 0}, models=[model], explainers=["grad_cam"], images=2)
    second, meta = run(config)
    (judged,) = (Path(str(second.folder)) / "models").glob("*.json")
    again = json.loads(judged.read_text())["facts"]
    assert again["test_accuracy"] == facts["test_accuracy"]
    assert again["val_accuracy"] == facts["val_accuracy"]
    assert again["history"] == []
    assert meta["models"][0]["test_accuracy"] == facts["test_accuracy"]


@pytest.mark.parametrize(
    ("normalise", "wanted"),
    [("backbone", ((0.5,) * 3, (0.5,) * 3)), ({"mean": [0.1] * 3, "std": [0.2] * 3}, ((0.1,) * 3, (0.2,) * 3))],
)
def test_each_network_has_its_own_normalisation(
    squares: Callable[..., dict[str, Any]], tiny: Callable[..., RunConfig], normalise: object, wanted: object
) -> None:
    from benchmarks.config.models import ModelConfig
    from benchmarks.plan.components import RunComponents
    from benchmarks.run.networks import build_network, statistics_for

    config = tiny(dataset=squares(), models=[PLAIN, {**PLAIN, "name": "own", "normalise": normalise}])
    data = RunImages(RunComponents(config).dataset)
    network = build_network(config.models[0], 2, 0)
    network.pretrained_cfg = {**network.pretrained_cfg, "mean": (0.5,) * 3, "std": (0.5,) * 3}  # type: ignore[dict-item]
    found = [statistics_for(model, network, data) for model in config.models]
    assert found[0] == data.statistics
    assert found[1] == wanted
    assert isinstance(config.models[1], ModelConfig)


def test_batches_of_files_hold_what_tensors_hold(
    squares: Callable[..., dict[str, Any]], tiny: Callable[..., RunConfig], tmp_path: Path
) -> None:
    from benchmarks.plan.components import RunComponents

    config = tiny(dataset=squares())
    (tmp_path / "data" / "val" / "3.png").unlink()
    data = RunImages(RunComponents(config).dataset)
    split = data.split("val")
    images, targets, numbers = (list(part) for part in zip(*data.batches(split, size=3), strict=True))
    assert len(np.concatenate(numbers)) == 7
    whole = split.take(np.arange(8))
    assert torch.equal(torch.cat(images), data.tensors(whole)[0])
    assert torch.equal(torch.cat(targets), torch.from_numpy(whole.targets))
    feed = FileImageSource(data, split, data.statistics)
    assert feed.shape == (8, 3, 32, 32)
    fed = list(feed.batches(torch.arange(8).split(4)))
    assert torch.equal(torch.cat([some for _, some in fed]), torch.cat(images))
    assert list(data.unreadable["val"].values()) == ["there is no such file"]
    data.forget("val")
    assert len(data.unreadable["val"]) == 1


def test_salt_and_only_salt_is_hidden(squares: Callable[..., dict[str, Any]], tiny: Callable[..., RunConfig]) -> None:
    config = tiny(dataset=squares(hash_ids=True, salt="pepper"))
    assert "pepper" not in json.dumps(config.to_record())
    assert config.to_record()["dataset"]["hash_ids"] is True
    assert config.hash() != tiny(dataset={**config.dataset.model_dump(), "salt": "sugar"}).hash()
    engine = Engine(config, overrides={"dataset.salt": "pepper"})
    assert "pepper" not in json.dumps(engine.record.to_dict(), default=str)


def test_many_unreadable_images_are_told_in_a_line() -> None:
    entry = unreadable_problem("test", {f"image-{i}": "broken\nin two lines" for i in range(30)})
    assert "30 images" in entry.what
    assert "image-9 (broken in two lines); and 20 more" in entry.what
