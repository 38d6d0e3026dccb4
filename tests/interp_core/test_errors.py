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


def test_text_of_files_cannot_steer_a_terminal() -> None:
    assert one_line(ValueError("a\x1b[31m\nb\u202e")) == "a?[31m b?"


def test_the_type_may_stand_in_front() -> None:
    assert one_line(ValueError("disk\nfull"), with_type=True) == "ValueError: disk full"
    assert one_line(ValueError(), with_type=True) == "ValueError"


def test_a_long_text_is_cut() -> None:
    assert one_line(ValueError("word " * 100), limit=20) == "word word word wo..."


def test_an_unknown_name_lists_close_names_or_the_first_ones() -> None:
    assert str(UnknownNameError("metric", "deleton", ["deletion"])) == (
        "unknown metric 'deleton': did you mean deletion?"
    )
    names = [f"name{i:02}" for i in range(30)]
    assert str(UnknownNameError("metric", "x", names)).endswith("name19, ... (30 in all)")
