from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks.store.locations import (
    Location,
    is_url,
    list_files,
    local_copy,
    open_location,
    rename,
    write_file,
    writing,
)
from interp_core.errors import StoreError


@pytest.fixture(params=["disk", "memory"])
def folder(request: pytest.FixtureRequest, tmp_path: Path) -> Location:
    return tmp_path if request.param == "disk" else open_location(f"memory://{tmp_path.name}")


def test_paths_are_paths_and_urls_are_not() -> None:
    assert open_location("results/mine") == Path("results/mine")
    assert isinstance(open_location(Path("results")), Path)
    assert str(open_location("memory://bucket/runs") / "mine") == "memory://bucket/runs/mine"
    assert is_url("s3://bucket")
    assert not is_url(Path("results"))


def test_what_is_written_can_be_fetched(folder: Location) -> None:
    path = folder / "deep" / "file.txt"
    write_file(path, "één\n")
    assert path.read_text(encoding="utf-8") == "één\n"
    with local_copy(path) as local:
        assert isinstance(local, Path)
        assert local.name == "file.txt"
        assert local.read_bytes() == "één\n".encode()


def test_nothing_appears_when_writing_fails(folder: Location) -> None:
    path = folder / "file.txt"
    write_file(path, "before")

    def half() -> None:
        with writing(path) as local:
            local.write_text("half")
            raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        half()
    assert path.read_text() == "before"
    assert [found.name for found in list_files(folder, "*.txt")] == ["file.txt"]


def test_files_are_renamed_and_listed_in_order(folder: Location) -> None:
    for name in ("b.txt", "a.txt", "c.csv"):
        write_file(folder / name, name)
    assert [path.name for path in list_files(folder, "*.txt")] == ["a.txt", "b.txt"]
    rename(folder / "a.txt", "d.txt")
    assert [path.name for path in list_files(folder, "*.txt")] == ["b.txt", "d.txt"]
    assert (folder / "d.txt").read_text() == "a.txt"


def test_unknown_protocols_are_told() -> None:
    with pytest.raises(StoreError, match="cannot use abacus://beads"):
        open_location("abacus://beads")
