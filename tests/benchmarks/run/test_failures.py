from __future__ import annotations

from pathlib import Path

from benchmarks.run.failures import describe_failure, merge_equal_problems
from benchmarks.store.record import Problem


def raised() -> Exception:
    try:
        raise ValueError("too\n  much")
    except ValueError as error:
        return error


def test_a_failure_says_where_what_and_how() -> None:
    entry = describe_failure("lap, random", raised(), "key")
    assert entry.where == "lap, random"
    assert entry.what == "ValueError: too much"
    assert entry.cell == "key"
    assert "in raised\n" in (entry.traceback or "")
    assert str(Path(__file__).parent) not in (entry.traceback or "")


def test_long_messages_are_cut_to_a_line() -> None:
    assert len(describe_failure("lap", ValueError("x" * 5000), "key").what) == 300


def test_what_failed_alike_is_told_once_with_its_number() -> None:
    failures = [Problem(where="a", what="x", cell=str(i), traceback="t") for i in range(3)]
    others = [Problem(where="b", what="x", cell="9", traceback="t"), Problem(where="a", what="left out")]
    found = merge_equal_problems([*failures, *others])
    assert [(entry.where, entry.cell, entry.cells) for entry in found] == [
        ("a", "0", 3),
        ("b", "9", 1),
        ("a", None, 0),
    ]
    assert "cells" not in failures[0].to_dict()
    assert "cells" not in found[2].to_dict()
