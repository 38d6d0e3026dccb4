from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import timm
import torch
from timm.models import get_pretrained_cfg
from torch import nn

from benchmarks.speed import __main__ as command
from benchmarks.speed.memory import highest_sum, peak_bytes, state_tensors, storage_bytes
from benchmarks.speed.pairs import PairTimer, pairs_within
from benchmarks.speed.table import SpeedError, to_csv
from benchmarks.speed.zoo import (
    KINDS,
    LARGEST,
    MEMORY,
    QUICK_ZOO,
    TIMED,
    VARIANTS,
    ZOO,
    Variant,
    batch_size,
    image_side,
    select_nets,
    select_variants,
    settle_batch_norms,
    workloads,
    zoo_twins,
)
from benchmarks.speed.zoo_figure import STYLES, zoo_figure, zoo_png
from benchmarks.speed.zoo_rows import FIELDS, LIMITS, ZooResults, ZooRow, read_zoo, summarise_zoo
from benchmarks.speed.zoo_table import KIND_TITLES, to_markdown
from interp_core.errors import UnknownNameError
from interp_core.lap.blocks import GateBlock, HeadBlock

pytestmark = pytest.mark.slow

ZOO_FACTS = {
    "images": 8,
    "largest": 224,
    "classes": 1000,
    "sharpness": 2.0,
    "budget": 8.0,
    "fewest": 7,
    "part": False,
    "flags": ["--zoo"],
}
FACTS: dict[str, Any] = {
    "device": "cpu",
    "threads": 2,
    "platform": "Linux x86_64",
    "python": "3.12.0",
    "git": {"commit": "abc123", "dirty": False},
    "seed": 0,
    "versions": {"torch": "2.9.0"},
    "nets": {},
    "quick": False,
    "zoo": ZOO_FACTS,
    "date": "2026-01-02",
}


def row(net: str, kind: str, ratio: float, variant: str = "float32") -> ZooRow:
    unit = "MiB" if kind in MEMORY else "ms"
    return ZooRow(
        net=net,
        image_size=224,
        images=8,
        variant=variant,
        kind=kind,
        ratio=ratio,
        q1=ratio,
        q3=ratio,
        plain=50.0,
        unit=unit,
        pairs=9,
    )


def results(*rows: ZooRow, **facts: Any) -> ZooResults:
    return ZooResults(rows, FACTS | facts)


def timed_info(net: str, kind: str, ratio: float) -> dict[str, Any]:
    """What `PairTimer` and the suite leave of a timed kind."""
    common = {"net": net, "image_size": 224, "images": 8, "variant": "float32", "kind": kind}
    return {**common, "ratio": ratio, "q1": ratio, "q3": ratio, "pairs": 9, "reference_seconds": 0.05, "asked": None}


def memory_info(net: str, kind: str, plain: int, lap: int) -> dict[str, Any]:
    common = {"net": net, "image_size": 224, "images": 8, "variant": "float32", "kind": kind}
    return {**common, "reference_bytes": plain, "bytes": lap}


def stored(path: Path, *infos: dict[str, Any]) -> Path:
    machine = {name: FACTS[name] for name in ("device", "threads", "platform", "python")}
    own = {name: FACTS[name] for name in ("git", "seed", "versions", "nets", "quick", "zoo")}
    entries = [{"name": "x", "extra_info": info} for info in infos]
    content = {"machine_info": machine, "interp_bench": own, "datetime": "2026-01-02T03:04:05", "benchmarks": entries}
    path.write_text(json.dumps(content))
    return path


class TestList:
    def test_thirty_different_networks_with_weights_on_the_hub(self) -> None:
        assert len(ZOO) == len(set(ZOO)) == 30
        for name in ZOO:
            config = get_pretrained_cfg(name)
            assert config is not None, name
            assert config.hf_hub_id
            assert config.num_classes == 1000

    def test_quick_ones_are_other_networks(self) -> None:
        assert all(timm.is_model(name) for name in QUICK_ZOO)
        assert not set(QUICK_ZOO) & set(ZOO)

    def test_choice_of_networks(self) -> None:
        assert select_nets([], quick=False) == ZOO
        assert select_nets(None, quick=True) == QUICK_ZOO
        assert select_nets(["resnet18"], quick=True) == ("resnet18",)
        with pytest.raises(UnknownNameError, match="did you mean"):
            select_nets(["resnet1"], quick=False)

    def test_choice_of_variants(self) -> None:
        assert select_variants([], "cpu") == (VARIANTS["float32"],)
        assert [(v.half, v.backend) for v in select_variants(None, "cuda:1")] == [(True, None), (True, "inductor")]
        assert select_variants(["bfloat16"], "cpu") == (VARIANTS["bfloat16"],)
        with pytest.raises(UnknownNameError, match="float32"):
            select_variants(["float23"], "cpu")

    def test_images_are_the_networks_own_but_not_too_large(self) -> None:
        assert image_side({"input_size": (3, 192, 192)}, quick=False) == 192
        assert image_side({"input_size": (3, 299, 299)}, quick=False) == LARGEST
        assert image_side({"input_size": (3, 192, 192)}, quick=True) == 64
        assert (batch_size("cpu", quick=False), batch_size("cuda", quick=False)) == (8, 64)

    def test_every_kind_is_asked_something_and_drawn(self) -> None:
        assert tuple(LIMITS) == tuple(KIND_TITLES) == tuple(STYLES)
        assert set(KINDS) == set(LIMITS) == {*TIMED, *MEMORY}
        assert [LIMITS[kind].median for kind in TIMED] == [1.03, 1.05, 1.08]
        assert LIMITS["forward"].worst == 1.08


class TestTwins:
    def test_lap_is_at_work_and_all_else_equal(self) -> None:
        pair = zoo_twins(QUICK_ZOO[0], "cpu", quick=True)
        plain = pair.plain.state_dict()
        assert all(torch.equal(value, plain[name]) for name, value in pair.lap.backbone.state_dict().items())
        blocks = [module for module in pair.lap.modules() if isinstance(module, GateBlock | HeadBlock)]
        assert blocks
        assert all(block.a.item() == 2.0 for block in blocks)
        assert pair.images.is_contiguous(memory_format=torch.channels_last)
        assert zoo_twins(QUICK_ZOO[0], "cpu", quick=True) is pair

    def test_settled_statistics_are_the_batchs_own(self) -> None:
        generator = torch.Generator().manual_seed(0)
        images = 5 + 3 * torch.randn(4, 2, 8, 8, generator=generator)
        norm = nn.BatchNorm2d(2, momentum=0.25)
        net = nn.Sequential(norm, nn.Dropout()).eval()
        settle_batch_norms(net, images)
        torch.testing.assert_close(norm.running_mean, images.mean((0, 2, 3)))
        torch.testing.assert_close(norm.running_var, images.var((0, 2, 3)))
        assert norm.momentum == 0.25
        assert not any(module.training for module in net.modules())

    @pytest.mark.parametrize("variant", [VARIANTS["float32"], VARIANTS["bfloat16"], Variant("traced", backend="eager")])
    @pytest.mark.parametrize("kind", TIMED)
    def test_work_is_that_of_the_networks(self, kind: str, variant: Variant) -> None:
        pair = zoo_twins(QUICK_ZOO[0], "cpu", quick=True)
        plain, lap = workloads(pair, kind, variant)
        before = [parameter.detach().clone() for parameter in pair.plain.parameters()]
        left: Any = plain()
        right: Any = lap()
        moved = any(not torch.equal(a, b) for a, b in zip(before, pair.plain.parameters(), strict=True))
        assert moved == pair.plain.training == pair.lap.training == (kind == "training step")
        if kind == "training step":
            zoo_twins.cache_clear()
            return
        with torch.no_grad(), variant.autocast("cpu"):
            expected = pair.lap(pair.images)
        logits = right[0] if kind == "explain" else right
        assert isinstance(left, torch.Tensor)
        assert left.dtype == (torch.bfloat16 if variant.half else torch.float32)
        torch.testing.assert_close(logits, expected, rtol=0.05, atol=0.05)
        if kind == "explain":
            assert right[1].shape == (len(pair.images), 1, *pair.images.shape[-2:])

    def test_unknown_kind(self) -> None:
        with pytest.raises(SpeedError, match="unknown kind of cost 'sleep'"):
            workloads(zoo_twins(QUICK_ZOO[0], "cpu", quick=True), "sleep", VARIANTS["float32"])


N = 64 * 1024  # elements; so many that small change does not matter


class TestMemory:
    def test_shared_storage_counts_once(self) -> None:
        x = torch.zeros(10)
        assert storage_bytes([x, x[2:], x.view(2, 5), torch.zeros(3)]) == 52
        net = nn.BatchNorm1d(4)
        assert storage_bytes(state_tensors(net)) == 4 * 4 * 4 + 8  # weight, bias, mean, variance, number of batches

    @pytest.mark.parametrize(
        ("changes", "most"), [([], 0), ([(0, -5)], 0), ([(2, -3), (1, 3), (3, 2)], 3), ([(0, 2), (1, 2), (2, -4)], 4)]
    )
    def test_highest_sum(self, changes: list[tuple[int, int]], most: int) -> None:
        assert highest_sum(changes) == most

    def test_two_maps_at_once_in_a_forward_pass(self) -> None:
        # Each layer holds its input and its output; the first input was there before.
        net = nn.Sequential(nn.Linear(256, 512, bias=False), nn.ReLU(), nn.Linear(512, 64, bias=False))
        images = torch.zeros(128, 256)
        weights = 4 * (256 * 512 + 512 * 64)
        with torch.no_grad():
            peak = peak_bytes(lambda: net(images), [*state_tensors(net), images], "cpu")
        assert peak == weights + 4 * 128 * 256 + 2 * 4 * 128 * 512

    def test_what_is_changed_in_place_takes_nothing(self) -> None:
        x = torch.zeros(N)
        assert peak_bytes(lambda: x.add_(1), [x], "cpu") == pytest.approx(4 * N, abs=64)

    def test_what_backward_needs_is_held(self) -> None:
        # exp keeps its result: three of them, and behind the last the gradient that flows back.
        x = torch.zeros(N, requires_grad=True)

        def work() -> None:
            x.exp().exp().exp().sum().backward()

        peak = peak_bytes(work, [x], "cpu")
        assert peak == pytest.approx(4 * N * 5, rel=1e-3)

    def test_a_training_step_holds_gradients_and_the_optimizers_state(self) -> None:
        net = nn.Linear(256, 256, bias=False)
        optimizer = torch.optim.AdamW(net.parameters(), foreach=False)
        x = torch.zeros(1, 256)

        def step() -> None:
            loss = net(x).sum()
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()

        def steps() -> None:
            step()
            step()

        peak = peak_bytes(steps, [*state_tensors(net), x], "cpu")
        one = 4 * 256 * 256
        assert peak >= 4 * one  # weights, gradient, two moments
        assert peak <= 7 * one  # and what the update itself needs

    def test_a_gpu_is_asked_itself(self, monkeypatch: pytest.MonkeyPatch) -> None:
        order: list[str] = []
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device: order.append("wait"))
        monkeypatch.setattr(torch.cuda, "memory_allocated", lambda device: 100)
        monkeypatch.setattr(torch.cuda, "reset_peak_memory_stats", lambda device: order.append("reset"))
        monkeypatch.setattr(torch.cuda, "max_memory_allocated", lambda device: 130)
        assert peak_bytes(lambda: order.append("work"), [torch.zeros(5)], "cuda:0") == 20 + 30
        assert order == ["wait", "reset", "work", "wait"]


class TestPairs:
    @pytest.mark.parametrize(("pair", "pairs"), [(1.0, 8), (0.001, 60), (100.0, 7), (0.5, 16)])
    def test_as_many_as_the_budget_allows(self, pair: float, pairs: int) -> None:
        assert pairs_within(8.0, pair, 7, 60) == pairs

    def test_a_pair_is_timed_after_one_that_does_not_count(self) -> None:
        order: list[str] = []
        seconds = PairTimer(None, "cpu", quick=False).pair_seconds(lambda: order.append("A"), lambda: order.append("B"))
        assert order == ["A", "B"] * 2
        assert seconds > 0


class TestTable:
    def test_head_has_median_and_worst(self) -> None:
        summary = summarise_zoo(
            results(
                row("a", "forward", 1.01),
                row("b", "forward", 1.09),
                row("c", "forward", 1.02),
                row("a", "explain", 1.02),
                row("b", "explain", 1.06),
                row("a", "forward", 1.5, "bfloat16"),
            )
        )
        assert [(line.variant, line.kind, line.nets) for line in summary] == [
            ("float32", "forward", 3),
            ("float32", "explain", 2),
            ("bfloat16", "forward", 1),
        ]
        assert [line.median for line in summary] == pytest.approx([1.02, 1.04, 1.5])
        assert [(line.worst, line.net) for line in summary[:2]] == [(1.09, "b"), (1.06, "b")]
        assert [line.is_within_limits for line in summary] == [
            False,
            True,
            False,
        ]  # a limit on the worst counts

    def test_limits_themselves_are_kept(self) -> None:
        rows = [row(net, "forward", ratio) for net, ratio in (("a", 1.03), ("b", 1.03), ("c", 1.08))]
        assert summarise_zoo(results(*rows))[0].is_within_limits

    def test_csv_reads_back(self) -> None:
        first, second = csv.DictReader(
            io.StringIO(to_csv([row("a", "forward", 1.23456), row("a", "forward memory", 1)]))
        )
        assert tuple(first) == FIELDS
        assert (first["net"], float(first["ratio"]), first["unit"]) == ("a", 1.235, "ms")
        assert (second["kind"], second["unit"]) == ("forward memory", "MiB")

    def test_markdown_has_worst_first_and_says_what_it_rests_on(self) -> None:
        text = to_markdown(
            results(row("a", "forward", 1.01), row("b", "forward", 1.2), row("a", "forward memory", 1.0))
        )
        lines = text.splitlines()
        assert "| float32 | forward | 2 | 1.105 | <= 1.03 | 1.200 | <= 1.08 | b | missed |" in lines
        assert "| float32 | forward memory | 1 | 1.000 | <= 1.05 | 1.000 |  | a | kept |" in lines
        assert lines.index("| b | 224 | 1.200 | 1.200 to 1.200 | 50.0 | 9 |") + 1 == lines.index(
            "| a | 224 | 1.010 | 1.010 to 1.010 | 50.0 | 9 |"
        )
        assert "| a | 224 | 1.000 | 50.0 |" in lines
        assert "- command: `python -m benchmarks.speed --zoo`" in lines
        assert "as many pairs as 8 seconds allow, 7 at least" in text
        assert "## Explain" not in text

    @pytest.mark.parametrize("facts", [{"quick": True}, {"zoo": ZOO_FACTS | {"part": True}}])
    def test_no_verdict_from_a_part_or_a_quick_check(self, facts: dict[str, Any]) -> None:
        text = to_markdown(results(row("a", "forward", 1.01), **facts))
        assert "kept" not in text
        assert "quick check" in text or "part of the networks" in text

    def test_reads_what_the_suite_leaves(self, tmp_path: Path) -> None:
        path = stored(tmp_path / "zoo.json", timed_info("a", "explain", 1.02), memory_info("a", "forward memory", 4, 5))
        found = read_zoo(path)
        assert found.facts == FACTS
        timed, memory = found.rows
        assert (timed.ratio, timed.plain, timed.unit, timed.pairs) == (1.02, 50.0, "ms", 9)
        assert (memory.ratio, memory.q1, memory.q3, memory.plain * 2**20, memory.unit) == (1.25, 1.25, 1.25, 4, "MiB")

    @pytest.mark.parametrize("content", ["{", "[]", '{"benchmarks": []}', '{"benchmarks": [{"extra_info": {}}]}'])
    def test_other_files_are_refused(self, content: str, tmp_path: Path) -> None:
        path = tmp_path / "zoo.json"
        path.write_text(content)
        with pytest.raises(SpeedError, match=r"cannot read|holds no ratios of the zoo"):
            read_zoo(path)

    def test_a_file_without_rows_or_of_the_other_suite_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(SpeedError, match="holds no ratios"):
            read_zoo(stored(tmp_path / "zoo.json"))
        path = stored(tmp_path / "zoo.json", timed_info("a", "forward", 1.0))
        content = json.loads(path.read_text())
        del content["interp_bench"]["zoo"]
        path.write_text(json.dumps(content))
        with pytest.raises(SpeedError, match="holds no ratios"):
            read_zoo(path)

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(SpeedError, match="cannot read"):
            read_zoo(tmp_path / "none.json")


class TestFigure:
    ROWS = (
        row("a", "forward", 1.01),
        row("b", "forward", 1.2),
        row("b", "explain", 1.1),
        row("a", "forward memory", 1.0),
    )

    def test_networks_by_forward_ratio_and_what_was_asked(self) -> None:
        time, memory = zoo_figure(results(*self.ROWS)).axes
        assert [label.get_text() for label in time.get_yticklabels()] == ["a", "b"]
        drawn = [(line.get_marker(), np.asarray(line.get_xdata()).tolist()) for line in time.lines]
        assert ("o", [1.01, 1.2]) in drawn
        limits = {places[0] for marker, places in drawn if marker == "None"}
        assert limits == {1.0, 1.03, 1.05, 1.08}
        assert time.get_xlim()[1] > 1.2
        assert memory.get_title(loc="left") == "peak memory, float32"

    def test_same_figures_same_bytes(self) -> None:
        assert zoo_png(results(*self.ROWS)) == zoo_png(results(*self.ROWS))

    def test_without_forward_passes(self) -> None:
        assert zoo_png(results(row("a", "explain", 1.1), row("b", "explain", 1.0)))[:4] == b"\x89PNG"


class TestCommand:
    def test_quick_run_from_end_to_end(self, tmp_path: Path) -> None:
        import subprocess
        import sys

        words = ["-m", "benchmarks.speed", "--zoo", "--quick", "--output", str(tmp_path)]
        done = subprocess.run([sys.executable, *words], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        found = read_zoo(tmp_path / "zoo.json")
        assert [(r.net, r.kind) for r in found.rows] == [(net, kind) for net in QUICK_ZOO for kind in KINDS]
        assert all(r.ratio > 1 for r in found.rows if r.kind in MEMORY)
        assert all(r.image_size == 64 for r in found.rows)
        assert {path.name for path in tmp_path.iterdir()} == {"zoo.json", "zoo.csv", "zoo.md", "zoo.png"}

    def test_tables_from_an_earlier_run(self, tmp_path: Path) -> None:
        path = stored(tmp_path / "mine.json", timed_info("a", "forward", 1.02))
        assert command.main(["--zoo", "--json", str(path), "--output", str(tmp_path / "out")]) == 0
        assert (tmp_path / "out" / "zoo.md").read_text() == to_markdown(read_zoo(path))
        assert [path.name for path in command.write_zoo(read_zoo(path), tmp_path)] == ["zoo.csv", "zoo.md", "zoo.png"]

    def test_choices_are_handed_on(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        given: list[Any] = []

        def run(words: list[str]) -> int:
            given.extend(words)
            return int(pytest.ExitCode.TESTS_FAILED)

        monkeypatch.setattr(pytest, "main", run)
        assert command.main(["--zoo", "--nets", "dla34", "--variants", "bfloat16", "--output", str(tmp_path)]) == 2
        assert given[-3:] == ["--zoo", "--nets=dla34", "--variants=bfloat16"]

    @pytest.mark.parametrize("given", [["--nets", "resnet1"], ["--variants", "float23"]])
    def test_unknown_names_are_one_line(self, given: list[str], capsys: pytest.CaptureFixture[str]) -> None:
        assert command.main(["--zoo", *given]) == 2
        error = capsys.readouterr().err
        assert "did you mean" in error
        assert error.count("\n") == 1

    def test_choices_need_the_zoo(self, capsys: pytest.CaptureFixture[str]) -> None:
        assert command.main(["--nets", "resnet18"]) == 2
        assert "add --zoo" in capsys.readouterr().err
