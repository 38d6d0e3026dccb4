"""Progress of studies: all items come through, on standard error."""

from __future__ import annotations

import pytest

from benchmarks.studies.progress import track


def test_items_come_in_order_and_the_bar_is_on_standard_error(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([3, 1, 2], "Training")) == [3, 1, 2]
    output = capsys.readouterr()
    assert output.out == ""
    assert "Training" in output.err
    assert "3/3" in output.err


def test_without_items_nothing_is_shown(capsys: pytest.CaptureFixture[str]) -> None:
    assert list(track([], "Training")) == []
    assert capsys.readouterr().err == ""
