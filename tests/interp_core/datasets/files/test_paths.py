"""Paths in tables, and files of a folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from interp_core.datasets.files.paths import find_file, resolve_beneath, walk_files


@pytest.mark.parametrize("name", ["", "/a.png", "../a.png", "a/../../b.png", "C:\\a.png", "\\\\host\\a.png", "a\0.png"])
def test_a_table_leads_nowhere_but_beneath_the_root(tmp_path: Path, name: str) -> None:
    assert resolve_beneath(tmp_path, name) is None
    assert find_file(tmp_path, name, (".",)) is None


def test_files_are_listed_in_order_without_hidden_ones(tmp_path: Path) -> None:
    for name in ("b/2.png", "b/1.PNG", "a.png", ".hidden.png", ".hidden/3.png", "c.txt"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.touch()
    found = [path.relative_to(tmp_path).as_posix() for path in walk_files(tmp_path, frozenset({".png"}))]
    assert found == ["a.png", "b/1.PNG", "b/2.png"]
