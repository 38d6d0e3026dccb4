from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.store.atomic import atomic_file, write_atomically
from interp_core.errors import StoreError


def test_text_and_bytes_replace_what_was_there(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "deep" / "file.txt", "one é")
    assert path.read_text(encoding="utf-8") == "one é"
    assert write_atomically(path, b"two").read_bytes() == b"two"
    assert [item.name for item in path.parent.iterdir()] == ["file.txt"]


def test_a_failed_block_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    path = write_atomically(tmp_path / "file.txt", "old")
    with pytest.raises(ZeroDivisionError), atomic_file(path) as temporary:
        temporary.write_text(f"half of the new, {1 / 0}")
    assert path.read_text() == "old"
    assert [item.name for item in tmp_path.iterdir()] == ["file.txt"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(StoreError, match=r"cannot write .*file/inside"):
        write_atomically(tmp_path / "file" / "inside", "text")
    (tmp_path / "folder" / "full").mkdir(parents=True)
    with pytest.raises(StoreError, match=r"cannot write .*folder"):
        write_atomically(tmp_path / "folder", "text")


def test_readable_by_others(tmp_path: Path) -> None:
    assert write_atomically(tmp_path / "file", "x").stat().st_mode & 0o777 == 0o644
