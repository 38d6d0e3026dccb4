"""Archives: what is in them, and what they must not do."""

from __future__ import annotations

import io
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from interp_core.datasets.files.archives import Limits, UnsafeArchive, unpack

Maker = Callable[[Path, dict[str, bytes]], Path]


def zipped(path: Path, content: dict[str, bytes]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data in content.items():
            archive.writestr(name, data)
    return path


def tarred(form: str) -> Maker:
    def make(path: Path, content: dict[str, bytes]) -> Path:
        with tarfile.open(path, f"w:{form}") as archive:
            for name, data in content.items():
                entry = tarfile.TarInfo(name)
                entry.size = len(data)
                archive.addfile(entry, io.BytesIO(data))
        return path

    return make


MAKERS = {"zip": zipped, "tar": tarred(""), "tar.gz": tarred("gz"), "tar.bz2": tarred("bz2"), "tar.xz": tarred("xz")}
each_form = pytest.mark.parametrize("make", MAKERS.values(), ids=MAKERS)


@each_form
def test_what_is_in_it_comes_out(make: Maker, tmp_path: Path) -> None:
    content = {"a/b/c.txt": b"words", "d.bin": bytes(range(256)) * 50, "e/empty": b""}
    written = unpack(make(tmp_path / "archive", content), tmp_path / "out")
    assert {path.relative_to(tmp_path / "out").as_posix(): path.read_bytes() for path in written} == content


@each_form
@pytest.mark.parametrize(
    "name", ["../out.txt", "/tmp/out.txt", "a/../../out.txt", "..\\out.txt", "C:\\out.txt", "a/.."]
)
def test_nothing_is_written_outside(make: Maker, tmp_path: Path, name: str) -> None:
    archive = make(tmp_path / "archive", {"first.txt": b"1", name: b"2"})
    with pytest.raises(UnsafeArchive, match="outside the folder"):
        unpack(archive, tmp_path / "in" / "out")
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file()) == ["archive"]


@pytest.mark.parametrize("kind", [tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE])
def test_links_and_devices_of_tar_are_refused(tmp_path: Path, kind: bytes) -> None:
    with tarfile.open(tmp_path / "a.tar", "w") as archive:
        entry = tarfile.TarInfo("link")
        entry.type, entry.linkname = kind, "/etc/hostname"
        archive.addfile(entry)
    with pytest.raises(UnsafeArchive, match="not a plain file"):
        unpack(tmp_path / "a.tar", tmp_path / "out")


def test_links_of_zip_are_refused(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        entry = zipfile.ZipInfo("link")
        entry.external_attr = 0o120777 << 16
        archive.writestr(entry, "/etc/hostname")
    with pytest.raises(UnsafeArchive, match="not a plain file"):
        unpack(tmp_path / "a.zip", tmp_path / "out")


def test_a_link_that_is_there_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "out" / "a").symlink_to(tmp_path / "elsewhere", target_is_directory=True)
    with pytest.raises(UnsafeArchive, match="outside the folder"):
        unpack(zipped(tmp_path / "a.zip", {"a/b.txt": b"1"}), tmp_path / "out")
    assert not list((tmp_path / "elsewhere").iterdir())


@pytest.mark.slow
@each_form
def test_bombs_are_refused_and_taken_away(make: Maker, tmp_path: Path) -> None:
    archive = make(tmp_path / "archive", {"small": b"1", "large": bytes(3_000_000)})
    with pytest.raises(UnsafeArchive, match="bomb"):
        unpack(archive, tmp_path / "out", Limits(most_bytes=2_000_000))
    with pytest.raises(UnsafeArchive, match="more than 1 files"):
        unpack(archive, tmp_path / "out", Limits(most_files=1))
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]


@pytest.mark.slow
def test_a_ratio_no_data_set_has_is_a_bomb(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "archive", {f"{i}": bytes(2**23) for i in range(12)})
    with pytest.raises(UnsafeArchive, match="bomb"):
        unpack(archive, tmp_path / "out")
    assert len(unpack(archive, tmp_path / "out", Limits(most_ratio=2000))) == 12


def test_files_that_are_there_are_not_written_over(tmp_path: Path) -> None:
    archive = zipped(tmp_path / "a.zip", {"a.txt": b"new", "b.txt": b"new"})
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "b.txt").write_bytes(b"old")
    with pytest.raises(UnsafeArchive, match="exists already"):
        unpack(archive, tmp_path / "out")
    assert [(p.name, p.read_bytes()) for p in (tmp_path / "out").iterdir()] == [("b.txt", b"old")]


@pytest.mark.parametrize("content", [b"", b"words", b"PK\x03\x04 and no more", b"\x1f\x8b\x08 and no more"])
def test_what_is_no_archive(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(UnsafeArchive):
        unpack(tmp_path / "a", tmp_path / "out")
    with pytest.raises(UnsafeArchive, match="cannot read"):
        unpack(tmp_path / "nowhere", tmp_path / "out")


@each_form
def test_truncated_archives(make: Maker, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    archive = make(tmp_path / "archive", {"a": rng.bytes(50_000), "b": rng.bytes(50_000)})
    archive.write_bytes(archive.read_bytes()[:70_000])
    with pytest.raises(UnsafeArchive):
        unpack(archive, tmp_path / "out")
    assert not [path for path in (tmp_path / "out").rglob("*") if path.is_file()]
