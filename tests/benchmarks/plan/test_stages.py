"""Networks trained in stages, rivals and ablations in a run: what is refused, what is trained, what goes on."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.config.errors import ConfigError
from benchmarks.config.run import RunConfig
from benchmarks.plan.cells import train_cells
from benchmarks.plan.components import RunComponents
from benchmarks.rivals import Rival, rivals
from benchmarks.run import engine
from benchmarks.run.engine import Engine
from benchmarks.run.images import RunImages
from benchmarks.run.training import TrainedNetwork, load_trained, train_or_load
from benchmarks.statistics import Resampling
from benchmarks.statistics.analysis import analyse, find_own_explainer
from benchmarks.store.run_data import RunData
from benchmarks.store.run_folder import Store, read_run
from interp_core.errors import ContractError, InterpError
from interp_core.training import Epoch, predict

pytestmark = pytest.mark.slow

NET = {"name": "net", "backbone": "test_resnet", "kwargs": {"output_stride": 8, "avg_down": False}}
TAG = {"tag": {"of": "tag", "share": 0.25}}
STAGES: list[dict[str, Any]] = [
    {},
    {
        "recipe": {"mode": "frozen", "epochs": 2, "batch_size": 16},
        "terms": [{"name": "forbid", "region": "tag"}],
        "regions": TAG,
    },
]


@pytest.fixture
def setting(tiny: Callable[..., RunConfig]) -> Callable[..., tuple[RunComponents, RunImages, Store]]:
    """A run with one network on confounded digits."""

    def make(**fields: Any) -> tuple[RunComponents, RunImages, Store]:
        config = make_config(tiny, **fields)
        parts = RunComponents(config)
        return parts, RunImages(parts.dataset), Store(config.folder)

    return make


def make_config(tiny: Callable[..., RunConfig], **fields: Any) -> RunConfig:
    dataset = {**tiny().dataset.model_dump(), "confounded": True}
    return tiny(dataset=dataset, models=[{**NET, **fields}], recipe={"epochs": 1, "batch_size": 16})


def train(
    tiny: Callable[..., RunConfig],
    setting: tuple[RunComponents, RunImages, Store],
    show: Callable[[Epoch], None] = lambda _: None,
    **fields: Any,
) -> TrainedNetwork:
    parts, data, store = setting
    (cell,) = train_cells(make_config(tiny, **fields), parts)
    return train_or_load(cell, parts, data, store, "cpu", show)


def weights(network: nn.Module) -> dict[str, torch.Tensor]:
    return {name: value.clone() for name, value in network.state_dict().items()}


REFUSED: list[tuple[dict[str, Any], str]] = [
    ({"stages": STAGES[1:]}, "model net, stage 1: regions are for LAP networks"),
    ({"stages": [{}, {"recipe": {"mode": "frozen"}}]}, "stage 2: in mode frozen a plain network"),
    ({"stages": [{"terms": ["area"]}]}, "stage 1: terms are for LAP"),
    ({"rival": "cam", "stages": [{"terms": ["area"]}]}, "stage 1: terms are for LAP"),
    ({"rival": "rrr", "stages": [{"regions": TAG}]}, "rivals know the regions object and irrelevant, not tag"),
    ({"lap": True, "stages": [{"terms": STAGES[1]["terms"]}]}, "regions that the stage does not have: tag"),
    ({"lap": True, "stages": [{"terms": ["presense"]}]}, "presence"),
    ({"rival": "camm"}, "did you mean cam"),
    ({"rival": {"name": "gain", "erase_weight": -1}}, r"models\.0\.rival \(gain\)\.erase_weight: .*got -1"),
    ({"rival": {"name": "cam", "knob": 1}}, r"models\.0\.rival \(cam\)\.knob"),
]


@pytest.mark.parametrize(("fields", "message"), REFUSED)
def test_what_does_not_fit_is_refused_before_anything_is_trained(
    tiny: Callable[..., RunConfig], fields: dict[str, Any], message: str
) -> None:
    with pytest.raises(InterpError, match=message):
        RunComponents(make_config(tiny, **fields))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"lap": True, "rival": "cam"}, "exclude each other"),
        ({"fixed": ["a"]}, "fixed is for LAP networks"),
        ({"lap": True, "fixed": ["b"]}, "fixed.0"),
        ({"stages": []}, "stages"),
        ({"stages": [{"recipee": {}}]}, "stages.0.recipee"),
        ({"lap": True, "stages": [{"regions": {"tag": {"share": 0}}}]}, "regions.tag.share"),
        ({"lap": True, "stages": [{"regions": {"tag": {"share": 1.5}}}]}, "regions.tag.share"),
    ],
)
def test_wrong_fields_are_named(tiny: Callable[..., RunConfig], fields: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_config(tiny, **fields)


def test_a_frozen_rival_that_owns_nothing_is_refused_before_its_first_stage(
    tiny: Callable[..., RunConfig], setting: Callable[..., Any]
) -> None:
    fields = {"rival": "cam", "stages": [{}, {"recipe": {"mode": "frozen", "batch_size": 16}}]}
    epochs: list[Epoch] = []
    with pytest.raises(ContractError, match="nothing of Cam learns in mode 'frozen'"):
        train(tiny, setting(**fields), epochs.append, **fields)
    assert epochs == []


def test_a_mask_the_images_do_not_have_is_told_before_the_first_stage(
    tiny: Callable[..., RunConfig], setting: Callable[..., Any]
) -> None:
    stage = {**STAGES[1], "regions": {"tag": {"of": "tags"}}}
    epochs: list[Epoch] = []
    with pytest.raises(InterpError, match=r"mask of the training images 'tags'.*tag"):
        train(tiny, setting(lap=True, stages=[{}, stage]), epochs.append, lap=True, stages=[{}, stage])
    assert epochs == []


def test_a_frozen_second_stage_goes_on_from_the_first_and_leaves_its_backbone(
    tiny: Callable[..., RunConfig], setting: Callable[..., Any]
) -> None:
    one = train(tiny, setting(lap=True), lap=True)
    two = train(tiny, setting(lap=True, stages=STAGES), lap=True, stages=STAGES)
    before, after = weights(one.network), weights(two.network)
    changed = {name for name, value in after.items() if not torch.equal(value, before[name])}
    assert changed
    assert not any(name.startswith("backbone.") for name in changed)


def test_facts_tell_of_every_stage(tiny: Callable[..., RunConfig], setting: Callable[..., Any]) -> None:
    facts = train(tiny, setting(lap=True, stages=STAGES), lap=True, stages=STAGES).facts
    first, second = facts["stages"]
    assert [(stage["mode"], stage["epochs"], stage["steps"]) for stage in (first, second)] == [
        ("scratch", 1, 4),
        ("frozen", 2, 8),
    ]
    assert [stage["terms"] for stage in (first, second)] == [["presence", "absence", "area"], ["forbid"]]
    assert (first["regions"], second["regions"]) == ({}, {"tag": 16})
    assert set(second["history"][0]["terms"]) == {"cross_entropy", "forbid"}
    assert facts["history"] == first["history"] + second["history"]
    assert facts["val_accuracy"] == second["val_accuracy"] == second["history"][-1]["val_accuracy"]
    assert facts["train_seconds"] == pytest.approx(first["seconds"] + second["seconds"], abs=0.02)
    assert all(0 < 4 * stage["step_seconds"] <= stage["seconds"] + 0.01 for stage in (first, second))


class Killed(BaseException):
    """Nothing may catch it."""


@pytest.mark.parametrize("after", [1, 2], ids=["between the stages", "within the second"])
def test_a_killed_training_goes_on_and_ends_with_the_same_weights(
    tiny: Callable[..., RunConfig], setting: Callable[..., Any], tmp_path: Path, after: int
) -> None:
    fields = {"lap": True, "stages": STAGES}
    parts, data, store = setting(**fields)
    whole = train(tiny, (parts, data, Store(tmp_path / "whole")), **fields)
    seen: list[Epoch] = []

    def kill(epoch: Epoch) -> None:
        if len(seen) == after:
            raise Killed
        seen.append(epoch)

    with pytest.raises(Killed):
        train(tiny, (parts, data, store), kill, **fields)
    folder = Path(str(store.folder / "models"))
    assert [path.name.rpartition(".stage")[2] for path in sorted(folder.glob("*.pt"))] == ["1.pt", "2.pt"][:after]
    left: list[Epoch] = []
    again = train(tiny, (parts, data, store), left.append, **fields)
    assert len(left) == 3 - after
    state = weights(again.network)
    assert all(torch.equal(value, state[name]) for name, value in weights(whole.network).items())
    assert [len(stage["history"]) for stage in again.facts["stages"]] == [1, 2]
    assert {path.suffix for path in folder.iterdir()} == {".json", ".safetensors"}


def test_a_checkpoint_that_cannot_be_read_is_set_aside_and_its_stage_trained_anew(
    tiny: Callable[..., RunConfig], setting: Callable[..., Any]
) -> None:
    parts, data, store = setting(lap=True)
    (cell,) = train_cells(make_config(tiny, lap=True), parts)
    path = Path(str(store.folder), "models", f"{cell.key}.stage1.pt")
    path.write_bytes(b"half a file")
    epochs: list[Epoch] = []
    train(tiny, (parts, data, store), epochs.append, lap=True)
    assert len(epochs) == 1
    assert "stage1.pt could not be read" in store.set_aside[0]
    assert path.with_name(f"{path.name}.corrupt").read_bytes() == b"half a file"
    store.clear()
    assert list(path.parent.iterdir()) == []


def test_a_store_elsewhere_does_without_checkpoints(
    tiny: Callable[..., RunConfig], setting: Callable[..., Any]
) -> None:
    parts, data, _ = setting()
    store = Store("memory://stages/run")
    assert train(tiny, (parts, data, store)).facts["stages"][0]["epochs"] == 1
    assert [str(path).rpartition(".")[2] for path in sorted((store.folder / "models").iterdir(), key=str)] == [
        "json",
        "safetensors",
    ]


@pytest.mark.parametrize(("fixed", "off"), [(["a"], {"gates", "head"}), (["gates"], {"gates"}), ([], set())])
def test_what_is_fixed_stays_as_it_is(
    tiny: Callable[..., RunConfig], setting: Callable[..., Any], fixed: list[str], off: set[str]
) -> None:
    lap: Any = train(tiny, setting(lap=True, fixed=fixed), lap=True, fixed=fixed).network
    found = {"gates": [gate.a.item() for gate in lap.gates], "head": [lap.head.a.item()]}
    assert len(found["gates"]) > 0
    assert {name for name, values in found.items() if not any(values)} == off
    learned = not torch.equal(lap.head.scorer.expand.weight, torch.zeros_like(lap.head.scorer.expand.weight))
    assert learned


@pytest.mark.parametrize("name", list(rivals))
def test_rivals_are_trained_with_their_regions_and_found_again(
    tiny: Callable[..., RunConfig], setting: Callable[..., Any], name: str
) -> None:
    stages = [{"regions": {"object": {"share": 0.5}, "irrelevant": {"of": "tag", "share": 0.1}}}]
    fields = {"rival": name, "stages": stages}
    parts, data, store = setting(**fields)
    item = train(tiny, (parts, data, store), **fields)
    assert isinstance(item.network, Rival)
    assert item.facts["stages"][0]["regions"] == {"object": 32, "irrelevant": 6}
    images, targets = data.tensors(data.split("test").take(np.arange(4)))
    found = load_trained(item.cell, parts, store, "cpu")
    assert found is not None
    assert torch.equal(predict(found.network, images), predict(item.network, images))
    if item.network.explains_itself:
        assert torch.equal(found.network.explain(images, targets), item.network.explain(images, targets))  # type: ignore[operator]


def test_a_run_compares_plain_lap_and_rivals(tiny: Callable[..., RunConfig], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine, "correct_everywhere", lambda *_, **__: np.arange(3))  # so short trainings share none
    models = [
        {**NET, "name": "plain"},
        {**NET, "name": "lap", "lap": True},
        {**NET, "name": "off", "lap": True, "fixed": ["a"]},
        {**NET, "name": "cam", "rival": "cam"},
        {**NET, "name": "gain", "rival": "gain"},
        {**NET, "name": "twin", "explained": False},
    ]
    outcome = Engine(tiny(models=models, explainers=["intrinsic", "lap", "grad_cam", "random"], metrics=["auc"])).run()
    data = read_run(outcome.folder)
    assert outcome.failed == 0
    asked = {name: set(rows["explainer"]) for name, rows in data.plain_scores.groupby("model", observed=True)}
    both = {"grad_cam", "random"}
    assert asked == {
        "plain": both, "lap": both | {"lap"}, "off": both | {"lap"}, "cam": both | {"intrinsic"}, "gain": both,
    }  # fmt: skip
    told = {model.name: (model.title, model.lap, model.rival) for model in data.record.models}
    assert told == {
        "plain": ("test_resnet, plain (plain)", False, None),
        "twin": ("test_resnet, plain (twin)", False, None),
        "lap": ("test_resnet, with LAP (lap)", True, None),
        "off": ("test_resnet, with LAP (off)", True, None),
        "cam": ("test_resnet, CAM", False, "cam"),
        "gain": ("test_resnet, GAIN-like", False, "gain"),
    }
    assert all("history" not in stage.to_dict() for model in data.record.models for stage in model.stages)
    assert analyse(data, Resampling(resamples=10)).own_explainer == "lap"
    rest = RunData(data.record, data.scores[data.scores["explainer"] != "lap"])
    assert find_own_explainer(rest) == "intrinsic"
