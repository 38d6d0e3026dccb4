from __future__ import annotations

import csv
import io
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from benchmarks.config.load import load_config, preset_path
from benchmarks.speed import __main__ as command
from benchmarks.speed.networks import MEMORY_FORMATS, NETS, SHARPNESS, is_default_format, twins
from benchmarks.speed.pairs import Case, PairTimer, TimedWork, paired_ratios, quartiles, summarise
from benchmarks.speed.table import FIELDS, SpeedError, SpeedResults, read, to_csv, to_markdown, write
from interp_core.errors import StoreError
from interp_core.lap.blocks import GateBlock, HeadBlock

pytestmark = pytest.mark.slow

FACTS: dict[str, Any] = {
    "device": "cpu",
    "threads": 2,
    "platform": "Linux x86_64",
    "python": "3.12.0",
    "git": {"commit": "abc123", "dirty": True},
    "seed": 0,
    "versions": {"interp-bench": "0.1.0", "torch": "2.9.0"},
    "nets": {"small": "test_resnet, 10 classes, 64 px"},
    "quick": False,
    "date": "2026-01-02",
}


def case(**changes: Any) -> Case:
    fields: dict[str, Any] = {
        "net": "small",
        "image_size": 64,
        "images": 8,
        "memory_format": "channels_last",
        "what": "forward",
        "reference": "plain forward",
        "asked": 1.05,
        "pairs": 3,
    }
    return Case(**fields | changes)


LAP_ROW = summarise(case(), [1.0, 2.0, 4.0], [1.02, 2.08, 4.8])
MISSED = summarise(case(what="explain", asked=1.1), [0.01] * 3, [0.012] * 3)
FREE = summarise(case(memory_format="contiguous", asked=None), [1.0] * 3, [2.0] * 3)
DEAR = summarise(case(what="LIME", reference="LAP explain", asked=None, pairs=1), [0.02], [25.0])


def write_results(path: Path, rows: list[Any], **changes: Any) -> Path:
    """Write a file as pytest-benchmark does."""
    machine = {name: FACTS[name] for name in ("device", "threads", "platform", "python")}
    facts = {name: FACTS[name] for name in ("git", "seed", "versions", "nets", "quick")}
    content = {
        "machine_info": machine,
        "interp_bench": facts | changes,
        "datetime": "2026-01-02T03:04:05+00:00",
        "benchmarks": [{"name": "x", "extra_info": {**vars(row), "reference_data": [1.0]}} for row in rows],
    }
    path.write_text(json.dumps(content))
    return path


class TestRatios:
    def test_each_pair_gives_one_ratio(self) -> None:
        assert paired_ratios([1.0, 2.0, 4.0], [2.0, 2.0, 2.0]) == [2.0, 1.0, 0.5]

    @pytest.mark.parametrize(
        ("reference", "measured"), [([], []), ([1.0], [1.0, 2.0]), ([1.0, 0.0], [1.0, 1.0]), ([1.0, 2.0], [1.0])]
    )
    def test_what_is_no_pair_is_refused(self, reference: list[float], measured: list[float]) -> None:
        with pytest.raises(ValueError, match=r"positive|zip"):
            paired_ratios(reference, measured)

    def test_quartiles_are_numpys(self) -> None:
        values = np.random.default_rng(0).random(17).tolist()
        assert quartiles(values) == tuple(np.percentile(values, [25, 50, 75]))
        assert quartiles([3.0]) == (3.0, 3.0, 3.0)

    def test_load_that_slows_both_sides_of_a_pair_changes_nothing(self) -> None:
        load = np.random.default_rng(0).uniform(1, 10, 21)
        row = summarise(case(), (0.5 * load).tolist(), (0.6 * load).tolist())
        assert (row.q1, row.ratio, row.q3) == pytest.approx((1.2, 1.2, 1.2))

    def test_a_row_keeps_its_case(self) -> None:
        assert (LAP_ROW.net, LAP_ROW.what, LAP_ROW.asked, LAP_ROW.pairs) == ("small", "forward", 1.05, 3)
        assert (LAP_ROW.ratio, LAP_ROW.reference_seconds) == pytest.approx((1.04, 2.0))
        assert (LAP_ROW.q1, LAP_ROW.q3) == pytest.approx((1.03, 1.12))


class TestTimedWork:
    def test_times_only_its_work(self) -> None:
        ticks = iter([0.0, 3.0, 10.0, 14.0])
        order: list[str] = []
        reference = TimedWork(
            lambda: order.append("work"), prepare=lambda: order.append("prepare"), clock=lambda: next(ticks)
        )
        reference()
        reference()
        assert reference.seconds == [3.0, 4.0]
        assert order == ["prepare", "work"] * 2

    def test_takes_the_median_of_repeats(self) -> None:
        ticks = iter([0.0, 1.0, 0.0, 9.0, 0.0, 2.0])
        reference = TimedWork(lambda: None, repeats=3, clock=lambda: next(ticks))
        reference()
        assert reference.seconds == [2.0]


class FakeStats:
    def __init__(self, data: list[float]) -> None:
        self.stats = self
        self.data = data


class FakeBenchmark:
    """Stand-in for pytest-benchmark's fixture in which every round takes as many seconds as its number."""

    def __init__(self, disabled: bool = False) -> None:
        self.disabled, self.group = disabled, ""
        self.extra_info: dict[str, Any] = {}
        self.stats: FakeStats | None = None

    def pedantic(self, target: Any, setup: Any, rounds: int, warmup_rounds: int) -> None:
        for _ in range(1 if self.disabled else rounds + warmup_rounds):
            assert setup() is None
            target()
        if not self.disabled:
            self.stats = FakeStats([float(number) for number in range(1, rounds + 1)])


class TestPairTimer:
    def test_sides_take_turns_and_warm_up_is_dropped(self) -> None:
        order: list[str] = []
        benchmark = FakeBenchmark()
        compare = PairTimer(benchmark, "cpu", quick=False)
        compare(case(pairs=4), lambda: order.append("A"), lambda: order.append("B"), warm_up=2)
        assert order == ["A", "B"] * 6
        assert benchmark.group == "small, channels_last"
        seconds = benchmark.extra_info["reference_data"]
        assert len(seconds) == 4
        expected = np.median([number / second for number, second in zip(range(1, 5), seconds, strict=True)])
        assert benchmark.extra_info["ratio"] == pytest.approx(expected)
        assert set(FIELDS) < set(benchmark.extra_info)

    def test_quick_takes_few_pairs(self) -> None:
        benchmark = FakeBenchmark()
        PairTimer(benchmark, "cpu", quick=True)(case(pairs=25), lambda: None, lambda: None)
        assert benchmark.extra_info["pairs"] == 3

    def test_disabled_benchmarks_leave_nothing(self) -> None:
        benchmark = FakeBenchmark(disabled=True)
        PairTimer(benchmark, "cpu", quick=False)(case(), lambda: None, lambda: None)
        assert benchmark.extra_info == {}

    def test_waits_for_the_gpu(self, monkeypatch: pytest.MonkeyPatch) -> None:
        order: list[str] = []
        monkeypatch.setattr(torch.cuda, "synchronize", lambda device: order.append(f"wait {device}"))
        compare = PairTimer(FakeBenchmark(), "cuda:0", quick=False)
        compare(case(pairs=1), lambda: order.append("A"), lambda: order.append("B"), warm_up=0)
        assert order == ["A", "wait cuda:0", "B", "wait cuda:0"]


class TestNets:
    def test_default_net_is_the_presets(self) -> None:
        config = load_config(preset_path("digits"))
        net = NETS[-1]
        assert net.model in config.models
        assert net.model.lap
        assert config.dataset.model_dump()["image_size"] == net.image_size
        assert (net.classes, net.batch) == (10, 64)
        assert is_default_format("channels_last") == config.recipe.channels_last != is_default_format("contiguous")

    @pytest.mark.parametrize("memory_format", MEMORY_FORMATS)
    def test_twins_differ_in_lap_alone(self, memory_format: str) -> None:
        pair = twins(NETS[-1], memory_format, "cpu", images=2, size=32)
        plain = pair.plain.state_dict()
        assert all(torch.equal(value, plain[name]) for name, value in pair.lap.backbone.state_dict().items())
        assert not pair.plain.training
        assert not pair.lap.training
        blocks = [module for module in pair.lap.modules() if isinstance(module, GateBlock | HeadBlock)]
        assert [block.a.item() for block in blocks] == [SHARPNESS] * len(blocks)
        layout = MEMORY_FORMATS[memory_format]
        convolutions = [m for net in (pair.plain, pair.lap) for m in net.modules() if isinstance(m, nn.Conv2d)]
        assert pair.images.is_contiguous(memory_format=layout)
        assert all(module.weight.is_contiguous(memory_format=layout) for module in convolutions)

    def test_twins_are_fresh_and_the_same_each_time(self) -> None:
        first, second = (twins(NETS[-1], "contiguous", "cpu", images=2, size=32) for _ in range(2))
        assert torch.equal(first.images, second.images)
        with torch.no_grad():
            next(first.lap.parameters()).zero_()
        assert next(second.lap.parameters()).abs().sum() > 0
        assert next(first.plain.parameters()).abs().sum() > 0

    def test_small_images_for_a_quick_check_only(self) -> None:
        assert [net.size(quick=False) for net in NETS] == [net.image_size for net in NETS]
        assert max(net.size(quick=True) for net in NETS) == 64


class TestTable:
    def test_csv_reads_back(self) -> None:
        first, second = list(csv.DictReader(io.StringIO(to_csv([LAP_ROW, DEAR]))))
        assert tuple(first) == FIELDS
        assert (first["net"], float(first["ratio"]), float(first["asked"])) == ("small", 1.04, 1.05)
        assert (second["what"], float(second["ratio"]), second["asked"]) == ("LIME", 1250.0, "")

    def test_markdown_says_kept_missed_and_what_it_rests_on(self) -> None:
        text = to_markdown(SpeedResults((LAP_ROW, MISSED, FREE, DEAR), FACTS))
        lines = text.splitlines()
        assert "1.040 | 1.030 to 1.120 | <= 1.05, kept | 2000.0" in text
        assert "1.200 | 1.200 to 1.200 | <= 1.10, missed | 10.0" in text
        assert [line for line in lines if "contiguous" in line and "2.000 to 2.000 |  | 1000.0" in line]
        assert "| LIME | 1,250 |  | 20.0 | 1 |" in text
        assert "- commit: abc123, with changes" in lines
        assert "- command: `python -m benchmarks.speed`" in lines
        assert "torch 2.9.0" in text
        widths = {line.count("|") for line in lines if line.startswith("|")}
        assert widths == {11, 9}

    def test_a_quick_check_gives_no_verdict(self) -> None:
        text = to_markdown(SpeedResults((LAP_ROW,), FACTS | {"quick": True}))
        assert "not figures to quote" in text
        assert "`python -m benchmarks.speed --quick`" in text
        assert "kept" not in text
        assert "External explainers against" not in text

    def test_outside_a_checkout(self) -> None:
        assert "- commit: not a checkout" in to_markdown(SpeedResults((LAP_ROW,), FACTS | {"git": None}))

    def test_rows_come_network_by_network(self, tmp_path: Path) -> None:
        other = summarise(case(net="big"), [1.0] * 3, [1.0] * 3)
        results = read(write_results(tmp_path / "speed.json", [LAP_ROW, other, FREE, MISSED]))
        assert results.rows == (LAP_ROW, MISSED, FREE, other)
        assert results.facts == FACTS

    def test_writes_both_files(self, tmp_path: Path) -> None:
        paths = write(SpeedResults((LAP_ROW,), FACTS), tmp_path / "deep")
        assert [path.name for path in paths] == ["speed.csv", "speed.md"]
        assert paths[0].read_text() == to_csv([LAP_ROW])

    @pytest.mark.parametrize("content", ["{", '{"benchmarks": []}', '{"benchmarks": [{"extra_info": {}}]}', "[]"])
    def test_other_files_are_refused(self, content: str, tmp_path: Path) -> None:
        path = tmp_path / "speed.json"
        path.write_text(content)
        with pytest.raises(SpeedError, match=r"cannot read|holds no speed ratios"):
            read(path)

    def test_missing_file(self, tmp_path: Path) -> None:
        with pytest.raises(SpeedError, match="cannot read"):
            read(tmp_path / "none.json")


class TestCommand:
    def test_tables_from_an_earlier_run(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        path = write_results(tmp_path / "mine.json", [LAP_ROW, DEAR])
        assert command.main(["--json", str(path), "--output", str(tmp_path / "out")]) == 0
        assert (tmp_path / "out" / "speed.md").read_text() == to_markdown(read(path))
        assert "speed.csv" in capsys.readouterr().out

    def test_measures_where_told(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        asked: list[bool] = []

        def measure(path: Path, *, quick: bool, flags: Sequence[str]) -> None:
            asked.append(quick)
            write_results(path, [LAP_ROW], quick=quick)

        monkeypatch.setattr(command, "measure", measure)
        assert command.main(["--quick", "--output", str(tmp_path)]) == 0
        assert asked == [True]
        assert sorted(path.name for path in tmp_path.iterdir()) == ["speed.csv", "speed.json", "speed.md"]

    def test_errors_are_one_line(self, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
        assert command.main(["--json", str(tmp_path / "none.json")]) == 2
        assert capsys.readouterr().err.count("\n") == 1

    def test_says_what_is_missing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
    ) -> None:
        monkeypatch.setattr(command, "find_spec", lambda name: None)
        assert command.main(["--output", str(tmp_path)]) == 2
        assert "needs pytest-benchmark: pip install 'interp-bench[test]'" in capsys.readouterr().err

    def test_a_failed_suite_leaves_no_tables(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(pytest, "main", lambda arguments: pytest.ExitCode.TESTS_FAILED)
        assert command.main(["--output", str(tmp_path / "out")]) == 2
        assert list((tmp_path / "out").iterdir()) == []

    def test_a_folder_that_cannot_be_made(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(StoreError, match="cannot write to"):
            command.measure(tmp_path / "file" / "out" / "speed.json", quick=True)
