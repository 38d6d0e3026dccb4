"""Progress of studies: all items come through, told on standard error."""

from __future__ import annotations

import pytest

from benchmarks.cli.logs import configure_logging
from benchmarks.studies.progress import track


def test_items_come_in_order_and_are_counted_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    configure_logging(quiet=False, verbose=False, log_file=None, terminal=False)
    assert list(track([3, 1, 2], "Training")) == [3, 1, 2]
    output = capsys.readouterr()
    assert output.out == ""
    lines = [line.split(" ", 1)[1].split(",")[0] for line in output.err.splitlines()]
    assert lines == ["Training: 3 steps", "Training: 1 of 3", "Training: 2 of 3", "Training: 3 of 3"]


def test_without_items_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([], "Training")) == []
    assert capsys.readouterr().err == ""
