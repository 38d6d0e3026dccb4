"""The sweep over timm's networks: what a line says, what is kept on resuming, what the summary adds up."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import timm
import torch
from torch import Tensor, nn

from benchmarks.studies import coverage
from benchmarks.studies.coverage import (
    NetworkRow,
    _FlopCounter,
    examine,
    list_networks,
    perturb_constants,
    run,
    summarise,
    sweep,
)
from interp_core.deploy.zoo import FAMILIES

pytestmark = pytest.mark.slow

TINY = ["test_resnet", "test_mambaout"]


def networks(*names: str) -> list[tuple[str, str, str]]:
    return list(list_networks(names))


def test_a_line_says_what_came_of_a_network() -> None:
    line = examine("test_resnet", "resnet", "convolutional")
    assert (line.attached, line.why, line.restored) == (True, "", True)
    assert line.sites == "layer1@4 layer2@8 layer3@16 layer4@32"
    assert (line.layout, line.linear_head, line.image_size, line.compared_at) == ("NCHW", True, "160x160", 96)
    assert line.grid == "5x5"
    assert (line.change_eval, line.change_train) == (0, 0)
    assert line.conserved is not None
    assert line.conserved <= 1e-5
    model = timm.create_model("test_resnet")
    assert line.parameters == sum(p.numel() for p in model.parameters())
    assert line.parameters_added is not None
    assert 0 < line.parameters_added < line.parameters
    assert line.flops_added is not None
    assert 0 < line.flops_added < 0.5


def test_a_network_that_is_refused_has_the_reason_in_its_line() -> None:
    line = examine("test_vit", "vision_transformer", "hybrid")
    assert (line.attached, line.restored, line.change_eval) == (False, None, None)
    assert "is not convolutional" in line.why


def test_a_sweep_writes_a_sorted_table(tmp_path: Path) -> None:
    path = tmp_path / "deeper" / "timm.csv"
    table = sweep(networks(*TINY), path)
    assert sorted(table.name) == sorted(TINY)
    table = pd.read_csv(path)
    assert list(table.columns) == list(asdict(NetworkRow(name="", family="", kind="")))
    assert list(table.family) == ["mambaout", "resnet"]
    assert list(table.layout) == ["NHWC", "NCHW"]
    assert table.attached.all()


@pytest.mark.parametrize("commit", ["a51a4c4", "2325e82", "0012345", ""])  # some commits look like numbers
def test_resuming_keeps_what_is_done_and_does_the_rest(
    commit: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, examined = tmp_path / "timm.csv", []
    monkeypatch.setattr(coverage, "short_commit", lambda: commit)

    def note(name: str, family: str, kind: str) -> NetworkRow:
        examined.append(name)
        return NetworkRow(name=name, family=family, kind=kind, attached=True, change_eval=0.0, seconds=1.5)

    monkeypatch.setattr(coverage, "examine", note)
    sweep(networks(TINY[0]), path)
    rows = path.read_text().splitlines()
    sweep(networks(*TINY), path)
    assert examined == TINY
    assert set(rows) < set(path.read_text().splitlines())
    before = path.read_bytes()
    table = sweep(networks(*TINY), path)
    assert examined == TINY
    assert len(table) == 2
    assert path.read_bytes() == before


def test_an_interrupted_sweep_has_what_was_done(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "timm.csv"

    def stop(name: str, family: str, kind: str) -> NetworkRow:
        if name == TINY[1]:
            raise KeyboardInterrupt
        return NetworkRow(name=name, family=family, kind=kind)

    monkeypatch.setattr(coverage, "examine", stop)
    with pytest.raises(KeyboardInterrupt):
        sweep(networks(*TINY), path)
    assert list(pd.read_csv(path).name) == [TINY[0]]


def test_a_network_that_cannot_be_built_stands_in_the_table(tmp_path: Path) -> None:
    path = tmp_path / "timm.csv"
    sweep([("no_such_network", "resnet", "convolutional"), *networks("test_resnet")], path)
    table = pd.read_csv(path).set_index("name")
    assert list(table.attached) == [False, True]
    assert table.why["no_such_network"].startswith("RuntimeError: Unknown model (no_such_network)")
    assert "\n" not in table.why["no_such_network"]
    assert "1 of 2 attached" in summarise(table.reset_index())


def test_networks_are_those_of_the_families_and_none_of_ours() -> None:
    rows = list(list_networks())
    names = [name for name, _, _ in rows]
    assert len(names) == len(set(names)) > 800
    assert not any(name.startswith("lap_") for name in names)
    assert {(kind, family) for _, family, kind in rows} == {(k, family) for k in FAMILIES for family in FAMILIES[k]}
    assert networks("test_resnet", "vit_tiny_patch16_224") == [("test_resnet", "resnet", "convolutional")]


def row_of(**values: Any) -> dict[str, Any]:
    defaults: dict[str, Any] = {
        "family": "f",
        "attached": True,
        "change_eval": 0.0,
        "change_train": 0.0,
        "conserved": 1e-7,
    }
    return asdict(NetworkRow(**{**defaults, "parameters": 1000, "parameters_added": 10, "flops_added": 0.02} | values))


def test_the_summary_adds_up_what_was_attached() -> None:
    table = pd.DataFrame(
        [
            row_of(name="a", kind="convolutional"),
            row_of(name="b", kind="convolutional", change_train=2e-6, conserved=5e-7, parameters_added=30),
            row_of(name="c", kind="convolutional", parameters_added=50, flops_added=0.04),
            row_of(name="d", kind="convolutional", attached=False, why="no", change_eval=None, parameters_added=None),
            row_of(name="e", kind="hybrid", change_eval=1e-6),
        ]
    )
    first, second = summarise(table).splitlines()
    assert first == (
        "convolutional: 3 of 4 attached (asked 628 of 628), 2 bit-equal in both modes, largest change 2e-06, "
        "largest gap 5e-07, medians of parameters added 3.00% and of FLOPs 2.00%"
    )
    assert second.startswith("hybrid: 1 of 1 attached (asked 256 of 270), 0 bit-equal in both modes, largest change")


def test_what_is_not_known_is_not_bit_equal() -> None:
    table = pd.DataFrame([row_of(name="a", kind="hybrid", change_train=None), row_of(name="b", kind="hybrid")])
    assert "2 of 2 attached (asked 256 of 270), 1 bit-equal" in summarise(table)


def test_stir_moves_what_is_constant_and_nothing_else() -> None:
    torch.manual_seed(0)
    norm, last = nn.BatchNorm2d(4), nn.Linear(4, 1)
    model = nn.Sequential(nn.Conv2d(3, 4, 3), norm, last)
    nn.init.zeros_(last.weight)
    before = {name: value.clone() for name, value in model.state_dict().items()}
    perturb_constants(model)
    changed = {name for name, value in model.state_dict().items() if not torch.equal(value, before[name])}
    assert changed == {"1.weight", "1.bias", "2.weight"}
    assert (norm.weight - 1).abs().max() < 0.6
    assert norm.weight.unique().numel() == 4
    assert all(parameter.grad is None for parameter in model.parameters())


def test_stir_is_the_same_every_time() -> None:
    def stirred() -> Tensor:
        model = nn.BatchNorm2d(4)
        perturb_constants(model)
        return model.weight

    assert torch.equal(stirred(), stirred())


@pytest.mark.parametrize(
    ("module", "shape", "expected"),
    [
        (nn.Conv2d(3, 8, 3, padding=1), (2, 3, 10, 12), 2 * 2 * 8 * 3 * 9 * 10 * 12),
        (nn.Conv2d(4, 8, 3, stride=2, padding=1), (1, 4, 8, 8), 2 * 8 * 4 * 9 * 4 * 4),
        (nn.Conv2d(4, 4, 5, padding=2, groups=4), (1, 4, 6, 6), 2 * 4 * 25 * 6 * 6),
        (nn.Linear(16, 5), (3, 16), 2 * 3 * 16 * 5),
        (nn.Sequential(nn.Conv2d(3, 4, 1), nn.ReLU()), (1, 3, 5, 5), 2 * 4 * 3 * 25),
        (nn.ReLU(), (1, 3, 5, 5), 0),
    ],
    ids=str,
)
def test_flops_are_those_counted_by_hand(module: nn.Module, shape: tuple[int, ...], expected: int) -> None:
    with torch.no_grad(), _FlopCounter() as counter:
        module(torch.zeros(shape))
    assert counter.total == expected


def test_a_change_of_function_is_seen(monkeypatch: pytest.MonkeyPatch) -> None:
    """A table of zeros must come from networks, not from how they are compared."""
    attach: Callable[..., Any] = coverage.attach

    def spoil(model: nn.Module, **options: Any) -> Any:
        lap = attach(model, **options)
        nn.init.constant_(lap.head.a, 1.0)
        return lap

    monkeypatch.setattr(coverage, "attach", spoil)
    line = examine("test_resnet", "resnet", "convolutional")
    assert line.change_eval is not None
    assert line.change_eval > 1e-4
    assert line.change_train is not None
    assert line.change_train > 1e-4


def test_the_command_writes_table_and_facts(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "timm.csv"
    assert run(["test_resnet"], path) == [path, path.with_suffix(".json")]
    assert "convolutional: 1 of 1 attached" in capsys.readouterr().out
    facts = json.loads(path.with_suffix(".json").read_text())
    assert facts["seed"] == coverage.SEED
    assert {"git", "versions"} <= set(facts)
    assert {"torch", "timm"} <= set(facts["versions"])
