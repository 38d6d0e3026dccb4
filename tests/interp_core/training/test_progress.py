"""A long training says how far it is, in a terminal and in a log; a short one is silent in a log."""

from __future__ import annotations

import io

import pytest
from rich.console import Console
from rich.progress import Progress

from interp_core.training import Epoch, Lines
from interp_core.training import progress as module
from interp_core.training.progress import Auto


class Clock:
    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(module, "time", clock)
    return clock


def run(lines: Lines, clock: Clock, *, steps: int, seconds: float, estimate: float) -> None:
    lines.begin(steps, 0)
    lines.estimate(estimate)
    for step in range(1, steps + 1):
        clock.now += seconds
        lines.step(step)
    lines(Epoch(1, 2.5))


def test_a_log_gets_an_estimate_and_a_line_a_minute(clock: Clock) -> None:
    stream = io.StringIO()
    run(Lines(stream), clock, steps=100, seconds=10, estimate=1000)
    lines = stream.getvalue().splitlines()
    # 1,000 s are 16 whole minutes; before them the estimate, after them the epoch.
    assert len(lines) == 1 + 16 + 1
    assert "17 min" in lines[0]
    assert "step 6 of 100" in lines[1]
    assert "16 min left" in lines[1]
    assert "2.500" in lines[-1]


def test_a_short_training_leaves_a_log_alone(clock: Clock) -> None:
    stream = io.StringIO()
    run(Lines(stream), clock, steps=10, seconds=1, estimate=10)
    assert stream.getvalue() == ""


def test_time_left_after_an_interruption_counts_new_steps_only(clock: Clock) -> None:
    stream = io.StringIO()
    lines = Lines(stream)
    lines.begin(100, 90)
    clock.now += 120
    lines.step(92)
    assert "8 min left" in stream.getvalue()


def test_a_terminal_gets_a_bar_and_another_bar_is_not_disturbed() -> None:
    stream = io.StringIO()
    console = Console(file=stream, force_terminal=True, width=100)
    auto = Auto(console)
    auto.begin(4, 0)
    auto.estimate(600)
    auto.step(4)
    auto(Epoch(1, 1.0))
    auto.close()
    assert "10 min" in stream.getvalue()
    assert "4/4" in stream.getvalue()
    with Progress(console=console) as outer:
        outer.add_task("run", total=1)
        second = Auto(console)
        second.begin(2, 0)
        second.step(1)
        second(Epoch(1, 1.0))
        second.close()
