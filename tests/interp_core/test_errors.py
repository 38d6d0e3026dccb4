"""Error messages: one line, never empty, and close names for unknown ones."""

from __future__ import annotations

import pytest

from interp_core.errors import UnknownNameError, one_line


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (ValueError("disk full"), "disk full"),
        (ValueError("no internet\n  and no cache\n"), "no internet and no cache"),
        (ValueError(), "ValueError"),
        (KeyboardInterrupt("\n"), "KeyboardInterrupt"),
    ],
)
def test_one_line_is_one_line_and_never_empty(error: BaseException, line: str) -> None:
    assert one_line(error) == line


def test_a_long_text_is_cut() -> None:
    assert one_line(ValueError("word " * 100), limit=20) == "word word word wo..."


def test_an_unknown_name_lists_close_names_or_the_first_ones() -> None:
    assert str(UnknownNameError("metric", "deleton", ["deletion"])) == (
        "unknown metric 'deleton': did you mean deletion?"
    )
    names = [f"name{i:02}" for i in range(30)]
    assert str(UnknownNameError("metric", "x", names)).endswith("name19, ... (30 in all)")
