from __future__ import annotations

from pathlib import Path

from benchmarks.run.failures import describe_failure, merge_equal_problems


def raised() -> Exception:
    try:
        raise ValueError("too\n  much")
    except ValueError as error:
        return error


def test_a_failure_says_where_what_and_how() -> None:
    entry = describe_failure("lap, random", raised(), "key")
    assert entry["where"] == "lap, random"
    assert entry["what"] == "ValueError: too much"
    assert entry["cell"] == "key"
    assert "in raised\n" in entry["traceback"]
    assert str(Path(__file__).parent) not in entry["traceback"]


def test_long_messages_are_cut_to_a_line() -> None:
    assert len(describe_failure("lap", ValueError("x" * 5000), "key")["what"]) == 300


def test_what_failed_alike_is_told_once_with_its_number() -> None:
    failures = [{"where": "a", "what": "x", "cell": str(i), "traceback": "t"} for i in range(3)]
    others = [{"where": "b", "what": "x", "cell": "9", "traceback": "t"}, {"where": "a", "what": "left out"}]
    found = merge_equal_problems([*failures, *others])
    assert [(entry["where"], entry.get("cell"), entry.get("cells")) for entry in found] == [
        ("a", "0", 3),
        ("b", "9", 1),
        ("a", None, None),
    ]
    assert "cells" not in failures[0]
